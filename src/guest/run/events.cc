// SPDX-License-Identifier: Apache-2.0
#include "guest/run/events.h"

#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

namespace tenure::guest {

asio::awaitable<std::optional<qemu::QmpEvent>> Events::Expected::wait(
    std::chrono::milliseconds timeout) {
  if (!seen_ && !over_) {
    timer_.expires_after(timeout);
    asio::error_code error;
    co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, error));
  }
  over_ = true;
  co_return seen_;
}

std::shared_ptr<Events::Expected> Events::expect(Fits fits) {
  auto expected = std::make_shared<Expected>(executor_, std::move(fits));
  expected->over_ = closed_;
  std::erase_if(expected_, [](const auto& weak) { return weak.expired(); });
  expected_.push_back(expected);
  return expected;
}

bool Events::deliver(const qemu::QmpEvent& event) {
  bool wanted = false;
  for (const auto& weak : expected_) {
    auto expected = weak.lock();
    if (!expected || expected->over_ || expected->seen_ || !expected->fits_(event))
      continue;
    expected->seen_ = event;
    expected->timer_.cancel();
    wanted = true;
  }
  return wanted;
}

void Events::close() {
  closed_ = true;
  for (const auto& weak : expected_)
    if (auto expected = weak.lock()) {
      expected->over_ = true;
      expected->timer_.cancel();
    }
}

}  // namespace tenure::guest
