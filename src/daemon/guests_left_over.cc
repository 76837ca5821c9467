// SPDX-License-Identifier: Apache-2.0
// What could not be taken away when a guest ended: tried again until it is gone.
#include <algorithm>
#include <chrono>

#include "daemon/guests.h"
#include "guest/run/again.h"

namespace tenure::daemon {
namespace {

constexpr std::chrono::seconds kPause{10};

}  // namespace

asio::awaitable<void> Guests::end_left_over() {
  for (;;) {
    co_await guest::pause(context_, kPause);
    auto known = left_over_;
    for (const auto& left : known) {
      registrar::Turns::Turn turn = co_await left_over_turns_.next();
      // What the guest has now would go with it.
      if (!running_.contains(left->ref.uuid) && !starting_.contains(left->ref.uuid))
        co_await guest::end_left_over(context_, *left);
    }
    std::erase_if(left_over_, [](const auto& left) { return left->holds.empty(); });
  }
}

asio::awaitable<void> Guests::end_left_over_of(std::string uuid) {
  if (left_over_.empty())
    co_return;
  registrar::Turns::Turn turn = co_await left_over_turns_.next();
  auto known = left_over_;
  for (const auto& left : known)
    if (left->ref.uuid == uuid)
      co_await guest::end_left_over(context_, *left);
  std::erase_if(left_over_, [](const auto& left) { return left->holds.empty(); });
}

}  // namespace tenure::daemon
