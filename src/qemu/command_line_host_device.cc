// SPDX-License-Identifier: Apache-2.0
// Devices of the host (USB by its node, PCI and mdev by vfio), shared memory, and file systems that
// others serve.
#include "qemu/command_line_parts.h"

namespace tenure::qemu {
namespace {

using domain::Hostdev;
using domain::HostdevKind;
using domain::Shmem;
using domain::ShmemKind;

Result<std::string> usb_node(const Builder& b, const Hostdev& dev) {
  const auto node = b.wiring().usb_nodes.find(dev.info.alias);
  if (node != b.wiring().usb_nodes.end())
    return node->second;
  if (b.wiring().preview)
    return "?";
  return fail(b.invalid(dev.info.place, "<hostdev>: no device node for it"));
}

Result<> add_hostdev(Builder& b, const Hostdev& dev) {
  Json json("driver", dev.kind == HostdevKind::Usb ? "usb-host" : "vfio-pci");
  if (dev.kind == HostdevKind::Usb) {
    TRY(const std::string node, usb_node(b, dev));
    json.text("hostdevice", node);
  }
  if (dev.kind == HostdevKind::Pci)
    json.text("host", dev.host);
  if (dev.kind == HostdevKind::Mdev)
    json.text("sysfsdev", "/sys/bus/mdev/devices/" + dev.host).text("display", "off");
  json.maybe("bootindex", dev.info.boot_order);
  if (dev.rom_bar)
    json.number("rombar", *dev.rom_bar ? 1 : 0);
  b.place(json, dev.info);
  b.device(json);
  return {};
}

void add_plain(Builder& b, const Shmem& shmem) {
  const std::string id = "shmmem-" + shmem.info.alias;
  const auto file = b.wiring().shared_files.find(shmem.info.alias);
  const bool given = file != b.wiring().shared_files.end();
  Json object("qom-type", "memory-backend-file");
  object.text("id", id).text("mem-path", given ? file->second : "/dev/shm/" + shmem.name);
  b.object(object.number("size", shmem.size_kib * 1024).flag("share", true));
  Json json("driver", "ivshmem-plain");
  json.text("memdev", id);
  b.place(json, shmem.info);
  b.device(json);
}

void add_doorbell(Builder& b, const Shmem& shmem) {
  const std::string id = "char" + shmem.info.alias;
  b.add("-chardev", "socket,id=" + id + ",path=" + doubled_commas(shmem.server));
  Json json("driver", "ivshmem-doorbell");
  json.text("chardev", id).maybe("vectors", shmem.vectors).maybe("ioeventfd", shmem.ioeventfd);
  b.place(json, shmem.info);
  b.device(json);
}

// Of the server's socket, or of the connection to our own.
Result<std::string> server_of(const Builder& b, const domain::Filesystem& fs) {
  if (fs.dir.empty())
    return ",path=" + doubled_commas(fs.socket);
  const auto& fds = b.wiring().socket_fds;
  if (auto fd = fds.find(fs.info.alias); fd != fds.end())
    return ",fd=" + fd->second;
  if (!b.wiring().preview)
    return fail(b.invalid(fs.info.place, "<filesystem>: nobody serves its folder"));
  return ",fd=?";
}

Result<> add_filesystem(Builder& b, const domain::Filesystem& fs) {
  const std::string id = "char" + fs.info.alias;
  TRY(const std::string server, server_of(b, fs));
  b.add("-chardev", "socket,id=" + id + server);
  Json json("driver", "vhost-user-fs-pci");
  json.text("chardev", id).maybe("queue-size", fs.queue).text("tag", fs.tag);
  json.maybe("bootindex", fs.info.boot_order);
  Builder::virtio(json, fs.info.virtio);
  b.place(json, fs.info);
  b.device(json);
  return {};
}

}  // namespace

Result<> add_filesystems(Builder& b) {
  for (const domain::Filesystem& fs : b.domain().filesystems) TRY_OK(add_filesystem(b, fs));
  return {};
}

Result<> add_hostdevs(Builder& b) {
  for (const Hostdev& dev : b.domain().hostdevs) TRY_OK(add_hostdev(b, dev));
  return {};
}

Result<> add_shmems(Builder& b) {
  for (const Shmem& shmem : b.domain().shmems)
    (shmem.kind == ShmemKind::Plain ? add_plain : add_doorbell)(b, shmem);
  return {};
}

}  // namespace tenure::qemu
