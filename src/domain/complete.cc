// SPDX-License-Identifier: Apache-2.0
// The order in which a definition is completed, and the small defaults. The order matters:
// controllers must be known before addresses, addresses before aliases.
#include "domain/complete.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <set>

namespace tenure::domain {
namespace {

// The first serial console is the first serial port, seen from the guest's side. libvirt lists it
// twice.
Result<> merge_console(Domain& d) {
  const auto is_console = [](const Chardev& c) { return c.role == ChardevRole::Console; };
  const auto is_serial = [](const Chardev& c) { return c.role == ChardevRole::Serial; };
  const auto first = std::ranges::find_if(d.chardevs, is_console);
  if (first == d.chardevs.end() || first->target_type == "virtio")
    return {};
  const auto port = std::ranges::find_if(d.chardevs, is_serial);
  if (port == d.chardevs.end()) {
    first->role = ChardevRole::Serial;
    first->target_type.clear();
    return {};
  }
  const bool same =
      first->kind == port->kind && first->path == port->path && first->listen == port->listen;
  if (!same) {
    return fail(error_at(d, first->info.place,
                         "<console>: the first one is the first <serial>, but they differ"));
  }
  d.chardevs.erase(first);
  return {};
}

Result<> check_consoles(Domain& d) {
  uint32_t serial = 0;
  for (Chardev& c : d.chardevs) {
    if (c.role == ChardevRole::Console && c.target_type != "virtio") {
      return fail(error_at(d, c.info.place, "<console>: only the first one can be a serial port"));
    }
    if (c.role != ChardevRole::Serial)
      continue;
    if (c.target_type.empty())
      c.target_type = c.target_model == "isa-debugcon" ? "isa-debug"
                      : c.target_model.empty()         ? "isa-serial"
                                                       : c.target_model;
    const std::string model = c.target_type == "isa-debug" ? "isa-debugcon" : c.target_type;
    if (!c.target_model.empty() && c.target_model != model) {
      return fail(error_at(d, c.info.place, "<serial>: the target's type and model do not fit"));
    }
    c.target_model = model;
    if (!c.port)
      c.port = serial;
    ++serial;
  }
  return {};
}

// FNV-1a: only so that a guest keeps its address from run to run; nothing secret.
uint64_t mix(uint64_t hash, uint64_t byte) {
  return (hash ^ byte) * 0x100000001B3ULL;
}

// In 52:54:00, which QEMU and libvirt use for guests.
std::string make_mac(const Domain& d, uint32_t salt) {
  uint64_t hash = 0xCBF29CE484222325ULL;
  for (uint8_t byte : d.uuid.bytes) hash = mix(hash, byte);
  for (char c : d.name) hash = mix(hash, static_cast<unsigned char>(c));
  for (unsigned shift = 0; shift < 32; shift += 8) hash = mix(hash, (salt >> shift) & 0xFFU);
  std::array<char, 18> text{};
  static_cast<void>(std::snprintf(text.data(), text.size(), "52:54:00:%02x:%02x:%02x",
                                  static_cast<unsigned>((hash >> 40U) & 0xFFU),
                                  static_cast<unsigned>((hash >> 24U) & 0xFFU),
                                  static_cast<unsigned>((hash >> 8U) & 0xFFU)));
  return text.data();
}

Result<> fill_interfaces(Domain& d) {
  std::set<std::string> macs, targets;
  for (Interface& nic : d.interfaces) {
    if (nic.model.empty())
      nic.model = "rtl8139";  // what libvirt takes on x86
    if (!nic.mac.empty() && !macs.insert(nic.mac).second) {
      return fail(error_at(d, nic.info.place, "<interface>: a second one with MAC " + nic.mac));
    }
    if (!nic.target.empty() && !targets.insert(nic.target).second) {
      return fail(error_at(d, nic.info.place, "<interface>: a second one called " + nic.target));
    }
  }
  uint32_t salt = 0;
  for (Interface& nic : d.interfaces) {
    while (nic.mac.empty()) {
      const std::string mac = make_mac(d, salt++);
      if (macs.insert(mac).second)
        nic.mac = mac;
    }
  }
  return {};
}

Result<> fill_videos(Domain& d) {
  const auto none = [](const Video& v) { return v.model == "none"; };
  if (std::ranges::any_of(d.videos, none) && d.videos.size() > 1) {
    return fail(error_at(d, d.videos.front().info.place, "<video>: 'none' beside another one"));
  }
  // A screen needs something to show; libvirt takes cirrus on x86.
  if (d.videos.empty() && !d.graphics.empty())
    d.videos.push_back(Video{.model = "cirrus"});
  const auto primary = [](const Video& v) { return v.primary; };
  if (std::ranges::count_if(d.videos, primary) > 1) {
    return fail(error_at(d, d.videos.front().info.place, "<video>: more than one is primary"));
  }
  const auto first = std::ranges::find_if(d.videos, primary);
  if (first != d.videos.end())
    std::rotate(d.videos.begin(), first, first + 1);
  if (!d.videos.empty())
    d.videos.front().primary = d.videos.front().model != "none";
  for (size_t i = 1; i < d.videos.size(); ++i) {
    const std::string& model = d.videos[i].model;
    if (model != "qxl" && model != "virtio" && model != "bochs") {
      return fail(error_at(d, d.videos[i].info.place,
                           "<video>: model " + model + " can only be the primary one"));
    }
  }
  return {};
}

Result<> check_audio(const Domain& d) {
  std::set<uint32_t> ids;
  for (const Audio& a : d.audios) {
    if (!ids.insert(a.id).second)
      return fail(error_at(d, a.place, "<audio>: this id is taken"));
  }
  for (const Sound& s : d.sounds) {
    if (s.audio && !ids.contains(*s.audio)) {
      return fail(error_at(d, s.info.place, "<sound>: no <audio> has this id"));
    }
  }
  for (const Graphics& g : d.graphics) {
    if (g.audio && !ids.contains(*g.audio)) {
      return fail(error_at(d, g.place, "<graphics>: no <audio> has this id"));
    }
  }
  return {};
}

// The server of a file system reads and writes the guest's memory.
bool is_memory_shared(const Domain& d) {
  const bool all = d.memory_backing.access == "shared";
  if (!d.cpu || d.cpu->cells.empty())
    return all;
  return std::ranges::all_of(d.cpu->cells, [&](const NumaCell& cell) {
    return cell.access == "shared" || (cell.access.empty() && all);
  });
}

Result<> check_filesystems(const Domain& d) {
  std::set<std::string> tags;
  for (const Filesystem& fs : d.filesystems) {
    if (!tags.insert(fs.tag).second)
      return fail(error_at(d, fs.info.place, "<filesystem>: a second one of tag " + fs.tag));
    if (!is_memory_shared(d)) {
      return fail(error_at(d, fs.info.place,
                           "<filesystem>: virtiofs needs <memoryBacking><source type='memfd'/>"
                           "<access mode='shared'/></memoryBacking>"));
    }
  }
  return {};
}

// One thing of the host under two names would be two holders of what only one can use.
Result<> check_host_devices(const Domain& d) {
  std::set<std::string> hostdevs, shmems;
  for (const Hostdev& x : d.hostdevs)
    if (!hostdevs.insert(host_address(x)).second)
      return fail(error_at(d, x.info.place, "<hostdev>: a second one of " + host_address(x)));
  for (const Shmem& x : d.shmems)
    if (!shmems.insert(x.name).second)
      return fail(error_at(d, x.info.place, "<shmem>: a second one of this name"));
  return {};
}

Result<> check_iothreads(const Domain& d) {
  const auto missing = [&](std::optional<uint32_t> id) { return id && *id > d.iothreads; };
  for (const Disk& disk : d.disks) {
    if (missing(disk.iothread)) {
      return fail(error_at(d, disk.info.place, "<disk>: no such iothread"));
    }
  }
  for (const Controller& c : d.controllers) {
    if (missing(c.iothread)) {
      return fail(error_at(d, c.info.place, "<controller>: no such iothread"));
    }
  }
  return {};
}

Result<> check_single(const Domain& d) {
  const size_t cells = d.cpu ? d.cpu->cells.size() : 0;
  for (const auto& [cell, policy] : d.numatune.value_or(Numatune{}).cells) {
    if (cell >= cells)
      return fail(error_at(d, d.numatune->place, "<memnode>: no such cell"));
  }
  if (d.graphics.size() > 1) {
    return fail(error_at(d, d.graphics[1].place, "<graphics>: only one", Errc::Unsupported));
  }
  if (d.watchdogs.size() > 1) {
    return fail(error_at(d, d.watchdogs[1].info.place, "<watchdog>: only one", Errc::Unsupported));
  }
  if (d.panics.size() > 1) {
    return fail(error_at(d, d.panics[1].info.place, "<panic>: only one", Errc::Unsupported));
  }
  // Without a panic device no guest can say that it crashed, and on_crash decides nothing.
  if (d.events.on_crash == "restart" && !d.panics.empty()) {
    return fail(error_at(d, d.panics.front().info.place,
                         "<panic>: beside <on_crash>restart</on_crash>", Errc::Unsupported));
  }
  if (d.iommu && !is_q35(d)) {
    return fail(error_at(d, d.iommu->info.place, "<iommu>: intel needs machine q35"));
  }
  for (const Watchdog& w : d.watchdogs) {
    if (w.model == "itco" && !is_q35(d)) {
      return fail(error_at(d, w.info.place, "<watchdog>: itco needs machine q35"));
    }
  }
  return {};
}

// Boot orders are per device or per kind of device, never both (QEMU could not honour both).
Result<> check_boot(const Domain& d) {
  std::set<uint32_t> orders;
  const auto check = [&](const DeviceInfo& info) -> Result<> {
    if (!info.boot_order)
      return {};
    if (!d.os.boot_devices.empty()) {
      return fail(error_at(d, info.place, "<boot order=>: beside <os><boot dev=>"));
    }
    if (!orders.insert(*info.boot_order).second) {
      return fail(error_at(d, info.place, "<boot order=>: this number is taken"));
    }
    return {};
  };
  for (const Disk& disk : d.disks) TRY_OK(check(disk.info));
  for (const Interface& nic : d.interfaces) TRY_OK(check(nic.info));
  for (const Hostdev& hostdev : d.hostdevs) TRY_OK(check(hostdev.info));
  for (const Filesystem& fs : d.filesystems) TRY_OK(check(fs.info));
  const auto refuse = [&](const DeviceInfo& info) -> Result<> {
    if (!info.boot_order)
      return {};
    return fail(error_at(d, info.place, "<boot>: not implemented here", Errc::Unsupported));
  };
  for (const auto& x : d.controllers) TRY_OK(refuse(x.info));
  for (const auto& x : d.chardevs) TRY_OK(refuse(x.info));
  for (const auto& x : d.inputs) TRY_OK(refuse(x.info));
  for (const auto& x : d.sounds) TRY_OK(refuse(x.info));
  for (const auto& x : d.videos) TRY_OK(refuse(x.info));
  for (const auto& x : d.rngs) TRY_OK(refuse(x.info));
  for (const auto& x : d.watchdogs) TRY_OK(refuse(x.info));
  for (const auto& x : d.panics) TRY_OK(refuse(x.info));
  for (const auto& x : d.memories) TRY_OK(refuse(x.info));
  for (const auto& x : d.shmems) TRY_OK(refuse(x.info));
  if (d.memballoon)
    TRY_OK(refuse(d.memballoon->info));
  if (d.iommu)
    TRY_OK(refuse(d.iommu->info));
  return {};
}

// An address that nothing would use must not be dropped. PCI, USB, drive and virtio-serial devices
// are checked where these addresses are handed out.
Result<> check_unused_addresses(const Domain& d) {
  const auto only = [&](const DeviceInfo& info, AddressKind kind) -> Result<> {
    if (info.address.kind == AddressKind::None || info.address.kind == kind)
      return {};
    return fail(error_at(d, info.place, "<address>: this device has none of this type"));
  };
  for (const Controller& c : d.controllers) {
    if (c.type == "fdc" || c.model == "none")
      TRY_OK(only(c.info, AddressKind::None));
    if (c.model.ends_with("-root") && c.type == "pci")
      TRY_OK(only(c.info, AddressKind::None));
  }
  for (const Chardev& c : d.chardevs) {
    const bool isa = c.role == ChardevRole::Parallel || c.target_model.starts_with("isa");
    if (isa)
      TRY_OK(only(c.info, AddressKind::Isa));
  }
  for (const Input& x : d.inputs) {
    if (x.bus == "ps2" || x.bus.empty())
      TRY_OK(only(x.info, AddressKind::None));
  }
  for (const Sound& x : d.sounds) {
    if (x.model == "sb16")
      TRY_OK(only(x.info, AddressKind::None));
  }
  for (const Video& x : d.videos) {
    if (x.model == "ramfb" || x.model == "none")
      TRY_OK(only(x.info, AddressKind::None));
  }
  for (const Watchdog& x : d.watchdogs) {
    if (x.model != "i6300esb")
      TRY_OK(only(x.info, AddressKind::None));
  }
  for (const Panic& x : d.panics) {
    const AddressKind kind = x.model == "isa" ? AddressKind::Isa : AddressKind::None;
    if (x.model != "pvpanic")
      TRY_OK(only(x.info, kind));
  }
  if (d.memballoon && d.memballoon->model == "none") {
    TRY_OK(only(d.memballoon->info, AddressKind::None));
  }
  return d.iommu ? only(d.iommu->info, AddressKind::None) : Result<>{};
}

Result<> check(const Domain& domain) {
  TRY_OK(check_single(domain));
  TRY_OK(check_audio(domain));
  TRY_OK(check_iothreads(domain));
  TRY_OK(check_host_devices(domain));
  TRY_OK(check_filesystems(domain));
  TRY_OK(check_boot(domain));
  return check_unused_addresses(domain);
}

Result<> assign_places(Domain& domain) {
  TRY_OK(assign_drives(domain));
  TRY_OK(add_controllers(domain));
  TRY_OK(check_drives(domain));
  TRY_OK(assign_ports(domain));
  return assign_pci(domain);
}

}  // namespace

Error error_at(const Domain& domain, Place place, std::string_view message, Errc code) {
  const Place at = place.line == 0 ? domain.place : place;
  return Error(code, domain.source_name + ":" + std::to_string(at.line) + ":" +
                         std::to_string(at.column) + ": " + std::string(message));
}

Result<> complete(Domain& domain) {
  if (domain.emulator.empty())
    domain.emulator = "/usr/bin/qemu-system-x86_64";
  TRY_OK(merge_console(domain));
  TRY_OK(check_consoles(domain));
  if (!domain.memballoon)
    domain.memballoon = Memballoon{.model = "virtio"};
  for (Panic& panic : domain.panics) {
    if (panic.model.empty())
      panic.model = "isa";
  }
  TRY_OK(fill_interfaces(domain));
  TRY_OK(fill_videos(domain));
  TRY_OK(complete_memory(domain));
  TRY_OK(check(domain));
  TRY_OK(assign_places(domain));
  return assign_aliases(domain);
}

Result<> complete_addition(Domain& domain) {
  TRY_OK(check_consoles(domain));
  TRY_OK(fill_interfaces(domain));
  TRY_OK(complete_memory(domain));
  TRY_OK(check(domain));
  TRY_OK(assign_places(domain));
  return assign_new_aliases(domain);
}

}  // namespace tenure::domain
