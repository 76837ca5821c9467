// SPDX-License-Identifier: Apache-2.0
// QEMU closes some files later than it says that a device is gone. The caller holds the guest's
// turn.
#pragma once

#include <asio/awaitable.hpp>

#include "domain/domain.h"
#include "guest/run/live.h"

namespace tenure::guest {

// Shared memory is unmapped, and an IOMMU group closed, by QEMU's RCU thread, some milliseconds
// after DEVICE_DELETED and object-del, and no event tells it: looks again and again, for 2 s at
// most, until nothing of the device is open. Returns at once for other devices.
asio::awaitable<void> wait_until_closed(Live& live, const domain::Domain& device);

}  // namespace tenure::guest
