// SPDX-License-Identifier: Apache-2.0
// The part of live_check() that looks at the devices of the host which a guest holds.
#pragma once

#include <vector>

#include "guest/run/live_check.h"
#include "kernel/process.h"

namespace tenure::guest {

// Adds to `report` what is not as the tenures say: a device that was pulled out, or that QEMU has
// closed, and a PCI device that a driver of the host has now. `files` is what QEMU has open.
void check_host_devices(const LiveSubject& subject, const std::vector<kernel::OpenFile>& files,
                        LiveReport& report);

}  // namespace tenure::guest
