// SPDX-License-Identifier: Apache-2.0
#include "guest/change/amount.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "guest/run/ask.h"
#include "guest/run/confirm.h"

namespace tenure::guest {
namespace {

using nlohmann::json;
using registrar::Hold;
using registrar::Txn;
using trail::Kind;

struct Amount {
  Kind kind;
  const char* old_key;
  const char* new_key;
};
constexpr Amount kAmounts[] = {{Kind::Mem, "old-mem", "new-mem"},
                               {Kind::Vcpu, "old-vcpu", "new-vcpu"},
                               {Kind::Iothread, "old-iothread", "new-iothread"}};

uint64_t held_amount(const Live& live, Kind kind) {
  for (const Hold& hold : live.holds)
    if (hold.claim.record.kind == kind && hold.claim.holder.empty())
      return parse_int<uint64_t>(hold.claim.id).value_or(0);
  return 0;
}

model::Claim claim_of_amount(Kind kind, uint64_t from, uint64_t to, std::string_view reason) {
  auto row = std::ranges::find(kAmounts, kind, &Amount::kind);
  trail::Record record(kind);
  record.set("reason", reason).set(row->old_key, from).set(row->new_key, to);
  return model::claim_of(std::move(record));
}

using Act = std::function<asio::awaitable<Result<>>()>;

// Intent, act, result; the tenure of the new amount takes the place of the old one's.
asio::awaitable<Result<>> change(Live& live, model::Claim claim, Txn txn, Act act) {
  registrar::Operation operation(live.context.journal, live.state.ref, std::move(txn), *live.seams,
                                 &live.holds);
  std::vector<model::Claim> claims{std::move(claim)};
  CO_TRY_OK(co_await operation.intend(std::move(claims), std::nullopt));
  Result<> done = co_await act();
  if (!done) {
    operation.refuse_unconfirmed();
    Result<> told = co_await operation.roll_back(std::nullopt, done.error());
    if (!told)
      live.context.log(fmt::format("{}: {}", live.state.ref.vm, told.error().what()));
    co_return done;
  }
  Result<> concluded = co_await operation.conclude(std::nullopt);
  for (Hold& hold : operation.take_holds()) registrar::add_hold(live.holds, std::move(hold));
  co_return concluded;
}

// QEMU has it already. `device` is the one that it came or went by, "" for none.
asio::awaitable<Result<>> note(Live& live, Kind kind, uint64_t amount, std::string_view reason,
                               Txn txn, std::string device = "", std::string why = "") {
  uint64_t before = held_amount(live, kind);
  if (before == amount)
    co_return Result<>{};
  model::Claim claim = claim_of_amount(kind, before, amount, reason);
  if (!device.empty())
    claim.record.set("device", device);
  if (!why.empty())
    claim.record.set("why", why);
  Act nothing = []() -> asio::awaitable<Result<>> { co_return Result<>{}; };
  co_return co_await change(live, std::move(claim), std::move(txn), std::move(nothing));
}

// The request itself, with what came of it.
asio::awaitable<Result<>> record_request(Live& live, std::string_view op, uint64_t target, Txn txn,
                                         Result<> outcome) {
  trail::Record record = control_record(op, "requested", live.state, live.domain->kvm);
  record.set("target", target);
  record.success = outcome.has_value();
  if (!outcome)
    record.set("why", outcome.error().what());
  registrar::stamp(record, live.state.ref, txn);
  std::vector<trail::Record> records{std::move(record)};
  Result<> written = co_await live.context.journal.write(std::move(records));
  co_return outcome ? written : outcome;
}

asio::awaitable<Result<json>> query(Live& live, std::string_view name) {
  qemu::Command command{std::string(name), json::object()};
  co_return co_await ask(live, std::move(command));
}

// What the guest has by QEMU's word.
asio::awaitable<Result<uint64_t>> reported_memory_kib(Live& live) {
  CO_TRY(json summary, co_await query(live, "query-memory-size-summary"));
  json balloon;
  if (auto answer = co_await query(live, "query-balloon"))  // an error without one
    balloon = std::move(*answer);
  uint64_t kib = 0;
  try {
    kib = memory_kib_of(summary, balloon);
  } catch (const json::exception& error) {
    co_return fail(Errc::Corrupt, fmt::format("memory of the guest: {}", error.what()));
  }
  if (kib == 0)
    co_return fail(Errc::Corrupt, "query-memory-size-summary: QEMU reports no memory");
  co_return kib;
}

asio::awaitable<Result<uint64_t>> count(Live& live, std::string_view name) {
  CO_TRY(json list, co_await query(live, name));
  if (!list.is_array())
    co_return fail(Errc::Corrupt, fmt::format("{}: QEMU's answer is no list", name));
  co_return list.size();
}

// A place for a vCPU, as query-hotpluggable-cpus lists them: the highest first.
struct Slot {
  std::string type;
  json props;
  std::string qom_path;  // "" for an empty one
};

asio::awaitable<Result<std::vector<Slot>>> vcpu_slots(Live& live) {
  CO_TRY(json list, co_await query(live, "query-hotpluggable-cpus"));
  std::vector<Slot> slots;
  for (const json& entry : list)
    if (entry.is_object() && entry.contains("props"))
      slots.push_back({.type = entry.value("type", ""),
                       .props = entry["props"],
                       .qom_path = entry.value("qom-path", "")});
  co_return slots;
}

asio::awaitable<Result<>> plug_vcpu(Live& live, uint64_t number) {
  CO_TRY(std::vector<Slot> slots, co_await vcpu_slots(live));
  std::ranges::reverse(slots);
  auto free = std::ranges::find(slots, "", &Slot::qom_path);
  if (free == slots.end())
    co_return fail(Errc::Unsupported, "QEMU has no free place for a vCPU");
  json arguments = free->props;
  arguments["driver"] = free->type;
  arguments["id"] = fmt::format("vcpu{}", number);
  qemu::Command command{"device_add", std::move(arguments)};
  CO_TRY_OK(co_await ask(live, std::move(command)));
  CO_TRY(uint64_t now, co_await count(live, "query-cpus-fast"));
  if (now != number + 1)
    co_return fail(Errc::Internal, fmt::format("QEMU reports {} vCPUs", now));
  co_return Result<>{};
}

// QEMU 7.2 under TCG answers the unplug, and crashes of it some devices later.
asio::awaitable<Result<>> unplug_vcpu(Live& live, uint64_t number, Patience patience) {
  if (!live.domain->kvm)
    co_return fail(Errc::Unsupported, "vCPUs cannot be taken from a guest that runs under TCG");
  CO_TRY(std::vector<Slot> slots, co_await vcpu_slots(live));
  auto last = std::ranges::find_if(slots, [](const Slot& slot) { return !slot.qom_path.empty(); });
  if (last == slots.end())
    co_return fail(Errc::Internal, "QEMU reports no vCPU that could go");
  auto gone = live.events.expect([path = last->qom_path](const qemu::QmpEvent& event) {
    return (event.name == "DEVICE_DELETED" || event.name == "DEVICE_UNPLUG_GUEST_ERROR") &&
           event.data->value("path", "") == path;
  });
  qemu::Command command{"device_del", {{"id", last->qom_path}}};
  CO_TRY_OK(co_await ask(live, std::move(command)));
  auto answer = co_await gone->wait(patience.timeout);
  CO_TRY(uint64_t now, co_await count(live, "query-cpus-fast"));
  if (now + 1 == number)
    co_return Result<>{};
  if (answer && answer->name == "DEVICE_UNPLUG_GUEST_ERROR")
    co_return fail(Errc::Busy, fmt::format("the guest keeps its vCPU; it has {}", now));
  co_return fail(Errc::Timeout,
                 fmt::format("the guest has not given a vCPU back within {} ms; it has {}",
                             patience.timeout.count(), now));
}

asio::awaitable<Result<>> step_vcpus(Live& live, uint32_t target, Patience patience, Txn txn) {
  for (;;) {
    CO_TRY(uint64_t now, co_await count(live, "query-cpus-fast"));
    if (now == target)
      co_return Result<>{};
    bool more = now < target;
    model::Claim claim = claim_of_amount(Kind::Vcpu, now, more ? now + 1 : now - 1, "update");
    Act act = [&live, now, more, patience]() -> asio::awaitable<Result<>> {
      if (more)
        co_return co_await plug_vcpu(live, now);
      co_return co_await unplug_vcpu(live, now, patience);
    };
    CO_TRY_OK(co_await change(live, std::move(claim), txn, std::move(act)));
  }
}

asio::awaitable<Result<>> step_iothreads(Live& live, uint32_t target, Txn txn) {
  for (;;) {
    CO_TRY(uint64_t now, co_await count(live, "query-iothreads"));
    if (now == target)
      co_return Result<>{};
    bool more = now < target;
    model::Claim claim = claim_of_amount(Kind::Iothread, now, more ? now + 1 : now - 1, "update");
    Act act = [&live, now, more]() -> asio::awaitable<Result<>> {
      json arguments = {{"id", fmt::format("iothread{}", more ? now + 1 : now)}};
      if (more)
        arguments["qom-type"] = "iothread";
      qemu::Command command{more ? "object-add" : "object-del", std::move(arguments)};
      auto done = co_await ask(live, std::move(command));
      if (!done)
        co_return std::unexpected(std::move(done).error());
      co_return Result<>{};
    };
    CO_TRY_OK(co_await change(live, std::move(claim), txn, std::move(act)));
  }
}

// A balloon gives back what it took; more than that comes by modules, and only if somebody says so:
// the guest's answer to either is another.
std::string way_to_more(const domain::Domain& domain, uint64_t kib) {
  uint64_t has = domain::total_memory_kib(domain);
  if (!domain.max_memory || domain.memories.size() >= domain.max_memory->slots || kib <= has ||
      kib > domain.max_memory->kib)
    return "";
  return fmt::format("; more comes by modules: `tenure attach {} memory {}KiB`", domain.name,
                     kib - has);
}

Result<> check_monitor(const Live& live) {
  if (!live.qmp)
    return fail(Errc::Unsupported, "set: no monitor to this guest");
  return {};
}

}  // namespace

asio::awaitable<Result<>> set_memory(Live& live, uint64_t kib, Txn txn) {
  CO_TRY_OK(check_monitor(live));
  uint64_t most = domain::total_memory_kib(*live.domain);
  if (kib == 0 || kib > most)
    co_return fail(Errc::Invalid, fmt::format("memory={}KiB: the guest has between 1 and {} KiB{}",
                                              kib, most, way_to_more(*live.domain, kib)));
  live.balloon_txn = txn;
  qemu::Command command{"balloon", {{"value", kib * 1024}}};
  auto answer = co_await ask(live, std::move(command));
  Result<> outcome;
  if (!answer)
    outcome = std::unexpected(std::move(answer).error());
  co_return co_await record_request(live, "set-memory", kib, std::move(txn), std::move(outcome));
}

std::optional<uint64_t> balloon_at_start(const domain::Domain& domain) {
  bool less = domain.current_memory_kib < domain::total_memory_kib(domain);
  return less && domain::has_balloon(domain) ? std::optional(domain.current_memory_kib)
                                             : std::nullopt;
}

std::string ignored_current_memory(const domain::Domain& domain) {
  if (domain.current_memory_kib >= domain::total_memory_kib(domain) || domain::has_balloon(domain))
    return "";
  return fmt::format(
      "<currentMemory> of {} KiB is ignored: without a balloon the guest has all {} KiB",
      domain.current_memory_kib, domain::total_memory_kib(domain));
}

asio::awaitable<Result<>> set_vcpus(Live& live, uint32_t target, Patience patience, Txn txn) {
  CO_TRY_OK(check_monitor(live));
  if (target == 0 || target > live.domain->vcpus)
    co_return fail(Errc::Invalid, fmt::format("vcpus={}: the guest has between 1 and {}", target,
                                              live.domain->vcpus));
  Result<> outcome = co_await step_vcpus(live, target, patience, txn);
  co_return co_await record_request(live, "set-vcpus", target, std::move(txn), std::move(outcome));
}

asio::awaitable<Result<>> set_iothreads(Live& live, uint32_t target, Txn txn) {
  CO_TRY_OK(check_monitor(live));
  constexpr uint32_t kMaxIothreads = 1024;
  if (target > kMaxIothreads)
    co_return fail(Errc::Invalid, fmt::format("iothreads={}: at most {}", target, kMaxIothreads));
  Result<> outcome = co_await step_iothreads(live, target, txn);
  co_return co_await record_request(live, "set-iothreads", target, std::move(txn),
                                    std::move(outcome));
}

uint64_t held_memory_kib(const Live& live) {
  return held_amount(live, Kind::Mem);
}

asio::awaitable<Result<>> note_reported_memory(Live& live, std::string device, std::string why,
                                               Txn txn) {
  CO_TRY(uint64_t kib, co_await reported_memory_kib(live));
  co_return co_await note(live, Kind::Mem, kib, "update", std::move(txn), std::move(device),
                          std::move(why));
}

asio::awaitable<Result<>> note_memory(Live& live, uint64_t kib, Txn txn) {
  co_return co_await note(live, Kind::Mem, kib, "balloon", std::move(txn));
}

asio::awaitable<Result<>> note_amounts(Live& live, Txn txn) {
  CO_TRY(uint64_t vcpus, co_await count(live, "query-cpus-fast"));
  CO_TRY_OK(co_await note(live, Kind::Vcpu, vcpus, "recovered", txn));
  CO_TRY(uint64_t iothreads, co_await count(live, "query-iothreads"));
  CO_TRY_OK(co_await note(live, Kind::Iothread, iothreads, "recovered", txn));
  CO_TRY(uint64_t kib, co_await reported_memory_kib(live));
  co_return co_await note(live, Kind::Mem, kib, "recovered", std::move(txn));
}

}  // namespace tenure::guest
