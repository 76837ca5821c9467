// SPDX-License-Identifier: Apache-2.0
// Drive addresses. A disk without one gets the one that its target's letter stands for, by the same
// arithmetic as libvirt's virDomainDiskDefAssignAddress, so that a guest sees its disks where it
// did.
#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <tuple>

#include "domain/complete.h"

namespace tenure::domain {
namespace {

struct DriveBus {
  std::string_view bus;
  std::string_view controller;  // type
  uint32_t per_controller;      // disks
  uint32_t max_bus, max_target, max_unit;
};
// Of scsi the widest; narrower adapters are checked by kAdapters. Unit 7 is the adapter itself, so
// 15 fit.
constexpr std::array<DriveBus, 4> kBuses = {{{"ide", "ide", 4, 1, 0, 1},
                                             {"sata", "sata", 6, 0, 0, 5},
                                             {"scsi", "scsi", 15, 0, 255, 16383},
                                             {"fdc", "fdc", 2, 0, 0, 1}}};

const DriveBus* drive_bus(std::string_view bus) {
  const auto found = std::ranges::find(kBuses, bus, &DriveBus::bus);
  return found == kBuses.end() ? nullptr : &*found;
}

Address drive_of_target(const Disk& disk, const DriveBus& bus) {
  const uint32_t index = target_index(disk.target);
  Address a{.kind = AddressKind::Drive, .controller = index / bus.per_controller};
  const uint32_t rest = index % bus.per_controller;
  a.unit = rest;
  if (disk.bus == "ide") {
    a.bus = rest / 2;
    a.unit = rest % 2;
  }
  if (disk.bus == "scsi" && rest >= 7)
    ++a.unit;
  return a;
}

// What QEMU's emulation of an adapter can address (SCSIBusInfo of hw/scsi/*.c).
struct Adapter {
  std::string_view model;
  uint32_t max_target, max_unit;
};
constexpr std::array<Adapter, 4> kAdapters = {
    {{"lsilogic", 0, 7}, {"lsisas1068", 7, 0}, {"lsisas1078", 127, 0}, {"vmpvscsi", 63, 0}}};

Result<> check_scsi(const Domain& d, const Disk& disk) {
  const Address& a = disk.info.address;
  const Controller* c = find_controller(d, "scsi", a.controller);
  if (c == nullptr)
    return {};
  const auto adapter = std::ranges::find(kAdapters, c->model, &Adapter::model);
  if (adapter == kAdapters.end())
    return {};
  if (a.target <= adapter->max_target && a.unit <= adapter->max_unit)
    return {};
  return fail(error_at(d, disk.info.place,
                       "<disk>: a " + c->model + " has no such target or unit; give an <address>"));
}

}  // namespace

uint32_t target_index(std::string_view target) {
  uint32_t index = 0;
  for (char c : target.substr(2)) index = index * 26 + static_cast<uint32_t>(c - 'a') + 1;
  return index - 1;
}

Result<> assign_drives(Domain& d) {
  // Grouped by bus in the order of first appearance, by target within: libvirt's
  // virDomainDiskInsert.
  std::map<std::string, size_t> rank;
  std::set<std::string> targets;
  for (const Disk& disk : d.disks) {
    rank.try_emplace(disk.bus, rank.size());
    if (!targets.insert(disk.target).second) {
      return fail(error_at(d, disk.info.place, "<disk>: target " + disk.target + " is taken"));
    }
  }
  std::ranges::sort(d.disks, {}, [&](const Disk& disk) {
    return std::pair(rank.at(disk.bus), target_index(disk.target));
  });
  for (Disk& disk : d.disks) {
    const DriveBus* bus = drive_bus(disk.bus);
    if (bus == nullptr || disk.info.address.kind != AddressKind::None)
      continue;
    disk.info.address = drive_of_target(disk, *bus);
  }
  return {};
}

Result<> check_drives(const Domain& d) {
  std::set<std::tuple<std::string, uint32_t, uint32_t, uint32_t, uint32_t>> taken;
  for (const Disk& disk : d.disks) {
    const DriveBus* bus = drive_bus(disk.bus);
    const Address& a = disk.info.address;
    const AddressKind wanted = bus != nullptr         ? AddressKind::Drive
                               : disk.bus == "virtio" ? AddressKind::Pci
                                                      : AddressKind::Usb;
    if (a.kind != wanted && a.kind != AddressKind::None) {
      return fail(
          error_at(d, disk.info.place, "<disk>: an address of another bus than " + disk.bus));
    }
    if (bus == nullptr)
      continue;
    if (a.bus > bus->max_bus || a.target > bus->max_target || a.unit > bus->max_unit) {
      return fail(error_at(d, disk.info.place, "<disk>: bus " + disk.bus + " has no such address"));
    }
    if (!taken.emplace(disk.bus, a.controller, a.bus, a.target, a.unit).second) {
      return fail(error_at(d, disk.info.place, "<disk>: its address is taken"));
    }
    if (disk.bus == "scsi")
      TRY_OK(check_scsi(d, disk));
  }
  return {};
}

}  // namespace tenure::domain
