// SPDX-License-Identifier: Apache-2.0
// Blocking work (fsync, audit send) on a pool thread, awaited from the event loop, which is never
// blocked by it: a stuck auditd blocks its senders for seconds (kernel-notes §3).
#pragma once

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/thread_pool.hpp>
#include <asio/use_awaitable.hpp>
#include <memory>
#include <type_traits>
#include <utility>

namespace tenure::registrar {

// Runs `work()` on `pool` and resumes the caller on its own executor with the result. `work` must
// not throw. The result travels in a shared slot because co_spawn needs a default-constructible
// value.
template <class Work>
asio::awaitable<std::invoke_result_t<Work>> offload(asio::thread_pool& pool, Work work) {
  using Value = std::invoke_result_t<Work>;
  auto slot = std::make_shared<std::unique_ptr<Value>>();
  auto task = [slot, work = std::move(work)]() mutable -> asio::awaitable<void> {
    *slot = std::make_unique<Value>(work());
    co_return;
  };
  co_await asio::co_spawn(pool, std::move(task), asio::use_awaitable);
  Value value = std::move(**slot);
  co_return value;
}

}  // namespace tenure::registrar
