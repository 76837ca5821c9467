// SPDX-License-Identifier: Apache-2.0
// One QMP command to a running guest.
#pragma once

#include <asio/awaitable.hpp>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "guest/run/live.h"
#include "qemu/hotplug.h"

namespace tenure::guest {

inline constexpr std::chrono::seconds kCommandTimeout{10};
inline constexpr std::chrono::seconds kQuickTimeout{5};  // for what QEMU only has to take note of

// QEMU's answer; errors name the command. `fds` travel with it and stay the caller's. `monitor` is
// where the connection is kept, which may be a new one with the next command: the guest is looked
// for again when it was lost. The one that is asked lives until it has answered.
inline asio::awaitable<Result<nlohmann::json>> ask(
    const std::shared_ptr<qemu::Qmp>& monitor, qemu::Command command, std::vector<int> fds = {},
    std::chrono::milliseconds timeout = kCommandTimeout) {
  std::shared_ptr<qemu::Qmp> qmp = monitor;
  std::string name = command.name;
  auto answer = co_await qmp->execute(std::move(command.name), std::move(command.arguments),
                                      timeout, std::move(fds));
  if (!answer)
    co_return std::unexpected(std::move(answer).error().context(name));
  co_return answer;
}

inline asio::awaitable<Result<nlohmann::json>> ask(
    Live& live, qemu::Command command, std::vector<int> fds = {},
    std::chrono::milliseconds timeout = kCommandTimeout) {
  return ask(live.qmp, std::move(command), std::move(fds), timeout);
}

}  // namespace tenure::guest
