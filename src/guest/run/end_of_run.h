// SPDX-License-Identifier: Apache-2.0
// The end of all tenures of a run.
#pragma once

#include <asio/awaitable.hpp>
#include <vector>

#include "guest/run/context.h"
#include "registrar/operation.h"

namespace tenure::guest {

// registrar::release(), and again for what could not be taken away: nobody else would do it before
// the next start of tenured, and the guest could not be started meanwhile. Gives up after about a
// second, and returns what is left.
asio::awaitable<Result<std::vector<registrar::Hold>>> release_all(
    Context& context, registrar::RunRef run, registrar::Txn txn, registrar::Seams& seams,
    std::vector<registrar::Hold> holds, registrar::Ending ending);

}  // namespace tenure::guest
