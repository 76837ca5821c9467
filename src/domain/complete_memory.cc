// SPDX-License-Identifier: Apache-2.0
// Memory that can be plugged: slots of the modules, and the one cell that QEMU wants for it.
#include <algorithm>
#include <set>

#include "domain/complete.h"

namespace tenure::domain {
namespace {

constexpr uint64_t kMib = 1024;  // KiB

Result<> check_sizes(const Domain& d) {
  if (d.max_memory && d.max_memory->kib <= d.memory_kib) {
    return fail(
        error_at(d, d.max_memory->place, "<maxMemory>: not more than the guest has at its boot"));
  }
  const auto acpi = std::ranges::find(d.features, "acpi", &Feature::name);
  for (const MemoryDevice& memory : d.memories) {
    const Place place = memory.info.place;
    if (!d.max_memory)
      return fail(error_at(d, place, "<memory>: the guest has no <maxMemory slots=> for it"));
    if (acpi == d.features.end() || acpi->state == "off")
      return fail(error_at(d, place, "<memory>: it is plugged by ACPI: <features><acpi/>"));
    if (total_memory_kib(d) > d.max_memory->kib)
      return fail(error_at(d, place, "<memory>: more than <maxMemory>"));
    if (memory.node.value_or(0) >= d.cpu->cells.size())
      return fail(error_at(d, place, "<memory>: no cell of <numa> has this <node>"));
    const AddressKind kind = memory.info.address.kind;
    if (kind != AddressKind::None && kind != AddressKind::Dimm)
      return fail(error_at(d, place, "<memory>: an address of the wrong type"));
  }
  return {};
}

Result<> assign_slots(Domain& d) {
  std::set<uint32_t> taken;
  for (const MemoryDevice& memory : d.memories) {
    const Address& a = memory.info.address;
    if (a.kind != AddressKind::Dimm)
      continue;
    if (a.slot >= d.max_memory->slots)
      return fail(error_at(d, memory.info.place, "<memory>: <maxMemory> has no such slot"));
    if (!taken.insert(a.slot).second)
      return fail(error_at(d, memory.info.place, "<memory>: this slot is taken"));
  }
  for (MemoryDevice& memory : d.memories) {
    Address& a = memory.info.address;
    if (a.kind == AddressKind::Dimm)
      continue;
    uint32_t slot = 0;
    while (taken.contains(slot)) ++slot;
    if (slot >= d.max_memory->slots) {
      return fail(error_at(d, memory.info.place,
                           "<memory>: all " + std::to_string(d.max_memory->slots) +
                               " slots of <maxMemory> are taken",
                           Errc::Busy));
    }
    taken.insert(slot);
    a = {.kind = AddressKind::Dimm, .slot = slot};
  }
  return {};
}

}  // namespace

Result<> complete_memory(Domain& d) {
  // QEMU plugs memory only into a NUMA machine; libvirt makes the same one cell.
  if (d.max_memory && (!d.cpu || d.cpu->cells.empty())) {
    if (!d.cpu)
      d.cpu = Cpu{.place = d.max_memory->place};
    NumaCell cell{.place = d.max_memory->place, .memory_kib = d.memory_kib};
    cell.cpus = d.vcpus > 1 ? "0-" + std::to_string(d.vcpus - 1) : "0";
    d.cpu->cells.push_back(std::move(cell));
  }
  for (MemoryDevice& memory : d.memories) {
    memory.size_kib = (memory.size_kib + kMib - 1) / kMib * kMib;
    if (!memory.node)
      memory.node = 0;
  }
  TRY_OK(check_sizes(d));
  return assign_slots(d);
}

}  // namespace tenure::domain
