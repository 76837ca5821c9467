// SPDX-License-Identifier: Apache-2.0
#include "guest/change/helper_end.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "guest/change/steps.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;
using registrar::Hold;

// Of what a helper of our own serves, not of a socket that somebody else's does.
bool is_served(const Hold& hold) {
  return hold.claim.record.kind == trail::Kind::Fs && hold.claim.record.get("helper-pid");
}

}  // namespace

asio::awaitable<void> forget_helper(Live& live, std::string alias,
                                    std::chrono::milliseconds patience) {
  std::string name = alias;
  Result<> ended =
      co_await end_helper(live.context.executor, *live.seams, std::move(name), patience);
  if (!ended)
    live.context.log(fmt::format("{}: {}", live.state.ref.vm, ended.error().what()));
  else
    live.state.helpers.erase(alias);  // saved with what ends it
}

asio::awaitable<Result<>> note_helper_ended(Live& live, std::string alias, std::string why,
                                            registrar::Txn txn) {
  live.seams->helpers().erase(alias);
  live.state.helpers.erase(alias);
  std::vector<Hold> going, staying;
  for (Hold& hold : live.holds)
    (is_served(hold) && hold.claim.holder == alias ? going : staying).push_back(std::move(hold));
  live.holds = std::move(staying);
  Result<> saved = save_run(live.context.paths, live.state);
  std::string reason = "close";
  if (!going.empty())
    CO_TRY_OK(co_await release_holds(live, std::move(going), std::move(reason), std::move(why),
                                     std::move(txn)));
  co_return saved;
}

asio::awaitable<Result<>> settle_helpers(Live& live, registrar::Txn txn) {
  std::set<std::string> held, idle, dead;
  for (const Hold& hold : live.holds)
    if (is_served(hold))
      held.insert(hold.claim.holder);
  for (const std::string& alias : held) {
    auto helper = live.seams->helpers().find(alias);
    if (helper == live.seams->helpers().end() || has_exited(helper->second))
      dead.insert(alias);
  }
  for (const auto& [alias, helper] : live.state.helpers)
    if (!held.contains(alias))
      idle.insert(alias);
  for (const std::string& alias : dead) {
    std::string name = alias, why = "recovered: its server ended while tenured did not run";
    registrar::Txn own = txn;
    CO_TRY_OK(co_await note_helper_ended(live, std::move(name), std::move(why), std::move(own)));
  }
  for (const std::string& alias : idle) {
    std::string name = alias;
    co_await forget_helper(live, std::move(name), 0ms);
  }
  co_return idle.empty() ? Result<>{} : save_run(live.context.paths, live.state);
}

}  // namespace tenure::guest
