// SPDX-License-Identifier: Apache-2.0
// Intents whose result is not known, because the daemon died between the two: the kernel is asked,
// and what is true gets its record (DESIGN law 2).
#pragma once

#include <asio/awaitable.hpp>
#include <functional>
#include <string>

#include "registrar/replay.h"

namespace tenure::registrar {

// Records as granted, with `why`, what `present` finds of the run's pending intents, and adds it to
// the run's holds; the others get a void entry. None is pending afterwards. Does not commit. Lost
// audit is no error: that the kernel has it is true whoever hears of it.
asio::awaitable<Result<>> settle(Journal& journal, OpenRun& run,
                                 std::function<bool(const model::Claim&)> present, std::string why);

}  // namespace tenure::registrar
