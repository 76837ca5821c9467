// SPDX-License-Identifier: Apache-2.0
// <disk>. A format is what the definition says; an image whose format is not stated is raw and is
// never probed, because a guest can write any header into a raw image.
#include <algorithm>
#include <cctype>

#include "base/text.h"
#include "domain/parse.h"

namespace tenure::domain {
namespace {

constexpr size_t kMaxBacking = 200;  // members of a chain, as qemu::kMaxChainDepth

SourceKind parse_source_kind(const Element& e) {
  const std::string type = e.choice("type", {"file", "block"});
  if (!e.find("type"))
    e.invalid("attribute 'type' is missing");
  return type == "block" ? SourceKind::Block : SourceKind::File;
}

std::string parse_source(const Element& source, SourceKind kind) {
  source.number<uint32_t>("index");  // of a dump of a running guest: names the node of then
  return source.path(kind == SourceKind::Block ? "dev" : "file");
}

std::string parse_format(const Element& e, const char* attribute) {
  return e.choice(attribute, {"raw", "qcow2", "qcow", "qed", "vdi", "vmdk", "vpc", "vhdx"});
}

std::optional<uint64_t> parse_metadata_cache(const Element& e) {
  auto cache = e.child("metadata_cache");
  if (!cache)
    return std::nullopt;
  auto size = cache->child("max_size");
  if (!size) {
    cache->invalid("<max_size> is missing");
    return std::nullopt;
  }
  const std::string unit = size->string("unit");
  if (unit.empty() || unit == "bytes" || unit == "b")
    return size->text_number<uint64_t>(1, 1ULL << 40U);
  return size->text_kib() * 1024;
}

// <backingStore> nests, outermost first; an empty one says that the chain ends here.
std::vector<BackingStore> parse_backing(Element e) {
  std::vector<BackingStore> chain;
  while (!e.child_names().empty()) {
    BackingStore member{.place = e.place()};
    member.kind = parse_source_kind(e);
    e.number<uint32_t>("index");
    if (auto format = e.child("format")) {
      member.format = parse_format(*format, "type");
      member.metadata_cache_bytes = parse_metadata_cache(*format);
      if (member.metadata_cache_bytes && member.format != "qcow2") {
        format->invalid("only qcow2 has a metadata cache");
      }
    } else {
      e.invalid("<format> is missing: a format is never guessed");
    }
    if (auto source = e.child("source"))
      member.path = parse_source(*source, member.kind);
    if (member.path.empty())
      e.invalid("<source> is missing");
    chain.push_back(std::move(member));
    auto next = e.child("backingStore");
    if (!next || chain.size() > kMaxBacking)
      break;
    e = *next;
  }
  return chain;
}

void parse_driver(const Element& e, Disk& disk) {
  e.choice("name", {"qemu"});
  const std::string format = parse_format(e, "type");
  if (!format.empty())
    disk.format = format;
  disk.cache =
      e.choice("cache", {"default", "none", "writeback", "writethrough", "directsync", "unsafe"});
  if (disk.cache == "default")
    disk.cache.clear();
  disk.io = e.choice("io", {"threads", "native", "io_uring"});
  disk.discard = e.choice("discard", {"unmap", "ignore"});
  disk.detect_zeroes = e.choice("detect_zeroes", {"off", "on", "unmap"});
  disk.error_policy = e.choice("error_policy", {"stop", "report", "ignore", "enospace"});
  disk.rerror_policy = e.choice("rerror_policy", {"stop", "report", "ignore"});
  disk.copy_on_read = e.flag("copy_on_read");
  disk.ioeventfd = e.flag("ioeventfd");
  disk.event_idx = e.flag("event_idx");
  disk.queues = e.number<uint32_t>("queues", 1, 1024);
  disk.queue_size = e.number<uint32_t>("queue_size", 2, 1024);
  disk.iothread = e.number<uint32_t>("iothread", 1, 1024);
  disk.info.virtio = parse_virtio(e);
  disk.metadata_cache_bytes = parse_metadata_cache(e);
  if (disk.metadata_cache_bytes && disk.format != "qcow2")
    e.invalid("only qcow2 has a metadata cache");
}

// vda, sdaa, hdc, fdb: what addresses and aliases are made from.
void parse_target(const Element& e, Disk& disk) {
  disk.target = e.required("dev");
  disk.bus = e.choice("bus", {"virtio", "scsi", "sata", "ide", "usb", "fdc"});
  const auto letter = [](char c) { return c >= 'a' && c <= 'z'; };
  const bool known = disk.target.size() > 2 && disk.target.size() < 6 &&
                     (disk.target.starts_with("vd") || disk.target.starts_with("sd") ||
                      disk.target.starts_with("hd") || disk.target.starts_with("fd")) &&
                     std::ranges::all_of(disk.target, letter);
  if (!known)
    e.unsupported("'" + printable(disk.target.substr(0, 16)) + "' is not vda, sdb, hdc, fda …");
  if (disk.bus.empty() && known) {
    const char first = disk.target.front();
    disk.bus = first == 'v' ? "virtio" : first == 's' ? "scsi" : first == 'h' ? "ide" : "fdc";
  }
  disk.tray_open = e.choice("tray", {"open", "closed"}) == "open";
  disk.removable = e.flag("removable");
  if (disk.removable && disk.bus != "usb")
    e.invalid("'removable' is for usb disks");
  disk.rotation_rate = e.number<uint32_t>("rotation_rate", 1, 0xFFFE);
  if (disk.rotation_rate && (disk.bus == "virtio" || disk.bus == "usb" || disk.bus == "fdc")) {
    e.invalid("'rotation_rate' is for ide, sata and scsi disks");
  }
}

std::string printable_text(const Element& e, size_t limit) {
  std::string text = e.exact_text(limit);
  const auto plain = [](char c) { return c >= 0x20 && c < 0x7F; };
  if (!std::ranges::all_of(text, plain))
    e.invalid("only printable ASCII characters");
  return text;
}

void parse_identity(const Element& e, Disk& disk) {
  if (auto serial = e.child("serial"))
    disk.serial = printable_text(*serial, 247);
  if (auto vendor = e.child("vendor"))
    disk.vendor = printable_text(*vendor, 8);
  if (auto product = e.child("product"))
    disk.product = printable_text(*product, 16);
  if (auto wwn = e.child("wwn")) {
    disk.wwn = wwn->text();
    if (disk.wwn.starts_with("0x"))
      disk.wwn.erase(0, 2);
    if (disk.wwn.size() != 16 || !parse_int<uint64_t>(disk.wwn, 16))
      wwn->invalid("16 hex digits");
  }
  const bool scsi = disk.bus == "scsi";
  if (!scsi && (!disk.vendor.empty() || !disk.product.empty())) {
    e.invalid("vendor and product are for scsi disks");
  }
  if (!scsi && disk.bus != "ide" && disk.bus != "sata" && !disk.wwn.empty()) {
    e.invalid("a wwn is for ide, sata and scsi disks");
  }
}

void parse_layout(const Element& e, Disk& disk) {
  if (auto block = e.child("blockio")) {
    disk.logical_block_bytes = block->number<uint32_t>("logical_block_size", 512, 1U << 20U);
    disk.physical_block_bytes = block->number<uint32_t>("physical_block_size", 512, 1U << 20U);
  }
  if (auto geometry = e.child("geometry")) {
    disk.geometry = DiskGeometry{
        .cylinders = geometry->number<uint32_t>("cyls", 1, 65535).value_or(0),
        .heads = geometry->number<uint32_t>("heads", 1, 255).value_or(0),
        .sectors = geometry->number<uint32_t>("secs", 1, 255).value_or(0),
        .translation = geometry->choice("trans", {"auto", "none", "lba"}),
    };
    if (disk.bus != "ide" && disk.bus != "virtio" && disk.bus != "scsi") {
      geometry->unsupported("not implemented for this bus");
    }
  }
}

void check_disk(const Element& e, const Disk& disk) {
  const bool virtio = disk.bus == "virtio";
  const VirtioOptions& v = disk.info.virtio;
  const bool any_virtio = v.iommu || v.ats || v.packed || v.page_per_vq || disk.ioeventfd ||
                          disk.event_idx || disk.queues || disk.queue_size || disk.iothread ||
                          !disk.model.empty();
  if (any_virtio && !virtio)
    e.invalid("options of virtio on bus '" + disk.bus + "'");
  const bool floppy = disk.device == "floppy";
  if (floppy != (disk.bus == "fdc"))
    e.invalid("a floppy is on bus fdc, and nothing else is");
  if (virtio && disk.device == "cdrom")
    e.invalid("a cdrom is on ide, sata, scsi or usb");
  if (disk.path.empty() && disk.device == "disk")
    e.invalid("<source> is missing");
  if (disk.tray_open && disk.device == "disk")
    e.invalid("a disk has no tray");
  if (disk.readonly && disk.device == "disk" && (disk.bus == "ide" || disk.bus == "sata")) {
    e.invalid("ide and sata disks cannot be readonly");
  }
  if (disk.io == "native" && disk.cache != "none" && disk.cache != "directsync") {
    e.invalid("io 'native' needs cache none or directsync");
  }
  if (disk.shareable && disk.format != "raw")
    e.invalid("a shareable disk must be raw");
  if (disk.path.empty() && disk.backing && !disk.backing->empty()) {
    e.invalid("a chain without a source");
  }
}

}  // namespace

Disk parse_disk(const Element& e) {
  Disk disk{.info = parse_info(e)};
  disk.kind = parse_source_kind(e);
  const std::string device = e.choice("device", {"disk", "cdrom", "floppy"});
  if (!device.empty())
    disk.device = device;
  disk.model = e.choice("model", {"virtio", "virtio-transitional", "virtio-non-transitional"});
  if (auto target = e.child("target")) {
    parse_target(*target, disk);
  } else {
    e.invalid("<target> is missing");
  }
  if (auto driver = e.child("driver"))
    parse_driver(*driver, disk);
  if (auto source = e.child("source")) {
    disk.path = parse_source(*source, disk.kind);
    // A start that cannot have the medium is refused, which is what "mandatory" asks for.
    source->choice("startupPolicy", {"mandatory"});
  }
  if (auto backing = e.child("backingStore"))
    disk.backing = parse_backing(*backing);
  disk.readonly = e.has("readonly") || disk.device == "cdrom";
  disk.shareable = e.has("shareable");
  parse_identity(e, disk);
  parse_layout(e, disk);
  check_disk(e, disk);
  return disk;
}

}  // namespace tenure::domain
