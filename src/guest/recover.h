// SPDX-License-Identifier: Apache-2.0
// After the daemon died (or the host rebooted): asks the kernel what is true of every run that the
// ledger has open, adopts guests that live, and closes what is gone, each with records that say so
// (DESIGN law 2 and 4).
#pragma once

#include <asio/awaitable.hpp>
#include <memory>
#include <vector>

#include "guest/guest.h"
#include "guest/run/end_of_run.h"
#include "registrar/replay.h"

namespace tenure::guest {

struct Recovered {
  std::vector<std::shared_ptr<Guest>> adopted;  // they live on; their watch() is not started yet
  std::vector<LeftOver> left_over;              // of ended runs
};

// Runs that cannot be dealt with are logged and stay open in the ledger, so that the next start
// tries again. Fails where the state of
// the runs or whether a QEMU lives cannot be read, also when asked again: then nothing true could
// be recorded, and a daemon that went on would end guests that live.
asio::awaitable<Result<Recovered>> recover(Context& context, registrar::Replay replay);

}  // namespace tenure::guest
