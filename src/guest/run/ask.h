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

// QEMU's answer; errors name the command. `monitor` is where the connection is kept, which may be a
// new one with the next command: the guest is looked for again when it was lost. The one that is
// asked lives until it has answered.
inline asio::awaitable<Result<nlohmann::json>> ask(
    const std::shared_ptr<qemu::Qmp>& monitor, qemu::Command command,
    std::chrono::milliseconds timeout = kCommandTimeout) {
  // The one of now. NOLINTNEXTLINE(performance-unnecessary-copy-initialization)
  std::shared_ptr<qemu::Qmp> qmp = monitor;
  std::string name = command.name;
  if (!qmp)
    co_return fail(Errc::Lost, name + ": no monitor to this guest");
  auto answer = co_await qmp->execute(std::move(command.name), std::move(command.arguments),
                                      timeout, std::move(command.fds));
  if (!answer)
    co_return std::unexpected(std::move(answer).error().context(name));
  co_return answer;
}

inline asio::awaitable<Result<nlohmann::json>> ask(
    Live& live, qemu::Command command, std::chrono::milliseconds timeout = kCommandTimeout) {
  return ask(live.qmp, std::move(command), timeout);
}

// The answers to commands of which none has to wait for the answer to another, in their order;
// see Qmp::execute_all().
inline asio::awaitable<std::vector<Result<nlohmann::json>>> ask_all(
    Live& live, std::vector<qemu::Command> commands) {
  std::shared_ptr<qemu::Qmp> qmp = live.qmp;
  std::vector<std::string> names;
  for (const qemu::Command& command : commands) names.push_back(command.name);
  if (!qmp)
    co_return std::vector<Result<nlohmann::json>>(commands.size(),
                                                  fail(Errc::Lost, "no monitor to this guest"));
  auto answers = co_await qmp->execute_all(std::move(commands), kCommandTimeout);
  for (size_t i = 0; i < answers.size(); ++i)
    if (!answers[i])
      answers[i] = std::unexpected(std::move(answers[i]).error().context(names[i]));
  co_return answers;
}

inline Result<> first_failure(const std::vector<Result<nlohmann::json>>& answers) {
  for (const auto& answer : answers)
    if (!answer)
      return std::unexpected(answer.error());
  return {};
}

// After a timeout, or without a monitor, QEMU may have done it all the same.
inline bool may_be_done(const Result<nlohmann::json>& answer) {
  return answer || answer.error().code() == Errc::Timeout || answer.error().code() == Errc::Lost;
}

}  // namespace tenure::guest
