// SPDX-License-Identifier: Apache-2.0
#include "guest/plan/plan_records.h"

namespace tenure::guest {

using trail::Kind;
using trail::Record;

std::string_view device_letter(DeviceType type) {
  return type == DeviceType::Block ? "b" : "c";
}

void set_device(Record& record, const Facts& facts, const std::string& path) {
  const kernel::NodeFacts* node = facts.node(path);
  if (node != nullptr && node->rdev)
    record.set("devtype", device_letter(node->rdev->type)).set("rdev", rdev_hex(*node->rdev));
}

Record net_record(const domain::Interface& nic, std::string_view reason) {
  static constexpr std::string_view kTypes[] = {"user", "bridge", "ethernet", "direct"};
  Record record(Kind::Net);
  record.set("reason", reason).set("old-net", "?").set("new-net", nic.mac);
  record.set("type", kTypes[static_cast<size_t>(nic.kind)]).set("device", nic.info.alias);
  if (!nic.bridge.empty())
    record.set("bridge", nic.bridge);
  if (!nic.lower.empty())
    record.set("lower", nic.lower);
  return record;
}

Record rng_record(const domain::Rng& rng, const Facts& facts, std::string_view reason) {
  Record record(Kind::Rng);
  record.set("reason", reason)
      .set("old-rng", "?")
      .set("new-rng", rng.path)
      .set("device", rng.info.alias);
  set_device(record, facts, rng.path);
  return record;
}

Record evdev_record(const domain::Input& input, const Facts& facts, std::string_view reason) {
  Record record(Kind::Evdev);
  record.set("reason", reason).set("path", input.evdev).set("device", input.info.alias);
  set_device(record, facts, input.evdev);
  return record;
}

Record hostdev_record(const domain::Hostdev& hostdev, const Facts& facts, std::string_view reason) {
  static constexpr std::string_view kBuses[] = {"usb", "pci", "mdev"};
  HostdevFacts known;
  known.address = domain::host_address(hostdev);
  if (auto found = facts.hostdevs.find(hostdev.info.alias); found != facts.hostdevs.end())
    known = found->second;
  Record record(Kind::Hostdev);
  record.set("reason", reason)
      .set("bus", kBuses[static_cast<size_t>(hostdev.kind)])
      .set("device", known.address)
      .set("access", "rw")
      .set("alias", hostdev.info.alias);
  set_device(record, facts, known.node);
  if (!known.product.empty())
    record.set("product", known.product);
  if (known.group)
    record.set("group", uint64_t{*known.group});
  return record;
}

Record shmem_record(const domain::Shmem& shmem, std::string_view reason) {
  const bool plain = shmem.kind == domain::ShmemKind::Plain;
  Record record(plain ? Kind::Shmem : Kind::IvshmemSocket);
  record.set("reason", reason);
  if (plain)
    record.set("size", shmem.size_kib * 1024).set("access", "rw");
  return record.set("path", shared_path(shmem)).set("device", shmem.info.alias);
}

Record fs_record(const domain::Filesystem& fs, std::string_view reason) {
  return Record(Kind::Fs)
      .set("reason", reason)
      .set("old-fs", "?")
      .set("new-fs", fs.dir.empty() ? fs.socket : fs.dir)
      .set("access", fs.readonly ? "r" : "rw")
      .set("driver", "virtiofs")
      .set("tag", fs.tag)
      .set("device", fs.info.alias);
}

// Which device comes is not known to anybody here; libvirt's words for it.
Record redirdev_record(const domain::Chardev& redirdev, const std::string& stream,
                       std::string_view reason) {
  return Record(Kind::Hostdev)
      .set("reason", reason)
      .set("bus", "usb")
      .set("device", "USB redirdev")
      .set("alias", redirdev.info.alias)
      .set("source", stream);
}

std::string shared_path(const domain::Shmem& shmem) {
  return shmem.kind == domain::ShmemKind::Doorbell ? shmem.server : "/dev/shm/" + shmem.name;
}

}  // namespace tenure::guest
