// SPDX-License-Identifier: Apache-2.0
#include "guest/run/again.h"

#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>

namespace tenure::guest {

asio::awaitable<void> pause(Context& context, std::chrono::milliseconds delay) {
  asio::steady_timer timer(context.executor, delay);
  asio::error_code error;
  co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
}

}  // namespace tenure::guest
