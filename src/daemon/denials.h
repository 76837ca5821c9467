// SPDX-License-Identifier: Apache-2.0
// What the fence refused, on the record: merged per guest, device, access and command over a
// second, so that a flood of 10^6 a second is one record with an exact count and delays nothing
// else. The kernel does the merging; what a daemon did not get to record, the next one does.
#pragma once

#include <memory>

#include "daemon/guests.h"
#include "guest/run/context.h"
#include "kernel/fence.h"

namespace tenure::daemon {

// Watches until the result is dropped.
std::shared_ptr<void> watch_denials(guest::Context& context, kernel::FenceControl& fences,
                                    const Guests& guests);

}  // namespace tenure::daemon
