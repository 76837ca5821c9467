// SPDX-License-Identifier: Apache-2.0
// The monitor of a guest: who listens, and what happens when the connection is lost and QEMU lives.
// QEMU has the listening socket and takes one peer after the other (qemu(1), -chardev
// socket,server=on), so the next one may be we again.
#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <nlohmann/json.hpp>

#include "base/unix_socket.h"
#include "guest/change/abandoned.h"
#include "guest/guest.h"
#include "guest/run/answer.h"
#include "guest/run/ask.h"
#include "guest/run/undecided.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;

constexpr auto kReconnectTimeout = 5s;
constexpr auto kQueryTimeout = 5s;
// Before each try; the last one is repeated. QEMU that ends closes its monitor first: the first
// look waits for that.
constexpr std::array<std::chrono::milliseconds, 8> kDelays{20ms, 100ms, 500ms, 2s,
                                                           5s,   10s,   30s,   60s};
// In one run: a QEMU that hangs up again and again is not to keep us busy.
constexpr size_t kMaxLosses = 16;

bool has_exited(int pidfd) {
  pollfd exit{.fd = pidfd, .events = POLLIN, .revents = 0};
  return poll(&exit, 1, 0) == 1;
}

}  // namespace

void Guest::listen() {
  // Weak: QMP outlives neither the guest nor the other way round.
  std::weak_ptr<Guest> weak = weak_from_this();
  live_.qmp->on_event([weak](const qemu::QmpEvent& event) {
    if (auto self = weak.lock())
      self->handle_event(event);
  });
  live_.qmp->on_close([weak](const Error& why) {
    if (auto self = weak.lock())
      self->lose_monitor(why.what());
  });
}

void Guest::lose_monitor(std::string why) {
  if (ended_ || has_exited(pidfd_.native_handle()))
    return;
  std::weak_ptr<Guest> weak = weak_from_this();
  auto task = [weak, why = std::move(why)]() mutable -> asio::awaitable<void> {
    co_await seek_monitor(std::move(weak), std::move(why));
  };
  asio::co_spawn(live_.context.executor, std::move(task), asio::detached);
}

// It does not keep the guest alive while it sleeps.
asio::awaitable<void> Guest::seek_monitor(std::weak_ptr<Guest> weak, std::string why) {
  auto executor = co_await asio::this_coro::executor;
  for (size_t tries = 0;; ++tries) {
    asio::steady_timer timer(executor, kDelays[std::min(tries, kDelays.size() - 1)]);
    asio::error_code error;
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
    auto self = weak.lock();
    if (!self || self->ended_ || has_exited(self->pidfd_.native_handle()))
      co_return;
    bool too_often = self->lost_monitors_.size() >= kMaxLosses;
    Result<> found = fail(Errc::Lost, "it was lost too often in this run");
    if (!too_often)
      found = co_await self->connect_again();
    if (found) {
      co_await self->look_again(std::move(why));
      co_return;
    }
    if (too_often || tries + 1 == kDelays.size()) {
      registrar::Txn txn = self->own_txn();
      std::string lost = why + "; " + found.error().what();
      co_await self->tell_monitor(false, std::move(lost), std::move(txn));
    }
    if (too_often)
      co_return;
  }
}

asio::awaitable<Result<>> Guest::connect_again() {
  CO_TRY(UniqueFd socket, connect_unix(monitor_path(live_.context.paths, live_.state.ref.uuid)));
  CO_TRY(auto qmp,
         co_await qemu::open_qmp(live_.context.executor, std::move(socket), kReconnectTimeout));
  if (ended_)
    co_return fail(Errc::Lost, "QEMU has ended");
  // Operations in flight may refer to the old one, which answers them that it is lost.
  lost_monitors_.push_back(std::exchange(live_.qmp, std::move(qmp)));
  listen();
  co_return Result<>{};
}

// What happened meanwhile, and what an operation could not finish without a monitor.
asio::awaitable<void> Guest::look_again(std::string why) {
  registrar::Txn txn = own_txn();
  {
    registrar::Turns::Turn button = co_await button_.next();
    registrar::Turns::Turn turn = co_await live_.turns.next();
    if (ended_ || saving_)
      co_return;
    co_await decide();
    registrar::Txn own = txn;
    co_await tell_monitor(true, std::move(why), std::move(own));
    Borrower to{.context = live_.context,
                .state = live_.state,
                .seams = *live_.seams,
                .qmp = live_.qmp,
                .holds = live_.holds};
    (void)co_await resume_if_never_run(live_.qmp, kQueryTimeout);
    own = txn;
    co_await end_abandoned(to, live_.state, std::move(own));
    qemu::Command command{"query-status", nlohmann::json::object()};
    auto status = co_await ask(live_, std::move(command), kQueryTimeout);
    if (std::string word = status ? word_in(*status, "status") : ""; !word.empty())
      status_ = std::move(word);
  }
  Result<> caught = co_await catch_up(std::move(txn));
  if (!caught)
    live_.context.log(fmt::format("{}: after the loss of its monitor: {}", live_.state.ref.vm,
                                  caught.error().what()));
}

asio::awaitable<void> Guest::decide() {
  if (undecided_.pending.empty())
    co_return;
  Undecided at{live_.context, undecided_, *live_.domain, live_.options, *live_.seams};
  std::shared_ptr<qemu::Qmp> qmp = live_.qmp;
  Verdicts verdicts = co_await ask_qemu(at, live_.state.process, std::move(qmp));
  std::string why = "recovered: it could not be told when tenured started";
  Result<> settled = co_await settle_undecided(at, std::move(verdicts), std::move(why));
  if (!settled)
    live_.context.log(fmt::format("{}: {}", live_.state.ref.vm, settled.error().what()));
  for (registrar::Hold& hold : std::exchange(undecided_.holds, {}))
    registrar::add_hold(live_.holds, std::move(hold));
}

asio::awaitable<void> Guest::tell_monitor(bool found, std::string why, registrar::Txn txn) {
  live_.context.log(fmt::format("{}: monitor {}: {}", live_.state.ref.vm,
                                found ? "lost and found again" : "lost", why));
  trail::Record record(trail::Kind::Recovery);
  record.set("reason", "monitor")
      .set("vm-pid", static_cast<uint64_t>(live_.state.process.pid))
      .set("why", why);
  record.success = found;
  registrar::stamp(record, live_.state.ref, txn);
  std::vector<trail::Record> records{std::move(record)};
  Result<> written = co_await live_.context.journal.write(std::move(records));
  if (!written)
    live_.context.log(fmt::format("{}: monitor: {}", live_.state.ref.vm, written.error().what()));
}

}  // namespace tenure::guest
