// SPDX-License-Identifier: Apache-2.0
// What a running guest's helper leaves behind: its place in the state, and the tenure of what it
// served. The caller holds the guest's turn.
#pragma once

#include <asio/awaitable.hpp>
#include <chrono>
#include <string>

#include "base/result.h"
#include "guest/run/live.h"

namespace tenure::guest {

// The helper of that device, if it has one, ends: by itself within `patience`, or killed. Logs what
// fails; it stays known then, and so does the tenure.
asio::awaitable<void> forget_helper(Live& live, std::string alias,
                                    std::chrono::milliseconds patience);

// It has ended while the guest goes on: the device stays, and nobody serves it. Its tenure ends
// with reason=close and `why`.
asio::awaitable<Result<>> note_helper_ended(Live& live, std::string alias, std::string why,
                                            registrar::Txn txn);

// After an adoption: tenures of helpers that are gone end, and helpers without a tenure do.
asio::awaitable<Result<>> settle_helpers(Live& live, registrar::Txn txn);

}  // namespace tenure::guest
