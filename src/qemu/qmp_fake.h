// SPDX-License-Identifier: Apache-2.0
// A QMP peer made of answers, for the tests of the rooms above: no socket, no QEMU, the same
// behaviour towards its caller as the real client (suspends, times out, fails with Lost once it is
// closed).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "qemu/qmp.h"

namespace tenure::qemu {

// Not thread-safe. Held by shared_ptr wherever a Qmp is.
class FakeQmp final : public Qmp {
 public:
  struct Call {
    std::string command;
    std::shared_ptr<const nlohmann::json> arguments;
    size_t fds = 0;  // that came with it
  };
  using Answer = std::function<Result<nlohmann::json>(const nlohmann::json& arguments)>;

  explicit FakeQmp(asio::any_io_executor executor);
  ~FakeQmp() override;

  // Every `command` is answered so from now on; one without an answer fails with Unsupported, as
  // QEMU's CommandNotFound does. An answer may emit() events: they come before the reply.
  void answer(const std::string& command, Answer answer);
  // The same with {} / with a constant value / with a refusal.
  void accept(const std::string& command);
  void accept(const std::string& command, const nlohmann::json& value);
  void refuse(const std::string& command, Error error);
  // From now on `command` is not answered until release(); it can run into its timeout.
  void hold(const std::string& command);
  void release(const std::string& command);

  void emit(const std::string& event, const nlohmann::json& data, int64_t time_us = 0);
  // As if QEMU had died.
  void lose(const Error& reason);

  // All commands so far, in order.
  const std::vector<Call>& calls() const;
  size_t count(const std::string& command) const;

  asio::awaitable<Result<nlohmann::json>> execute(std::string command, nlohmann::json arguments,
                                                  std::chrono::milliseconds timeout,
                                                  std::vector<int> fds = {}) override;
  asio::awaitable<std::vector<Result<nlohmann::json>>> execute_all(
      std::vector<Command> commands, std::chrono::milliseconds timeout) override;
  void on_event(std::function<void(const QmpEvent&)> handler) override;
  void on_close(std::function<void(const Error&)> handler) override;
  void close() override;

 private:
  struct State;
  static asio::awaitable<Result<nlohmann::json>> run(std::shared_ptr<State> state,
                                                     std::string command, nlohmann::json arguments,
                                                     std::chrono::milliseconds timeout);
  static asio::awaitable<std::vector<Result<nlohmann::json>>> run_all(
      std::shared_ptr<State> state, std::vector<Command> commands,
      std::chrono::milliseconds timeout);
  std::shared_ptr<State> state_;
};

}  // namespace tenure::qemu
