// SPDX-License-Identifier: Apache-2.0
// A guest shuts down by its power button and begins anew, in the same QEMU: its tenures stay.
#pragma once

#include <asio/awaitable.hpp>
#include <chrono>

#include "guest/run/live.h"

namespace tenure::guest {

// Returns when the guest has been reset and goes on. Timeout, and nothing was reset, if it has not
// shut down by then; a shutdown that comes later ends the run.
asio::awaitable<Result<>> reboot(Live& live, std::chrono::seconds timeout);

}  // namespace tenure::guest
