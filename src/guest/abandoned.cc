// SPDX-License-Identifier: Apache-2.0
#include "guest/abandoned.h"

#include <fmt/format.h>

#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <nlohmann/json.hpp>

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
  std::string status = info && info->is_object() ? info->value("status", "") : "";
  co_return status == "setup" || status == "active" || status == "device" || status == "cancelling";
}

// No event would come: the capability may not be set, or the event has passed.
asio::awaitable<void> cancel_migration(Borrower to) {
  json arguments = json::object();
  std::string command = "migrate_cancel";
  bool going_on = co_await is_migrating(to.qmp);
  if (going_on)
    (void)co_await ask(to.qmp, std::move(command), std::move(arguments));
  asio::steady_timer timer(to.context.executor);
  auto deadline = std::chrono::steady_clock::now() + kCancelTimeout;
  while (going_on && std::chrono::steady_clock::now() < deadline) {
    timer.expires_after(kLook);
    asio::error_code error;
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
    going_on = co_await is_migrating(to.qmp);
  }
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
  // Of a reboot that nobody waits for any more.
  json poweroff = {{"shutdown", "poweroff"}};
  std::string set_action = "set-action";
  (void)co_await ask(to.qmp, std::move(set_action), std::move(poweroff));
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
