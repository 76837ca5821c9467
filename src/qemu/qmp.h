// SPDX-License-Identifier: Apache-2.0
// QMP client (docs/interop/qmp-spec of QEMU). The peer is hostile: every message is bounded, garbage or an early death
// ends the connection with a clear error, never the daemon. One thread: the executor's.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/any_io_executor.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace tenure::qemu {

inline constexpr size_t kMaxQmpMessage = 16UL << 20;  // bytes; query-* of a large guest is below 1 MiB

struct QmpEvent {
  std::string name;  // "DEVICE_DELETED"
  std::shared_ptr<const nlohmann::json> data;
  int64_t time_us = 0;  // QEMU's own timestamp
};

class Qmp {
 public:
  virtual ~Qmp() = default;

  // Runs one command and returns its "return" value. Commands may be issued concurrently; replies are matched by id.
  // Errors: Denied/NotFound/Unsupported/Internal by QMP's class with its desc; Timeout; Lost when the peer is gone.
  // `fds` travel with the command by SCM_RIGHTS (getfd, add-fd).
  virtual asio::awaitable<Result<nlohmann::json>> execute(
      std::string command, nlohmann::json arguments, std::chrono::milliseconds timeout,
      std::vector<int> fds = {}) = 0;

  // Called for each event, in order, from the executor. Set it before the first co_await of anything else.
  virtual void on_event(std::function<void(const QmpEvent&)> handler) = 0;
  // Called once when the connection ends, with the reason.
  virtual void on_close(std::function<void(const Error&)> handler) = 0;
  // Ends the connection; pending commands fail with Lost.
  virtual void close() = 0;
};

// Takes a connected stream socket, waits for the greeting, negotiates capabilities.
asio::awaitable<Result<std::shared_ptr<Qmp>>> open_qmp(asio::any_io_executor executor, UniqueFd socket,
                                                       std::chrono::milliseconds timeout);

}  // namespace tenure::qemu
