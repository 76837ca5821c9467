// SPDX-License-Identifier: Apache-2.0
// The operations of a guest that write what it is or has into a file of the host: each waits for
// the guest's turn.
#include <signal.h>

#include <nlohmann/json.hpp>

#include "guest/change/dump.h"
#include "guest/change/save.h"
#include "guest/guest.h"
#include "guest/run/ask.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;

// QEMU has nothing to do any more than to close its files.
constexpr auto kQuitTimeout = 30s;

}  // namespace

asio::awaitable<Result<>> Guest::save(std::string path, registrar::Txn txn) {
  registrar::Turns::Turn button = co_await button_.next();
  {
    registrar::Turns::Turn turn = co_await live_.turns.next();
    if (ended_)
      co_return fail(Errc::Busy, live_.state.ref.vm + " is not running");
    // Its work would be lost, and what it left in QEMU is in no definition.
    if (!live_.state.jobs.empty())
      co_return fail(Errc::Busy, live_.state.jobs.begin()->first +
                                     ": a job is under way on it; see `tenure blockjob`");
    saving_ = true;
    Result<> done = co_await guest::save(live_, std::move(path), txn);
    saving_ = done.has_value();
    CO_TRY_OK(done);
    asked_ = EndCause{.reason = "saved", .why = "", .txn = std::move(txn)};
    qemu::Command command{"quit", nlohmann::json::object()};
    auto quit = co_await ask(live_, std::move(command), kQuickTimeout);
    // Lost: it went before it answered. The state is saved, and must not run on beside it.
    if (!quit)
      (void)kernel::signal_process(pidfd_.native_handle(), SIGKILL);
  }
  auto deadline = std::chrono::steady_clock::now() + kQuitTimeout;
  co_return co_await until_ended(deadline);
}

asio::awaitable<Result<>> Guest::dump(std::string path, std::string format, registrar::Txn txn) {
  registrar::Turns::Turn turn = co_await live_.turns.next();
  if (ended_)
    co_return fail(Errc::Busy, live_.state.ref.vm + " is not running");
  co_return co_await guest::dump(live_, std::move(path), std::move(format), std::move(txn));
}

asio::awaitable<Result<>> Guest::screenshot(std::string path, std::string format,
                                            registrar::Txn txn) {
  registrar::Turns::Turn turn = co_await live_.turns.next();
  if (ended_)
    co_return fail(Errc::Busy, live_.state.ref.vm + " is not running");
  co_return co_await guest::screenshot(live_, std::move(path), std::move(format), std::move(txn));
}

}  // namespace tenure::guest
