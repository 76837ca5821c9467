// SPDX-License-Identifier: Apache-2.0
#include "guest/abandoned.h"

#include <fmt/format.h>

#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <nlohmann/json.hpp>

#include "guest/answer.h"
#include "guest/guest.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using registrar::Hold;

constexpr auto kCommandTimeout = 5s;
constexpr auto kCancelTimeout = 10s;
constexpr auto kLook = 10ms;

asio::awaitable<Result<json>> ask(qemu::Qmp& qmp, std::string command, json arguments) {
  co_return co_await qmp.execute(std::move(command), std::move(arguments), kCommandTimeout);
}

asio::awaitable<bool> is_migrating(qemu::Qmp& qmp) {
  json arguments = json::object();
  std::string command = "query-migrate";
  auto info = co_await ask(qmp, std::move(command), std::move(arguments));
  std::string status = info ? word_in(*info, "status") : "";
  co_return status == "setup" || status == "active" || status == "device" || status == "cancelling";
}

asio::awaitable<bool> is_down(qemu::Qmp& qmp) {
  json arguments = json::object();
  std::string command = "query-status";
  auto info = co_await ask(qmp, std::move(command), std::move(arguments));
  co_return info&& word_in(*info, "status") == "shutdown";
}

// Whether it comes to an end. No event would tell: it may have passed before we came.
asio::awaitable<bool> wait_while(Borrower to, asio::awaitable<bool> (*goes_on)(qemu::Qmp&)) {
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
  json arguments = json::object();
  std::string command = "migrate_cancel";
  bool going_on = co_await is_migrating(to.qmp);
  if (!going_on)
    co_return;
  (void)co_await ask(to.qmp, std::move(command), std::move(arguments));
  (void)co_await wait_while(to, is_migrating);
}

asio::awaitable<Result<>> reset_and_go(Borrower to) {
  json arguments = json::object();
  std::string command = "system_reset";
  CO_TRY_OK(co_await ask(to.qmp, std::move(command), arguments));
  bool done = co_await wait_while(to, is_down);
  if (!done)
    co_return fail(Errc::Timeout, "QEMU did not reset the guest");
  command = "cont";
  CO_TRY_OK(co_await ask(to.qmp, std::move(command), arguments));
  co_return Result<>{};
}

// The guest has shut down for a reboot that nobody waits for any more: QEMU waits for the reset,
// and only that brings the guest back.
asio::awaitable<void> finish_reboot(Borrower to, registrar::Txn txn) {
  json poweroff = {{"shutdown", "poweroff"}};
  std::string set_action = "set-action";
  (void)co_await ask(to.qmp, std::move(set_action), std::move(poweroff));
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
    json arguments = {{"fdname", "loan-" + loan.claim.holder}};
    std::string command = "closefd";
    (void)co_await ask(to.qmp, std::move(command), std::move(arguments));  // used up: NotFound
  }
}

}  // namespace

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
  json arguments = json::object();
  std::string command = "cont";
  auto running = co_await ask(to.qmp, std::move(command), std::move(arguments));
  Result<> saved = save_run(to.context.paths, state);
  if (!running)
    to.context.log(fmt::format("{}: cont: {}", state.ref.vm, running.error().what()));
  if (!saved)
    to.context.log(saved.error().what());
}

}  // namespace tenure::guest
