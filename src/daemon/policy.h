// SPDX-License-Identifier: Apache-2.0
// Settings that change what the trail promises are themselves on the record: each change once, when
// it comes into force.
#pragma once

#include <asio/awaitable.hpp>

#include "daemon/config.h"
#include "guest/run/context.h"

namespace tenure::daemon {

// Compares with state/policy.json and writes one VIRT_CONTROL op=policy record for each setting
// that is another one now.
asio::awaitable<Result<>> record_policy(guest::Context& context, const Config& config);

}  // namespace tenure::daemon
