// SPDX-License-Identifier: Apache-2.0
// Devices that bring something of the host into the guest beside disks and networks: memory that is
// plugged. Plain values, as in device.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "domain/device.h"

namespace tenure::domain {

// <maxMemory slots=>: how far memory can grow by devices, and how many there can be.
struct MaxMemory {
  Place place;
  uint64_t kib = 0;
  uint32_t slots = 0;
};

// <memory model='dimm'>: a module of memory, from the start or plugged while the guest runs.
struct MemoryDevice {
  DeviceInfo info;                   // its address is AddressKind::Dimm
  uint64_t size_kib = 0;             // whole MiB after complete()
  std::optional<uint32_t> node;      // of the guest; complete() takes 0
  std::string access;                // shared, private; "" as memoryBacking says
  std::optional<uint64_t> page_kib;  // pages of the host; nullopt: as memoryBacking says
  std::string nodeset;               // nodes of the host: "0,2-3"; "" for any
};

}  // namespace tenure::domain
