// SPDX-License-Identifier: Apache-2.0
// Waiting for QEMU's events: an expectation stands before the command that brings the event about.
// One thread: the event loop's.
#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "qemu/qmp.h"

namespace tenure::guest {

class Events {
 public:
  using Fits = std::function<bool(const qemu::QmpEvent&)>;

  class Expected {
   public:
    Expected(const asio::any_io_executor& executor, Fits fits)
        : fits_(std::move(fits)), timer_(executor) {}
    // The event, which may have come already; nullopt at the deadline or when no more can come.
    asio::awaitable<std::optional<qemu::QmpEvent>> wait(std::chrono::milliseconds timeout);

   private:
    friend Events;
    Fits fits_;
    asio::steady_timer timer_;
    std::optional<qemu::QmpEvent> seen_;
    bool over_ = false;
  };

  explicit Events(asio::any_io_executor executor) : executor_(std::move(executor)) {}

  std::shared_ptr<Expected> expect(Fits fits);
  // True if somebody waits for it.
  bool deliver(const qemu::QmpEvent& event);
  // QEMU is gone: every wait ends.
  void close();
  bool closed() const { return closed_; }

 private:
  asio::any_io_executor executor_;
  std::vector<std::weak_ptr<Expected>> expected_;
  bool closed_ = false;
};

}  // namespace tenure::guest
