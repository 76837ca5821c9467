// SPDX-License-Identifier: Apache-2.0
// QMP client (docs/interop/qmp-spec of QEMU). The peer is hostile: every message is bounded,
// garbage or an early death ends the connection with a clear error, never the daemon. One thread:
// the executor's.
#pragma once

// The standard library first: Asio 1.22 chooses how it allocates frames by a macro that libstdc++'s
// headers define, and two translation units that choose differently free what the other one
// allocated.
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "base/unique_fd.h"

namespace tenure::qemu {

// Bytes of one message; the replies of a large guest are below 1 MiB.
inline constexpr size_t kMaxQmpMessage = 16777216;
inline constexpr size_t kMaxQmpDepth = 64;          // nested arrays and objects; the schema needs 5
inline constexpr size_t kMaxQmpValues = 262144;     // values in one message; the schema has 20,000
inline constexpr size_t kMaxQmpEarlyEvents = 1024;  // kept until on_event() is called

struct QmpEvent {
  std::string name;                            // "DEVICE_DELETED"
  std::shared_ptr<const nlohmann::json> data;  // never null; an object, empty if the event has none
  int64_t time_us = 0;                         // QEMU's own timestamp; 0 if it has none
};

struct Command;

class Qmp {
 public:
  virtual ~Qmp() = default;

  // Runs one command and returns its "return" value. Commands may be issued concurrently; replies
  // are matched by id. Errors: Denied/NotFound/Unsupported/Internal by QMP's class with its desc
  // (Denied where the desc ends with the text of EPERM or EACCES, which is then sys_errno());
  // Timeout; Lost when the peer is gone; Invalid for arguments that are no UTF-8. `fds` travel with
  // the command by SCM_RIGHTS (getfd, add-fd); they stay the caller's and may be closed once this
  // has returned. After a Timeout QEMU may still run the command, unless the text says "never
  // sent".
  virtual asio::awaitable<Result<nlohmann::json>> execute(std::string command,
                                                          nlohmann::json arguments,
                                                          std::chrono::milliseconds timeout,
                                                          std::vector<int> fds = {}) = 0;
  // Sends all of them before the first is answered, but nothing behind one with fds before that is,
  // and returns their answers in their order. QEMU runs them one after the other, each whether or
  // not one before it failed: whoever needs that it does not must be sure that the later one fails
  // too. An answer is waited for `timeout` from that of its predecessor; behind one that timed out
  // none is waited for. Errors: as of execute().
  virtual asio::awaitable<std::vector<Result<nlohmann::json>>> execute_all(
      std::vector<Command> commands, std::chrono::milliseconds timeout) = 0;

  // Called for each event, in order, from the executor; events that came before it was set are
  // delivered first. Set it before the first co_await of anything else.
  virtual void on_event(std::function<void(const QmpEvent&)> handler) = 0;
  // Called once when the connection ends, with the reason, from the executor (never from inside
  // another call of this class); also if it has ended already.
  virtual void on_close(std::function<void(const Error&)> handler) = 0;
  // Ends the connection; pending commands fail with Lost. The destructor does the same, without
  // on_close.
  virtual void close() = 0;
};

// Takes a connected stream socket, waits for the greeting, negotiates capabilities, both within
// `timeout`. Errors: Timeout; Lost if the peer hangs up; Invalid for anything but a greeting.
asio::awaitable<Result<std::shared_ptr<Qmp>>> open_qmp(asio::any_io_executor executor,
                                                       UniqueFd socket,
                                                       std::chrono::milliseconds timeout);

}  // namespace tenure::qemu
