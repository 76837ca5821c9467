// SPDX-License-Identifier: Apache-2.0
// <hostdev>, <shmem> and <filesystem>. What of them is not implemented (SCSI and vHBA hostdevs,
// SPICE) is refused by name.
#include <array>
#include <charconv>

#include "base/unix_socket.h"
#include "base/uuid.h"
#include "domain/parse.h"

namespace tenure::domain {
namespace {

constexpr uint64_t kMaxShmemKib = 1ULL << 40U;  // 1 PiB

// `width` digits at least, in base 10 or 16.
std::string digits(uint32_t value, int base, size_t width) {
  std::array<char, 16> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value, base).ptr;
  std::string number(text.data(), end);
  return number.size() < width ? std::string(width - number.size(), '0') + number : number;
}

std::optional<uint32_t> id_of(const Element& source, const char* name) {
  auto child = source.child(name);
  if (!child)
    return std::nullopt;
  auto id = child->number<uint32_t>("id", 0, 0xFFFF);
  if (!id)
    child->invalid("attribute 'id' is missing");
  return id;
}

void parse_usb_source(const Element& source, Hostdev& dev) {
  source.choice("startupPolicy", {"mandatory"});
  dev.vendor = id_of(source, "vendor");
  dev.product = id_of(source, "product");
  if (auto address = source.child("address")) {
    address->choice("type", {"usb"});
    dev.usb_bus = address->number<uint32_t>("bus", 1, 999);
    dev.usb_device = address->number<uint32_t>("device", 1, 999);
    if (!dev.usb_bus || !dev.usb_device)
      address->invalid("bus and device must be given");
  }
  if (dev.vendor.has_value() != dev.product.has_value())
    source.invalid("vendor and product must be given both");
  if (!dev.vendor && !dev.usb_bus)
    source.invalid("<vendor> and <product>, or <address> must be given");
}

void parse_pci_source(const Element& source, Hostdev& dev) {
  auto address = source.child("address");
  if (!address)
    return source.invalid("<address> is missing");
  address->choice("type", {"pci"});
  const auto domain = address->number<uint32_t>("domain", 0, 0xFFFF).value_or(0);
  const auto bus = address->number<uint32_t>("bus", 0, 0xFF);
  const auto slot = address->number<uint32_t>("slot", 0, 0x1F);
  const auto function = address->number<uint32_t>("function", 0, 7).value_or(0);
  if (!bus || !slot)
    address->invalid("bus and slot must be given");
  dev.host = digits(domain, 16, 4) + ":" + digits(bus.value_or(0), 16, 2) + ":" +
             digits(slot.value_or(0), 16, 2) + "." + digits(function, 16, 1);
}

void parse_mdev_source(const Element& source, Hostdev& dev) {
  auto address = source.child("address");
  auto uuid = parse_uuid(address ? address->required("uuid") : "");
  if (!uuid)
    source.invalid("<address uuid=> is missing, or no uuid");
  else
    dev.host = to_string(*uuid);
}

void parse_source(const Element& e, Hostdev& dev) {
  auto source = e.child("source");
  if (!source)
    return e.invalid("<source> is missing");
  if (dev.kind == HostdevKind::Usb)
    return parse_usb_source(*source, dev);
  if (dev.kind == HostdevKind::Pci)
    return parse_pci_source(*source, dev);
  parse_mdev_source(*source, dev);
}

void parse_server(const Element& server, Shmem& shmem) {
  shmem.server = server.path("path");
  if (shmem.server.empty())
    shmem.server = "/var/lib/libvirt/shmem-" + shmem.name + "-sock";
  if (shmem.server.size() > kMaxSocketPath)
    server.invalid("a socket's path has 107 bytes at most");
}

}  // namespace

std::string host_address(const Hostdev& dev) {
  if (dev.kind != HostdevKind::Usb)
    return dev.host;
  if (dev.usb_bus)
    return digits(*dev.usb_bus, 10, 3) + "." + digits(dev.usb_device.value_or(0), 10, 3);
  return digits(dev.vendor.value_or(0), 16, 4) + ":" + digits(dev.product.value_or(0), 16, 4);
}

Hostdev parse_hostdev(const Element& e) {
  Hostdev dev{.info = parse_info(e)};
  if (e.choice("mode", {"subsystem"}).empty())
    e.invalid("attribute 'mode' is missing");
  const std::string type = e.choice("type", {"usb", "pci", "mdev"});
  if (type.empty())
    e.invalid("attribute 'type' is missing");
  dev.kind = type == "pci"    ? HostdevKind::Pci
             : type == "mdev" ? HostdevKind::Mdev
                              : HostdevKind::Usb;
  dev.managed = e.flag("managed").value_or(false);
  if (dev.kind == HostdevKind::Mdev) {
    if (e.choice("model", {"vfio-pci"}).empty())
      e.invalid("attribute 'model' is missing");
    e.choice("display", {"off"});
    e.choice("ramfb", {"off"});
    if (dev.managed)
      e.invalid("an mdev is not managed");
  }
  if (dev.kind == HostdevKind::Pci) {
    if (auto driver = e.child("driver"))
      driver->choice("name", {"vfio"});
  }
  if (dev.kind != HostdevKind::Usb) {
    if (auto rom = e.child("rom"))
      dev.rom_bar = rom->flag("bar");
  }
  parse_source(e, dev);
  return dev;
}

namespace {

// How its virtiofsd is run.
void parse_binary(const Element& binary, Filesystem& fs) {
  constexpr uint32_t kMaxThreads = 1024, kMaxFiles = 1U << 20U;
  fs.binary = binary.path("path");
  fs.xattr = binary.flag("xattr");
  if (auto cache = binary.child("cache"))
    fs.cache = cache->choice("mode", {"none", "always"});
  if (auto sandbox = binary.child("sandbox"))
    fs.sandbox = sandbox->choice("mode", {"namespace", "chroot"});
  if (auto lock = binary.child("lock")) {
    fs.posix_lock = lock->flag("posix");
    fs.flock = lock->flag("flock");
  }
  if (auto pool = binary.child("thread_pool"))
    fs.threads = pool->number<uint32_t>("size", 0, kMaxThreads);
  if (auto files = binary.child("openfiles"))
    fs.open_files = files->number<uint32_t>("max", 64, kMaxFiles);
}

void parse_folder(const Element& e, Filesystem& fs) {
  fs.readonly = e.has("readonly");
  auto binary = e.child("binary");
  if (binary)
    parse_binary(*binary, fs);
  if (fs.dir.empty() && binary)
    binary->invalid("the server behind <source socket=> is run by somebody else");
  if (fs.dir.empty() && fs.readonly)
    e.invalid("<readonly/>: who runs the server behind <source socket=> decides that");
}

}  // namespace

Filesystem parse_filesystem(const Element& e) {
  constexpr size_t kMaxTag = 36;  // virtio_fs_config.tag, linux/virtio_fs.h
  Filesystem fs{.info = parse_info(e)};
  if (e.choice("type", {"mount"}).empty())
    e.invalid("attribute 'type' is missing");
  e.choice("accessmode", {"passthrough"});
  auto driver = e.child("driver");
  if (!driver || driver->choice("type", {"virtiofs"}).empty())
    e.unsupported("<driver type=> other than 'virtiofs' is not implemented");
  if (driver) {
    fs.queue = driver->number<uint32_t>("queue", 1, 1024);
    fs.info.virtio = parse_virtio(*driver);
  }
  if (auto source = e.child("source")) {
    fs.dir = source->path("dir");
    fs.socket = source->path("socket");
  }
  if (fs.dir.empty() == fs.socket.empty())
    e.invalid("<source> has either dir= or socket=");
  if (fs.socket.size() > kMaxSocketPath)
    e.invalid("a socket's path has 107 bytes at most");
  parse_folder(e, fs);
  if (auto target = e.child("target"))
    fs.tag = target->string("dir");
  if (fs.tag.empty() || fs.tag.size() > kMaxTag)
    e.invalid("<target dir=> is missing, or longer than 36 bytes");
  return fs;
}

Shmem parse_shmem(const Element& e) {
  Shmem shmem{.info = parse_info(e)};
  shmem.name = e.required("name");
  // A file name, in /dev/shm.
  if (shmem.name.empty() || shmem.name.size() > 200 || shmem.name == "." || shmem.name == ".." ||
      shmem.name.find('/') != std::string::npos)
    e.invalid("a name is a file name of 200 bytes at most");
  e.choice("role", {"peer"});  // what ivshmem-plain does without migration
  std::string model = "ivshmem-plain";
  if (auto given = e.child("model"))
    model = given->choice("type", {"ivshmem-plain", "ivshmem-doorbell"});
  shmem.kind = model == "ivshmem-doorbell" ? ShmemKind::Doorbell : ShmemKind::Plain;
  if (auto size = e.child("size"))
    shmem.size_kib = size->text_kib();
  if (auto server = e.child("server")) {
    parse_server(*server, shmem);
    if (shmem.kind == ShmemKind::Plain)
      server->invalid("only ivshmem-doorbell has a server");
  } else if (shmem.kind == ShmemKind::Doorbell) {
    e.invalid("ivshmem-doorbell needs a <server>");
  }
  if (auto msi = e.child("msi")) {
    if (shmem.kind == ShmemKind::Plain)
      msi->invalid("only ivshmem-doorbell has interrupts");
    msi->flag("enabled");
    shmem.vectors = msi->number<uint32_t>("vectors", 1, 2048);
    shmem.ioeventfd = msi->flag("ioeventfd");
  }
  if (shmem.kind == ShmemKind::Doorbell && shmem.size_kib != 0)
    e.invalid("the server of ivshmem-doorbell decides the size");
  const bool power_of_two = (shmem.size_kib & (shmem.size_kib - 1)) == 0;
  if (shmem.kind == ShmemKind::Plain && shmem.size_kib == 0)
    shmem.size_kib = 4096;  // libvirt's default
  if (!power_of_two || shmem.size_kib > kMaxShmemKib ||
      (shmem.kind == ShmemKind::Plain && shmem.size_kib < 1024))
    e.invalid("a size is a power of two, 1 MiB at least");
  return shmem;
}

}  // namespace tenure::domain
