// SPDX-License-Identifier: Apache-2.0
// What must be so before QEMU can have a device of the host: its driver, and memory that may be
// locked.
#pragma once

#include <sys/types.h>

#include <asio/awaitable.hpp>

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

// Raises what a running QEMU may lock to locked_bytes(); does nothing without such devices.
Result<> raise_locked(pid_t pid, const domain::Domain& domain);

}  // namespace tenure::guest
