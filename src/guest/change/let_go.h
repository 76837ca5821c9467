// SPDX-License-Identifier: Apache-2.0
// A device on its way out: who asked the guest for it, and what QEMU closes later than it says that
// the device is gone. The caller holds the guest's turn.
#pragma once

#include <asio/awaitable.hpp>
#include <string>

#include "domain/domain.h"
#include "guest/run/live.h"

namespace tenure::guest {

// The guest is about to be asked for the device, QEMU has heard of it, or the guest has refused. In
// the state of the run, so that a tenured that comes after this one knows it when the guest gives
// the device up: a state that cannot be written is logged, and takes nothing from the request.
void note_request(Live& live, const std::string& alias, registrar::Txn txn);
void note_heard(Live& live, const std::string& alias);
void forget_request(Live& live, const std::string& alias);

// Asks the guest for the devices of which QEMU may never have heard, as the daemon that was asked
// died: what the guest gives up by itself would count as that request otherwise.
asio::awaitable<void> ask_again(Live& live);

// Shared memory is unmapped, and an IOMMU group closed, by QEMU's RCU thread, some milliseconds
// after DEVICE_DELETED and object-del, and no event tells it: looks again and again, for 2 s at
// most, until nothing of the device is open. Returns at once for other devices.
asio::awaitable<void> wait_until_closed(Live& live, const domain::Domain& device);

}  // namespace tenure::guest
