// SPDX-License-Identifier: Apache-2.0
// What the host refuses for a moment only is tried again.
#pragma once

#include <array>
#include <asio/awaitable.hpp>
#include <chrono>

#include "guest/run/context.h"

namespace tenure::guest {

// Before each further try.
inline constexpr std::array<std::chrono::milliseconds, 3> kAgain{
    std::chrono::milliseconds(20), std::chrono::milliseconds(200), std::chrono::seconds(1)};

asio::awaitable<void> pause(Context& context, std::chrono::milliseconds delay);

}  // namespace tenure::guest
