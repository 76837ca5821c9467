// SPDX-License-Identifier: Apache-2.0
#include "registrar/operation.h"

#include <algorithm>
#include <ranges>
#include <utility>

#include "registrar/offload.h"

namespace tenure::registrar {

void stamp(trail::Record& record, const RunRef& run, const Txn& txn) {
  record.set("virt", run.virt).set("vm", run.vm).set("uuid", run.uuid).set("txn", txn.id);
  if (run.run != 0)
    record.set("run", run.run);
  trail::set_requester(record, txn.who);
}

void add_hold(std::vector<Hold>& holds, Hold hold) {
  std::erase_if(holds, [&](const Hold& h) { return model::replaces(hold.claim, h.claim); });
  if (!model::replaces(hold.claim, hold.claim) || hold.claim.id != "0")
    holds.push_back(std::move(hold));
}

bool has_act(const model::Claim& claim) {
  using enum trail::Kind;
  trail::Kind kind = claim.record.kind;
  return kind == CgroupGroup || kind == CgroupAll || kind == CgroupMajor || kind == CgroupPath ||
         kind == FileAcl || kind == NetOpen || kind == Driver;
}

asio::awaitable<Result<>> Operation::intend(std::vector<model::Claim> claims,
                                            std::optional<trail::Record> control) {
  std::vector<trail::Record> intents;
  intents.reserve(claims.size() + 1);
  for (model::Claim& claim : claims) {
    stamp(claim.record, run_, txn_);
    intents.push_back(claim.record);
  }
  if (control) {
    stamp(*control, run_, txn_);
    intents.push_back(*control);
  }
  std::vector<trail::Record> copies = intents;
  CO_TRY(uint64_t first, co_await journal_.intend(std::move(copies)));
  for (size_t i = 0; i < claims.size(); ++i)
    steps_.push_back({.hold = {.grant = first + i, .claim = std::move(claims[i])},
                      .state = State::Intended,
                      .intent = std::move(intents[i])});
  if (control)
    control_intent_ = first + claims.size();
  co_return Result<>{};
}

trail::Record Operation::result_of(const Step& step, bool success) const {
  trail::Record record = step.hold.claim.record;
  record.set("grant", step.hold.grant);
  record.success = success;
  return record;
}

Others Operation::others() const {
  Others others;
  if (held_ != nullptr)
    for (const Hold& hold : *held_) others.push_back(&hold.claim);
  return others;
}

asio::awaitable<Result<>> Operation::apply() {
  std::vector<trail::Record> results;
  Result<> outcome;
  Others held = others();
  for (Step& step : steps_) {
    if (!has_act(step.hold.claim))
      continue;
    if (step.state != State::Intended) {  // by an earlier call
      held.push_back(&step.hold.claim);
      continue;
    }
    auto slow = seams_.slow_apply(step.hold.claim);
    Result<kernel::Outcome> act = kernel::Outcome::Unchanged;
    if (slow)
      act = co_await offload(journal_.pool(), std::move(slow));
    else
      act = seams_.apply(step.hold.claim, held);
    step.state = act ? State::Granted : State::Failed;
    results.push_back(result_of(step, act.has_value()));
    if (!act) {
      outcome = std::unexpected(std::move(act).error());
      break;
    }
    held.push_back(&step.hold.claim);
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

void Operation::refuse_unconfirmed() {
  for (Step& step : steps_)
    if (step.state == State::Intended)
      step.state = State::Refused;
}

trail::Record Operation::finish(trail::Record control) {
  stamp(control, run_, txn_);
  if (auto intent = std::exchange(control_intent_, std::nullopt))
    control.set("grant", *intent);
  return control;
}

asio::awaitable<Result<>> Operation::conclude(std::optional<trail::Record> control) {
  std::vector<trail::Record> results;
  for (Step& step : steps_) {
    if (step.state != State::Intended)
      continue;
    step.state = State::Granted;
    results.push_back(result_of(step, true));
  }
  if (control)
    results.push_back(finish(std::move(*control)));
  announced_ = true;
  CO_TRY_OK(co_await journal_.emit(std::move(results)));
  co_return co_await journal_.commit();
}

// The untried, for their void entries; the operation forgets them.
std::vector<trail::Record> Operation::untried() {
  std::vector<trail::Record> records;
  for (const Step& step : steps_) {
    if (step.state != State::Intended)
      continue;
    trail::Record intent = step.intent;
    intent.set("grant", step.hold.grant);
    records.push_back(std::move(intent));
  }
  std::erase_if(steps_, [](const Step& step) { return step.state == State::Intended; });
  return records;
}

std::vector<trail::Record> Operation::refusals(const Error& why) {
  std::vector<trail::Record> records;
  for (const Step& step : steps_)
    if (step.state == State::Refused)
      records.push_back(result_of(step, false).set("why", why.what()));
  return records;
}

// What QEMU has all the same, though it was not to have it: a tenure until it lets go.
std::vector<trail::Record> Operation::kept(const Error& why) {
  std::vector<trail::Record> records;
  Others staying = others();
  for (Step& step : steps_) {
    bool of_qemu = step.state == State::Intended || step.state == State::Refused;
    if (!of_qemu || has_act(step.hold.claim) || seams_.confirm_gone(step.hold.claim, staying))
      continue;
    step.state = State::Granted;
    records.push_back(
        result_of(step, true).set("why", "it failed, and QEMU has it: " + why.what()));
  }
  return records;
}

asio::awaitable<Result<>> Operation::roll_back(std::optional<trail::Record> control,
                                               const Error& why) {
  std::vector<trail::Record> refused = kept(why);
  Result<> voided = journal_.withdraw(untried());
  std::ranges::move(refusals(why), std::back_inserter(refused));
  Result<> told = co_await journal_.emit(std::move(refused));
  std::vector<Hold> holds = take_holds();
  Ending ending{.reason = "rollback", .why = "", .bounds = {}, .staying = held_};
  Result<std::vector<Hold>> left =
      co_await release(journal_, run_, txn_, seams_, std::move(holds), std::move(ending));
  std::vector<trail::Record> last;
  if (control)
    last.push_back(finish(std::move(control->set("why", why.what()))));
  Result<> emitted = co_await journal_.emit(std::move(last));
  Result<> committed = co_await journal_.commit();
  if (left)
    for (Hold& hold : *left) steps_.push_back({.hold = std::move(hold), .state = State::Granted});
  if (!voided)
    co_return voided;
  if (!left)
    co_return std::unexpected(std::move(left).error());
  if (!told)
    co_return told;
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

namespace {

// A tenure on its way to its end.
struct Taking {
  trail::Record record;
  Result<kernel::Outcome> act = kernel::Outcome::Unchanged;
};

// First all acts, the last grant first; what a claim shares with earlier ones stays for them. Then
// what QEMU should have let go of is looked at.
asio::awaitable<std::vector<Taking>> take_away(asio::thread_pool& pool, Seams& seams,
                                               const std::vector<Hold>& holds,
                                               const Ending& ending) {
  std::vector<Taking> takings;
  Others others;
  if (ending.staying != nullptr)
    for (const Hold& hold : *ending.staying) others.push_back(&hold.claim);
  for (const Hold& hold : holds) {
    takings.push_back({.record = release_record(hold, ending.reason)});
    others.push_back(&hold.claim);
  }
  for (size_t i = holds.size(); i-- > 0;) {
    others.pop_back();
    if (!has_act(holds[i].claim))
      continue;
    auto slow = seams.slow_withdraw(holds[i].claim, takings[i].record);
    if (slow)
      takings[i].act = co_await offload(pool, std::move(slow));
    else
      takings[i].act = seams.withdraw(holds[i].claim, others, takings[i].record);
  }
  for (size_t i = 0; i < holds.size(); ++i) {
    if (has_act(holds[i].claim))
      continue;
    Result<> gone = seams.confirm_gone(holds[i].claim, others);
    if (!gone)
      takings[i].act = std::unexpected(std::move(gone).error());
  }
  co_return takings;
}

}  // namespace

asio::awaitable<Result<std::vector<Hold>>> release(Journal& journal, RunRef run, Txn txn,
                                                   Seams& seams, std::vector<Hold> holds,
                                                   Ending ending) {
  std::vector<Taking> takings = co_await take_away(journal.pool(), seams, holds, ending);
  std::vector<trail::Record> records;
  std::vector<Hold> left;
  for (size_t i = holds.size(); i-- > 0;) {
    Taking& taking = takings[i];
    trail::Record& record = taking.record;
    if (ending.repeated && !taking.act && holds[i].kept == taking.act.error().what()) {
      left.push_back(std::move(holds[i]));
      continue;
    }
    stamp(record, run, txn);
    record.success = taking.act.has_value();
    if (!taking.act)
      record.set("why", taking.act.error().what());
    else if (!ending.why.empty())
      record.set("why", ending.why);
    if (ending.bounds && taking.act == kernel::Outcome::Unchanged)
      set_bounds(record, *ending.bounds);
    records.push_back(std::move(record));
    if (taking.act)
      continue;
    left.push_back(std::move(holds[i]));
    left.back().kept = taking.act.error().what();
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
