// SPDX-License-Identifier: Apache-2.0
#include "registrar/operation.h"

#include <algorithm>
#include <ranges>
#include <utility>

namespace tenure::registrar {

void stamp(trail::Record& record, const RunRef& run, const Txn& txn) {
  record.set("virt", run.virt).set("vm", run.vm).set("uuid", run.uuid).set("txn", txn.id);
  if (run.run != 0)
    record.set("run", run.run);
  trail::set_requester(record, txn.who);
}

bool has_act(const model::Claim& claim) {
  using enum trail::Kind;
  trail::Kind kind = claim.record.kind;
  return kind == CgroupGroup || kind == CgroupAll || kind == CgroupMajor || kind == CgroupPath ||
         kind == FileAcl || kind == NetOpen;
}

asio::awaitable<Result<>> Operation::intend(std::vector<model::Claim> claims,
                                            trail::Record control) {
  std::vector<trail::Record> intents;
  intents.reserve(claims.size() + 1);
  for (model::Claim& claim : claims) {
    stamp(claim.record, run_, txn_);
    intents.push_back(claim.record);
  }
  stamp(control, run_, txn_);
  intents.push_back(std::move(control));
  std::vector<trail::Record> copies = intents;
  CO_TRY(uint64_t first, co_await journal_.intend(std::move(copies)));
  for (size_t i = 0; i < claims.size(); ++i)
    steps_.push_back({.hold = {.grant = first + i, .claim = std::move(claims[i])},
                      .state = State::Intended,
                      .intent = std::move(intents[i])});
  control_intent_ = first + steps_.size();
  co_return Result<>{};
}

trail::Record Operation::result_of(const Step& step, bool success) const {
  trail::Record record = step.hold.claim.record;
  record.set("grant", step.hold.grant);
  record.success = success;
  return record;
}

asio::awaitable<Result<>> Operation::apply() {
  std::vector<trail::Record> results;
  Result<> outcome;
  for (Step& step : steps_) {
    if (!has_act(step.hold.claim))
      continue;
    Result<kernel::Outcome> act = seams_.apply(step.hold.claim);
    step.state = act ? State::Granted : State::Failed;
    results.push_back(result_of(step, act.has_value()));
    if (act)
      continue;
    outcome = std::unexpected(std::move(act).error());
    break;
  }
  Result<> emitted = co_await journal_.emit(std::move(results));
  co_return outcome ? emitted : outcome;
}

std::vector<model::Claim*> Operation::unconfirmed() {
  std::vector<model::Claim*> claims;
  for (Step& step : steps_)
    if (step.state == State::Intended)
      claims.push_back(&step.hold.claim);
  return claims;
}

trail::Record Operation::finish(trail::Record control) {
  stamp(control, run_, txn_);
  if (auto intent = std::exchange(control_intent_, std::nullopt))
    control.set("grant", *intent);
  return control;
}

asio::awaitable<Result<>> Operation::conclude(trail::Record control) {
  std::vector<trail::Record> results;
  for (Step& step : steps_) {
    if (step.state != State::Intended)
      continue;
    step.state = State::Granted;
    results.push_back(result_of(step, true));
  }
  results.push_back(finish(std::move(control)));
  announced_ = true;
  CO_TRY_OK(co_await journal_.emit(std::move(results)));
  co_return co_await journal_.commit();
}

asio::awaitable<Result<>> Operation::roll_back(trail::Record control, const Error& why) {
  std::vector<trail::Record> untried;
  for (const Step& step : steps_) {
    if (step.state != State::Intended)
      continue;
    trail::Record intent = step.intent;
    intent.set("grant", step.hold.grant);
    untried.push_back(std::move(intent));
  }
  Result<> voided = journal_.withdraw(untried);
  std::erase_if(steps_, [](const Step& step) { return step.state == State::Intended; });
  std::vector<Hold> holds = take_holds();
  std::string reason = "rollback";
  std::string because;
  Result<std::vector<Hold>> left = co_await release(journal_, run_, txn_, seams_, std::move(holds),
                                                    std::move(reason), std::move(because));
  control.set("why", why.what());
  std::vector<trail::Record> last{finish(std::move(control))};
  Result<> emitted = co_await journal_.emit(std::move(last));
  Result<> committed = co_await journal_.commit();
  if (left)
    for (Hold& hold : *left) steps_.push_back({.hold = std::move(hold), .state = State::Granted});
  if (!voided)
    co_return voided;
  if (!left)
    co_return std::unexpected(std::move(left).error());
  co_return emitted ? committed : emitted;
}

std::vector<Hold> Operation::take_holds() {
  std::vector<Hold> holds;
  for (Step& step : steps_)
    // deny-all is an act, not a tenure: nothing is held by it.
    if (step.state == State::Granted && step.hold.claim.record.kind != trail::Kind::CgroupAll)
      holds.push_back(std::move(step.hold));
  steps_.clear();
  return holds;
}

void set_bounds(trail::Record& record, const Bounds& bounds) {
  record.set("bound-from", static_cast<uint64_t>(bounds.from_ms));
  record.set("bound-to", static_cast<uint64_t>(bounds.to_ms));
}

asio::awaitable<Result<std::vector<Hold>>> release(Journal& journal, RunRef run, Txn txn,
                                                   Seams& seams, std::vector<Hold> holds,
                                                   std::string reason, std::string why,
                                                   std::optional<Bounds> bounds) {
  std::vector<trail::Record> records;
  std::vector<Hold> left;
  while (!holds.empty()) {
    Hold hold = std::move(holds.back());
    holds.pop_back();
    Result<kernel::Outcome> act = kernel::Outcome::Changed;
    if (has_act(hold.claim))
      act = seams.withdraw(hold.claim, holds);
    trail::Record record = release_record(hold, reason);
    stamp(record, run, txn);
    record.success = act.has_value();
    if (!act)
      record.set("why", act.error().what());
    else if (!why.empty())
      record.set("why", why);
    bool ended_before = !has_act(hold.claim) || act == kernel::Outcome::Unchanged;
    if (bounds && ended_before)
      set_bounds(record, *bounds);
    records.push_back(std::move(record));
    if (!act)
      left.push_back(std::move(hold));
  }
  Result<> emitted = co_await journal.emit(std::move(records));
  // A release is never undone because its record was lost: the ledger has it, and the gap is
  // recorded.
  if (!emitted && emitted.error().code() != Errc::Lost)
    co_return std::unexpected(std::move(emitted).error());
  std::ranges::reverse(left);  // in the order of their grants again
  co_return left;
}

}  // namespace tenure::registrar
