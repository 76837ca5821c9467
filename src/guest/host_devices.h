// SPDX-License-Identifier: Apache-2.0
// USB, PCI and mediated devices of the host that a guest is to have: where they are, and whether
// they can be had.
#pragma once

#include <asio/awaitable.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "domain/domain.h"
#include "guest/facts.h"
#include "registrar/operation.h"

namespace tenure::guest {

inline constexpr char kVfioContainer[] = "/dev/vfio/vfio";
inline constexpr char kVfioDriver[] = "vfio-pci";

// Errors: NotFound; Invalid where vendor and product fit several; Busy where the device, or another
// one of its IOMMU group, is in use by a driver of the host.
Result<HostdevFacts> look_up_hostdev(const domain::Hostdev& hostdev, const domain::Domain& domain,
                                     const std::string& sysfs);

// The managed PCI devices that have another driver than vfio-pci get that one, each a claim of its
// own: only then their nodes are there to be looked up. Does nothing without such devices.
asio::awaitable<Result<>> bind_host_drivers(registrar::Operation& operation,
                                            const domain::Domain& devices,
                                            const HostOptions& options);

// Bytes that QEMU may lock: a device of the host reads and writes all of the guest's memory at any
// time (kernel: vfio_iommu_type1 accounts it). 0 without such a device.
uint64_t locked_bytes(const domain::Domain& domain);
// Raises what a running QEMU may lock to that.
Result<> raise_locked(pid_t pid, const domain::Domain& domain);

}  // namespace tenure::guest
