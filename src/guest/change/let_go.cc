// SPDX-License-Identifier: Apache-2.0
#include "guest/change/let_go.h"

#include <fmt/format.h>

#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "guest/plan/plan.h"
#include "guest/run/ask.h"

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
  live.state.leaving[alias].txn = std::move(txn);  // heard stays: of the same device
  save_or_log(live);
}

void note_heard(Live& live, const std::string& alias) {
  auto found = live.state.leaving.find(alias);
  if (found == live.state.leaving.end() || std::exchange(found->second.heard, true))
    return;
  save_or_log(live);
}

void forget_request(Live& live, const std::string& alias) {
  if (live.state.leaving.erase(alias) > 0)
    save_or_log(live);
}

asio::awaitable<void> ask_again(Live& live) {
  std::vector<std::string> unheard;
  for (const auto& [alias, one] : live.state.leaving)
    if (!one.heard)
      unheard.push_back(alias);
  for (const std::string& alias : unheard) {
    qemu::Command command{"device_del", {{"id", alias}}};
    auto asked = co_await ask(live, std::move(command));
    // It refuses what it is asked for already (qdev_unplug() in softmmu/qdev-monitor.c).
    if (asked || !may_be_done(asked))
      note_heard(live, alias);
  }
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
