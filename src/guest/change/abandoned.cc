// SPDX-License-Identifier: Apache-2.0
#include "guest/change/abandoned.h"

#include <fmt/format.h>

#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <nlohmann/json.hpp>

#include "guest/run/answer.h"
#include "guest/run/ask.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using registrar::Hold;

constexpr auto kCancelTimeout = 10s;
constexpr auto kLook = 10ms;

using Monitor = std::shared_ptr<qemu::Qmp>;

asio::awaitable<bool> is_migrating(const Monitor& monitor) {
  qemu::Command command{"query-migrate", json::object()};
  auto info = co_await ask(monitor, std::move(command));
  std::string status = info ? word_in(*info, "status") : "";
  co_return status == "setup" || status == "active" || status == "device" || status == "cancelling";
}

asio::awaitable<bool> is_down(const Monitor& monitor) {
  qemu::Command command{"query-status", json::object()};
  auto info = co_await ask(monitor, std::move(command));
  co_return info&& word_in(*info, "status") == "shutdown";
}

asio::awaitable<bool> is_finishing(const Monitor& monitor) {
  qemu::Command command{"query-status", json::object()};
  auto info = co_await ask(monitor, std::move(command));
  co_return info&& word_in(*info, "status") == "finish-migrate";
}

// Whether it comes to an end. No event would tell: it may have passed before we came.
asio::awaitable<bool> wait_while(Borrower to, asio::awaitable<bool> (*goes_on)(const Monitor&)) {
  asio::steady_timer timer(to.context.executor);
  auto deadline = std::chrono::steady_clock::now() + kCancelTimeout;
  for (;;) {
    bool going_on = co_await goes_on(to.qmp);
    if (!going_on || std::chrono::steady_clock::now() >= deadline)
      co_return !going_on;
    timer.expires_after(kLook);
    asio::error_code error;
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
  }
}

asio::awaitable<void> cancel_migration(Borrower to) {
  qemu::Command command{"migrate_cancel", json::object()};
  bool going_on = co_await is_migrating(to.qmp);
  if (!going_on)
    co_return;
  (void)co_await ask(to.qmp, std::move(command));
  (void)co_await wait_while(to, is_migrating);
}

asio::awaitable<Result<>> reset_and_go(Borrower to) {
  qemu::Command reset{"system_reset", json::object()};
  CO_TRY_OK(co_await ask(to.qmp, std::move(reset)));
  bool done = co_await wait_while(to, is_down);
  if (!done)
    co_return fail(Errc::Timeout, "QEMU did not reset the guest");
  qemu::Command go{"cont", json::object()};
  CO_TRY_OK(co_await ask(to.qmp, std::move(go)));
  co_return Result<>{};
}

// The guest has shut down for a reboot that nobody waits for any more: QEMU waits for the reset,
// and only that brings the guest back.
asio::awaitable<void> finish_reboot(Borrower to, registrar::Txn txn) {
  qemu::Command poweroff{"set-action", {{"shutdown", "poweroff"}}};
  (void)co_await ask(to.qmp, std::move(poweroff));
  bool down = co_await is_down(to.qmp);
  if (!down)
    co_return;
  Result<> done = co_await reset_and_go(to);
  bool kvm = to.state.ref.virt == "kvm";
  trail::Record record = control_record("reboot", "rebooted", to.state, kvm);
  record.success = done.has_value();
  std::string why = "recovered: tenured died before it was done";
  record.set("why", done ? why : why + "; " + done.error().what());
  registrar::stamp(record, to.state.ref, txn);
  std::vector<trail::Record> records{std::move(record)};
  Result<> written = co_await to.context.journal.write(std::move(records));
  if (!written)
    to.context.log(fmt::format("{}: reboot: {}", to.state.ref.vm, written.error().what()));
}

asio::awaitable<void> close_names(Borrower to, const std::vector<Hold>& loans) {
  for (const Hold& loan : loans) {
    qemu::Command command{"closefd", {{"fdname", "loan-" + loan.claim.holder}}};
    (void)co_await ask(to.qmp, std::move(command));  // used up: NotFound
  }
}

}  // namespace

asio::awaitable<Result<>> resume_if_never_run(std::shared_ptr<qemu::Qmp> qmp,
                                              std::chrono::milliseconds timeout) {
  qemu::Command command{"query-status", json::object()};
  CO_TRY(json status, co_await ask(qmp, std::move(command), timeout));
  if (word_in(status, "status") != "prelaunch")
    co_return Result<>{};
  command = {"cont", json::object()};
  CO_TRY_OK(co_await ask(qmp, std::move(command), timeout));
  co_return Result<>{};
}

// QEMU tells that a migration has ended before its thread sets the state that follows it, in which
// the vCPUs stand still (migration_iteration_finish() in migration/migration.c).
asio::awaitable<Result<>> go_on(Borrower to) {
  (void)co_await wait_while(to, is_finishing);
  qemu::Command command{"cont", json::object()};
  CO_TRY_OK(co_await ask(to.qmp, std::move(command)));
  co_return Result<>{};
}

asio::awaitable<void> end_abandoned(Borrower to, RunState& state, registrar::Txn txn) {
  co_await finish_reboot(to, txn);
  auto is_kept = [](const Hold& hold) { return !is_loan(hold.claim); };
  auto kept = std::ranges::stable_partition(to.holds, is_kept);
  std::vector<Hold> loans(std::make_move_iterator(kept.begin()),
                          std::make_move_iterator(kept.end()));
  to.holds.erase(kept.begin(), kept.end());
  if (!loans.empty()) {
    co_await cancel_migration(to);
    co_await close_names(to, loans);
    std::string why = "recovered: tenured died before it was done";
    auto left = co_await end_loans(to, std::move(txn), std::move(loans), std::move(why));
    if (!left)
      to.context.log(fmt::format("{}: {}", state.ref.vm, left.error().what()));
    else
      for (Hold& hold : *left) to.holds.push_back(std::move(hold));
    std::ranges::sort(to.holds, {}, &Hold::grant);
  }
  if (!std::exchange(state.suspended, false))
    co_return;
  Result<> running = co_await go_on(to);
  Result<> saved = save_run(to.context.paths, state);
  if (!running)
    to.context.log(fmt::format("{}: cont: {}", state.ref.vm, running.error().what()));
  if (!saved)
    to.context.log(saved.error().what());
}

}  // namespace tenure::guest
