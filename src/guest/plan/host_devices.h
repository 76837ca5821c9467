// SPDX-License-Identifier: Apache-2.0
// USB, PCI and mediated devices of the host that a guest is to have: where they are, and whether
// they can be had.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "domain/domain.h"
#include "guest/plan/facts.h"
#include "kernel/host_bus.h"

namespace tenure::guest {

inline constexpr char kVfioContainer[] = "/dev/vfio/vfio";
using kernel::kVfioDriver;

// Errors: NotFound; Invalid where vendor and product fit several; Busy where the device, or another
// one of its IOMMU group, is in use by a driver of the host.
Result<HostdevFacts> look_up_hostdev(const domain::Hostdev& hostdev, const domain::Domain& domain,
                                     const std::string& sysfs);

// Whether a guest could have the PCI device at all; looked at before a driver of the host loses it.
// `devices` has all that go with it. Errors: Unsupported without an IOMMU; Busy where another one
// of its group is in use by a driver of the host.
Result<> check_group(const kernel::PciDevice& device, const domain::Domain& devices,
                     const std::string& sysfs);

// Bytes that QEMU may lock: a device of the host reads and writes all of the guest's memory at any
// time (kernel: vfio_iommu_type1 accounts it). 0 without such a device.
uint64_t locked_bytes(const domain::Domain& domain);

}  // namespace tenure::guest
