// SPDX-License-Identifier: Apache-2.0
#include "guest/change/let_go.h"

#include <fmt/format.h>

#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <set>
#include <string>

#include "guest/plan/plan.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 2s;
constexpr auto kPause = 10ms;

void save_or_log(Live& live) {
  Result<> saved = save_run(live.context.paths, live.state);
  if (!saved)
    live.context.log(fmt::format("{}: detach: {}", live.state.ref.vm, saved.error().what()));
}

bool is_closed(Live& live, const std::set<std::string>& names) {
  registrar::Others staying;
  for (const registrar::Hold& hold : live.holds)
    if (!names.contains(hold.claim.holder))
      staying.push_back(&hold.claim);
  return std::ranges::all_of(live.holds, [&](const registrar::Hold& hold) {
    return !names.contains(hold.claim.holder) || registrar::has_act(hold.claim) ||
           live.seams->confirm_gone(hold.claim, staying);
  });
}

}  // namespace

void note_request(Live& live, const std::string& alias, registrar::Txn txn) {
  live.state.leaving.insert_or_assign(alias, std::move(txn));
  save_or_log(live);
}

void forget_request(Live& live, const std::string& alias) {
  if (live.state.leaving.erase(alias) > 0)
    save_or_log(live);
}

asio::awaitable<void> wait_until_closed(Live& live, const domain::Domain& device) {
  if (device.shmems.empty() && device.hostdevs.empty())
    co_return;
  const std::set<std::string> names = holder_names(device);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  asio::steady_timer pause(live.context.executor);
  while (!is_closed(live, names) && std::chrono::steady_clock::now() < deadline) {
    pause.expires_after(kPause);
    asio::error_code error;
    co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
  }
}

}  // namespace tenure::guest
