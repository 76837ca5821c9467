// SPDX-License-Identifier: Apache-2.0
// What an interface is connected to. Its MAC is held at a bridge: another bridge is another tenure.
// That its link is up or down is no tenure, and recorded as a change of the guest's state.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "domain/change.h"
#include "domain/text.h"
#include "guest/change/steps.h"
#include "guest/change/update.h"
#include "guest/change/update_parts.h"
#include "guest/plan/plan.h"
#include "guest/run/run_seams.h"
#include "kernel/net_device.h"

namespace tenure::guest {
namespace {

using registrar::Hold;
using registrar::Txn;

// The definition has the interface like this from now on.
Result<> note_interface(Live& live, const domain::Interface& nic) {
  const std::string& alias = nic.info.alias;
  TRY(const std::string element, element_of(live.state, alias));
  auto known = std::ranges::find_if(live.domain->interfaces,
                                    [&](const auto& one) { return one.info.alias == alias; });
  if (known == live.domain->interfaces.end())
    return fail(Errc::NotFound, "no interface " + alias);
  *known = nic;
  std::string changed = domain::with_connection(element, nic);
  note_changed(live.state, alias, domain::pinned_element(*live.domain, alias, changed));
  return save_run(live.context.paths, live.state);
}

bool is_net_of(const Hold& hold, const std::string& alias) {
  return hold.claim.record.kind == trail::Kind::Net && hold.claim.holder == alias;
}

// The claim of the MAC at the bridge that the definition of `nic` names.
Result<model::Claim> net_claim(const Live& live, const domain::Interface& nic,
                               const std::string& ifname) {
  domain::Domain device = domain::only_device(*live.domain, nic.info.alias);
  device.interfaces.front() = nic;
  Plan plan = plan_devices(device, Facts{}, live.options, "update");
  for (model::Claim& claim : plan.claims) {
    if (claim.record.kind != trail::Kind::Net)
      continue;
    claim.record.set("ifname", ifname);
    return model::claim_of(std::move(claim.record));
  }
  return fail(Errc::Internal, nic.info.alias + ": nothing to claim");
}

// Moves the tap and records the tenure at the new bridge; back at the old one if that fails.
asio::awaitable<Result<Hold>> claim_at(Live& live, const domain::Interface& now,
                                       const domain::Interface& wanted, std::string ifname,
                                       Txn txn) {
  CO_TRY(model::Claim claim, net_claim(live, wanted, ifname));
  registrar::Operation operation(live.context.journal, live.state.ref, std::move(txn), *live.seams,
                                 &live.holds);
  std::vector<model::Claim> claims;
  claims.push_back(std::move(claim));
  CO_TRY_OK(co_await operation.intend(std::move(claims), std::nullopt));
  const kernel::MadeLink tap = link_of(*opened_link(live.holds, now.info.alias));
  auto moved = kernel::move_to_bridge(tap, wanted.bridge);
  Result<> done;
  if (!moved) {
    operation.refuse_unconfirmed();
    done = std::unexpected(std::move(moved).error());
  }
  if (done)
    done = co_await operation.conclude(std::nullopt);
  if (!done) {
    auto back = kernel::move_to_bridge(tap, now.bridge);
    if (!back)
      live.context.log(fmt::format("{}: {}", live.state.ref.vm, back.error().what()));
    Result<> undone = co_await operation.roll_back(std::nullopt, done.error());
    if (!undone)
      live.context.log(fmt::format("{}: update: {}", live.state.ref.vm, undone.error().what()));
    co_return std::unexpected(std::move(done).error());
  }
  std::vector<Hold> held = operation.take_holds();
  co_return std::move(held.front());
}

std::string ifname_of(const Live& live, const std::string& alias) {
  const model::Claim* opened = opened_link(live.holds, alias);
  return opened == nullptr ? "" : std::string(opened->record.get("ifname").value_or(""));
}

// The tenure that says where the interface is; if none does, the oldest, and the rest is drift.
const Hold* hold_to_keep(const Live& live, const std::string& alias, const std::string& master) {
  const Hold* oldest = nullptr;
  for (const Hold& hold : live.holds) {
    if (!is_net_of(hold, alias))
      continue;
    if (hold.claim.record.get("bridge") == master)
      return &hold;
    if (oldest == nullptr || hold.grant < oldest->grant)
      oldest = &hold;
  }
  return oldest;
}

asio::awaitable<Result<>> settle_bridge(Live& live, domain::Interface nic, Txn txn) {
  const std::string alias = nic.info.alias;
  auto master = kernel::link_master(ifname_of(live, alias));
  const Hold* stays = master ? hold_to_keep(live, alias, *master) : nullptr;
  if (stays == nullptr)
    co_return Result<>{};
  const uint64_t grant = stays->grant;
  const std::string bridge(stays->claim.record.get("bridge").value_or(""));
  std::vector<Hold> going;
  for (size_t i = live.holds.size(); i-- > 0;) {
    if (!is_net_of(live.holds[i], alias) || live.holds[i].grant == grant)
      continue;
    going.push_back(std::move(live.holds[i]));
    live.holds.erase(live.holds.begin() + static_cast<std::ptrdiff_t>(i));
  }
  if (!going.empty()) {
    std::string reason = "update";
    std::string why = "recovered: it is a port of " + (master->empty() ? "no bridge" : *master);
    CO_TRY_OK(co_await release_holds(live, std::move(going), std::move(reason), std::move(why),
                                     std::move(txn)));
  }
  if (nic.bridge == bridge || bridge.empty())
    co_return Result<>{};
  nic.bridge = bridge;
  co_return note_interface(live, nic);
}

asio::awaitable<Result<>> change_bridge(Live& live, const domain::Interface& now,
                                        const domain::Interface& wanted, Txn txn) {
  auto old = std::ranges::find_if(
      live.holds, [&](const Hold& hold) { return is_net_of(hold, now.info.alias); });
  std::string ifname = ifname_of(live, now.info.alias);
  if (old == live.holds.end() || ifname.empty())
    co_return fail(Errc::NotFound, now.info.alias + ": its interface on the host is not known");
  uint64_t ends = old->grant;
  Txn own = txn;
  CO_TRY(Hold begun, co_await claim_at(live, now, wanted, std::move(ifname), std::move(own)));
  auto ended = std::ranges::find(live.holds, ends, &Hold::grant);
  std::vector<Hold> going;
  going.push_back(std::move(*ended));
  live.holds.erase(ended);
  live.holds.push_back(std::move(begun));
  registrar::Ending ending{.reason = "update", .why = "", .bounds = {}, .staying = &live.holds};
  auto left = co_await registrar::release(live.context.journal, live.state.ref, std::move(txn),
                                          *live.seams, std::move(going), std::move(ending));
  Result<> committed = co_await live.context.journal.commit();
  Result<> noted = note_interface(live, wanted);
  if (noted && !left)
    noted = std::unexpected(std::move(left).error());
  if (noted)
    noted = std::move(committed);
  if (!noted)
    co_return std::unexpected(std::move(noted).error().context(
        fmt::format("{} is a port of {} now, but", wanted.info.alias, wanted.bridge)));
  co_return Result<>{};
}

asio::awaitable<Result<>> change_link(Live& live, const domain::Interface& wanted, Txn txn) {
  std::vector<qemu::Command> commands;
  commands.push_back({"set_link", {{"name", wanted.info.alias}, {"up", *wanted.link_up}}});
  auto answer = co_await ask(live, std::move(commands.front()));
  trail::Record record = link_record(live.state, live.domain->kvm, wanted);
  record.success = answer.has_value();
  if (!answer)
    record.set("why", answer.error().what());
  registrar::stamp(record, live.state.ref, txn);
  std::vector<trail::Record> records{std::move(record)};
  Result<> written = co_await live.context.journal.write(std::move(records));
  // Nothing was gained by it.
  if (!written)
    live.context.log(fmt::format("{}: link: {}", live.state.ref.vm, written.error().what()));
  if (!answer)
    co_return std::unexpected(std::move(answer).error());
  co_return note_interface(live, wanted);
}

}  // namespace

trail::Record link_record(const RunState& state, bool kvm, const domain::Interface& nic) {
  trail::Record record =
      control_record("link", nic.link_up.value_or(true) ? "up" : "down", state, kvm);
  record.set("device", nic.info.alias).set("net", nic.mac);
  return record;
}

asio::awaitable<Result<>> settle_bridges(Live& live, Txn txn) {
  const std::vector<domain::Interface> nics = live.domain->interfaces;
  for (const domain::Interface& nic : nics) {
    if (nic.kind != domain::InterfaceKind::Bridge)
      continue;
    domain::Interface one = nic;
    Txn own = txn;
    CO_TRY_OK(co_await settle_bridge(live, std::move(one), std::move(own)));
  }
  co_return Result<>{};
}

asio::awaitable<Result<std::vector<std::string>>> change_connection(Live& live,
                                                                    domain::Interface nic,
                                                                    Txn txn) {
  auto known = std::ranges::find_if(
      live.domain->interfaces, [&](const auto& one) { return one.info.alias == nic.info.alias; });
  if (known == live.domain->interfaces.end())
    co_return fail(Errc::NotFound, "no interface " + nic.info.alias);
  domain::Interface now = *known;
  std::vector<std::string> changes;
  if (nic.bridge != now.bridge) {
    domain::Interface moved = now;
    moved.bridge = nic.bridge;
    Txn own = txn;
    CO_TRY_OK(co_await change_bridge(live, now, moved, std::move(own)));
    changes.emplace_back("bridge");
  }
  if (nic.link_up.value_or(true) != now.link_up.value_or(true)) {
    CO_TRY_OK(co_await change_link(live, nic, std::move(txn)));
    changes.emplace_back("link");
  }
  co_return changes;
}

}  // namespace tenure::guest
