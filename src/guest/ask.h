// SPDX-License-Identifier: Apache-2.0
// One QMP command to a running guest.
#pragma once

#include <asio/awaitable.hpp>
#include <chrono>
#include <nlohmann/json.hpp>
#include <vector>

#include "guest/live.h"
#include "qemu/hotplug.h"

namespace tenure::guest {

inline constexpr std::chrono::seconds kCommandTimeout{10};

// QEMU's answer; errors name the command. `fds` travel with it and stay the caller's.
inline asio::awaitable<Result<nlohmann::json>> ask(Live& live, qemu::Command command,
                                                   std::vector<int> fds = {}) {
  std::string name = command.name;
  auto answer = co_await live.qmp->execute(std::move(command.name), std::move(command.arguments),
                                           kCommandTimeout, std::move(fds));
  if (!answer)
    co_return std::unexpected(std::move(answer).error().context(name));
  co_return answer;
}

}  // namespace tenure::guest
