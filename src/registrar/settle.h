// SPDX-License-Identifier: Apache-2.0
// Intents whose result is not known, because the daemon died between the two: the kernel is asked,
// and what is true gets its record (DESIGN law 2).
#pragma once

#include <asio/awaitable.hpp>
#include <functional>
#include <string>

#include "registrar/replay.h"

namespace tenure::registrar {

// Whether the claim of the intent with that ledger index is true now.
using Present = std::function<Result<bool>(uint64_t index, const model::Claim&)>;

// Records as granted, with `why`, what `present` finds of the run's pending intents, and adds it to
// the run's holds; what is not there gets a void entry. Where `present` cannot tell, nothing is
// said: the intent stays pending, with the error in Pending::unknown, for a later start to ask
// again. Does not commit. Lost audit is no error: that the kernel has it is true whoever hears of
// it.
asio::awaitable<Result<>> settle(Journal& journal, OpenRun& run, Present present, std::string why);

}  // namespace tenure::registrar
