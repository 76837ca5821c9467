// SPDX-License-Identifier: Apache-2.0
// One at a time, in the order of asking: a queue for coroutines of one event loop. Not thread-safe.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>
#include <deque>
#include <memory>
#include <utility>

namespace tenure::registrar {

class Turns {
 public:
  // Held by whoever's turn it is; its end hands the turn on. The Turns must outlive it.
  class Turn {
   public:
    explicit Turn(Turns& turns) : turns_(&turns) {}
    Turn(Turn&& other) noexcept : turns_(std::exchange(other.turns_, nullptr)) {}
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    Turn& operator=(Turn&&) = delete;
    ~Turn() {
      if (turns_ != nullptr)
        turns_->hand_on();
    }

   private:
    Turns* turns_;
  };

  bool taken() const { return taken_; }
  // `Turn turn = co_await turns.next();`
  asio::awaitable<Turn> next() {
    if (std::exchange(taken_, true))
      co_await wait();
    co_return Turn(*this);
  }

 private:
  asio::awaitable<void> wait() {
    auto executor = co_await asio::this_coro::executor;
    auto timer =
        std::make_shared<asio::steady_timer>(executor, asio::steady_timer::time_point::max());
    queue_.push_back(timer);
    asio::error_code cancelled;
    co_await timer->async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
  }
  void hand_on() {
    if (queue_.empty()) {
      taken_ = false;
      return;
    }
    queue_.front()->cancel();  // nobody else can take it meanwhile
    queue_.pop_front();
  }

  bool taken_ = false;
  std::deque<std::shared_ptr<asio::steady_timer>> queue_;
};

}  // namespace tenure::registrar
