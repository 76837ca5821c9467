// SPDX-License-Identifier: Apache-2.0
// The one place where QEMU's block nodes are looked at. The filter of a pull (copy-on-read) stays
// in QEMU until the job is dismissed, and from the end of the job on it has no child: QEMU 7.2
// crashes when it looks at it (bdrv_refresh_filename() in block.c). A pull that runs may fail, and
// thus end, at any moment. So what has ended is dismissed before, and what runs stands still
// meanwhile. Private to src/guest; the caller holds the guest's turn.
#pragma once

#include <asio/awaitable.hpp>
#include <chrono>
#include <nlohmann/json.hpp>
#include <vector>

#include "guest/run/live.h"
#include "qemu/hotplug.h"

namespace tenure::guest {

// Until the next look at a job, where no event of it comes.
inline constexpr std::chrono::milliseconds kLookAgain{500};

// QEMU's answers to commands that look at block nodes, in their order. How a job ended that is
// dismissed stands in the state of the run first, for its records. Timeout if a job does not stand
// still.
asio::awaitable<Result<std::vector<nlohmann::json>>> look_at_blocks(
    Live& live, std::vector<qemu::Command> queries);

}  // namespace tenure::guest
