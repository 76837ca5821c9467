// SPDX-License-Identifier: Apache-2.0
// What must be so before QEMU can have a device of the host: its driver, and memory that may be
// locked.
#pragma once

#include <sys/types.h>

#include <asio/awaitable.hpp>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "domain/domain.h"
#include "guest/plan/facts.h"
#include "registrar/operation.h"

namespace tenure::guest {

// The managed PCI devices that have another driver than vfio-pci get that one, each a claim of its
// own: only then their nodes are there to be looked up. Does nothing without such devices.
asio::awaitable<Result<>> bind_host_drivers(registrar::Operation& operation,
                                            const domain::Domain& devices,
                                            const HostOptions& options);

// A device of the host that the guest holds already, asked for in other words: Invalid, with the
// alias that it has.
Result<> check_not_held(const Facts& facts, const std::vector<registrar::Hold>& holds);

// What QEMU may lock with these devices, in bytes.
uint64_t lock_limit(const domain::Domain& domain);

// Raises what a running QEMU may lock to lock_limit(), before a device comes; does nothing without
// devices that need it.
Result<> raise_locked(pid_t pid, const domain::Domain& domain);

// Lowers it to lock_limit() again, after one has gone.
Result<> lower_locked(pid_t pid, const domain::Domain& domain);

}  // namespace tenure::guest
