// SPDX-License-Identifier: Apache-2.0
// Aliases: the names by which QEMU, the trail and people call a device. libvirt's scheme, so that
// records of both can be compared.
#include <array>
#include <set>

#include "domain/complete.h"

namespace tenure::domain {
namespace {

std::string numbered(std::string_view prefix, size_t number) {
  return std::string(prefix) + std::to_string(number);
}

std::string disk_alias(const Domain& d, const Disk& disk) {
  const Address& a = disk.info.address;
  if (disk.bus == "virtio")
    return numbered("virtio-disk", target_index(disk.target));
  if (disk.bus == "usb")
    return numbered("usb-disk", target_index(disk.target));
  const Controller* c = find_controller(d, disk.bus, a.controller);
  std::string alias = disk.bus + std::to_string(a.controller) + "-" + std::to_string(a.bus);
  if (disk.bus == "scsi" && c != nullptr && c->model != "lsilogic") {
    alias += "-" + std::to_string(a.target);
  }
  return alias + "-" + std::to_string(a.unit);
}

std::string controller_alias(const Domain& d, const Controller& c) {
  if (c.type == "pci")
    return c.model == "pcie-root" ? "pcie.0" : numbered("pci.", c.index);
  if (c.type == "usb" && c.index == 0)
    return "usb";
  if (c.index == 0 && (c.type == "ide" || (c.type == "sata" && is_q35(d))))
    return "ide";
  return numbered(c.type, c.index);
}

std::string_view role_prefix(ChardevRole role) {
  switch (role) {
    case ChardevRole::Serial:
      return "serial";
    case ChardevRole::Parallel:
      return "parallel";
    case ChardevRole::Console:
      return "console";
    case ChardevRole::Channel:
      return "channel";
    case ChardevRole::Redir:
      return "redir";
  }
  return "";
}

// By its slot, which QEMU calls it by as well.
void name_modules(Domain& d) {
  for (MemoryDevice& memory : d.memories)
    if (!memory.info.alias.starts_with("ua-"))
      memory.info.alias = numbered("dimm", memory.info.address.slot);
}

// QEMU's ids are one name space; a second use would be refused by QEMU, only less clearly.
class Names {
 public:
  explicit Names(const Domain& d) : domain_(d) {}
  Result<> give(DeviceInfo& info, std::string_view made_up) {
    if (info.alias.empty()) {
      info.alias = made_up;
    } else if (!info.alias.starts_with("ua-") && info.alias != made_up) {
      info.alias = made_up;  // of a running guest's dump: libvirt makes them anew, too
    }
    if (taken_.insert(info.alias).second)
      return {};
    return fail(error_at(domain_, info.place, "alias " + info.alias + " is taken"));
  }

 private:
  const Domain& domain_;
  std::set<std::string> taken_;
};

Result<> name_chardevs(Domain& d, Names& names) {
  std::array<size_t, 5> count{};
  // A console's number counts the serial console that is not listed.
  for (Chardev& c : d.chardevs) {
    size_t& n = count.at(static_cast<size_t>(c.role));
    TRY_OK(names.give(c.info, numbered(role_prefix(c.role), n++)));
  }
  return {};
}

template <class Devices>
Result<> name_all(Devices& devices, std::string_view prefix, Names& names) {
  size_t n = 0;
  for (auto& device : devices) TRY_OK(names.give(device.info, numbered(prefix, n++)));
  return {};
}

// QEMU's ids are one name space.
Result<> check_unique(const Domain& d) {
  std::set<std::string> taken;
  const auto check = [&](const auto& list) -> Result<> {
    for (const auto& x : list)
      if (!taken.insert(x.info.alias).second)
        return fail(error_at(d, x.info.place, "alias " + x.info.alias + " is taken"));
    return {};
  };
  TRY_OK(check(d.disks));
  TRY_OK(check(d.interfaces));
  TRY_OK(check(d.chardevs));
  TRY_OK(check(d.inputs));
  TRY_OK(check(d.sounds));
  TRY_OK(check(d.rngs));
  TRY_OK(check(d.memories));
  TRY_OK(check(d.shmems));
  TRY_OK(check(d.hostdevs));
  TRY_OK(check(d.filesystems));
  return check(d.watchdogs);
}

}  // namespace

Result<> assign_aliases(Domain& d) {
  Names names(d);
  for (Controller& c : d.controllers) {
    // The companions of an ehci are one controller with it.
    if (c.type == "usb" && (c.model.starts_with("ich9-uhci") || c.model == "none")) {
      c.info.alias = controller_alias(d, c);
      continue;
    }
    TRY_OK(names.give(c.info, controller_alias(d, c)));
  }
  for (Disk& disk : d.disks) TRY_OK(names.give(disk.info, disk_alias(d, disk)));
  TRY_OK(name_all(d.interfaces, "net", names));
  TRY_OK(name_chardevs(d, names));
  TRY_OK(name_all(d.inputs, "input", names));
  TRY_OK(name_all(d.sounds, "sound", names));
  TRY_OK(name_all(d.videos, "video", names));
  TRY_OK(name_all(d.rngs, "rng", names));
  TRY_OK(name_all(d.watchdogs, "watchdog", names));
  TRY_OK(name_all(d.panics, "panic", names));
  TRY_OK(name_all(d.shmems, "shmem", names));
  TRY_OK(name_all(d.hostdevs, "hostdev", names));
  TRY_OK(name_all(d.filesystems, "fs", names));
  name_modules(d);
  for (MemoryDevice& memory : d.memories) TRY_OK(names.give(memory.info, memory.info.alias));
  if (d.iommu)
    TRY_OK(names.give(d.iommu->info, "iommu0"));
  if (d.memballoon)
    TRY_OK(names.give(d.memballoon->info, "balloon0"));
  return {};
}

Result<> assign_new_aliases(Domain& d) {
  std::set<std::string> taken;
  // The first free number: gaps are left by devices that went.
  const auto number = [&](auto& list, std::string_view prefix) {
    for (auto& x : list) taken.insert(x.info.alias);
    for (auto& x : list) {
      for (size_t n = 0; x.info.alias.empty(); ++n)
        if (taken.insert(numbered(prefix, n)).second)
          x.info.alias = numbered(prefix, n);
    }
  };
  for (Controller& c : d.controllers)
    if (c.info.alias.empty())
      c.info.alias = controller_alias(d, c);
  for (Disk& disk : d.disks)
    if (disk.info.alias.empty())
      disk.info.alias = disk_alias(d, disk);
  number(d.interfaces, "net");
  number(d.inputs, "input");
  number(d.sounds, "sound");
  number(d.rngs, "rng");
  number(d.watchdogs, "watchdog");
  number(d.shmems, "shmem");
  number(d.hostdevs, "hostdev");
  number(d.filesystems, "fs");
  name_modules(d);
  for (Chardev& c : d.chardevs) taken.insert(c.info.alias);
  for (Chardev& c : d.chardevs)
    for (size_t n = 0; c.info.alias.empty(); ++n)
      if (taken.insert(numbered(role_prefix(c.role), n)).second)
        c.info.alias = numbered(role_prefix(c.role), n);
  return check_unique(d);
}

}  // namespace tenure::domain
