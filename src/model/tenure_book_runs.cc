// SPDX-License-Identifier: Apache-2.0
// Guests and their runs. Libvirt writes op=start last (M9): the records before it belong to a run
// that is only then known to have begun, or not. So a run is pending from the first record of a
// start on.
#include <algorithm>

#include "model/tenure_book.h"

namespace tenure::model {
namespace {

using trail::Key;

void to_lower(std::string& text, size_t from) {
  for (size_t i = from; i < text.size(); ++i)
    if (text[i] >= 'A' && text[i] <= 'Z')
      text[i] = static_cast<char>(text[i] - 'A' + 'a');
}

}  // namespace

// Node and uuid are the key of a guest (corner 29); others' records without uuid go by name (31).
uint32_t TenureBook::guest_of(const trail::LineView& line) {
  std::string_view name = fields_.text(Key::Vm, scratch_);
  std::string_view uuid = fields_.raw(Key::Uuid);
  // Records of one guest come in bursts.
  bool same = !uuid.empty() && uuid == last_uuid_ && guests_[last_guest_].node.view() == line.node;
  if (!same) {
    last_guest_ = find_guest(line.node, uuid, name);
    last_uuid_ = uuid;
  }
  Guest& guest = guests_[last_guest_];
  if (guest.name.view() != name && !name.empty())
    guest.name = names_.intern(name);
  return last_guest_;
}

uint32_t TenureBook::find_guest(std::string_view node, std::string_view uuid,
                                std::string_view name) {
  key_.assign(node).append(1, '\n');
  size_t start = key_.size();
  if (uuid.empty())
    key_.append(1, '\n').append(name);
  else
    key_.append(uuid);
  if (!uuid.empty())
    to_lower(key_, start);
  auto at = guest_index_.find(key_);
  if (at == guest_index_.end()) {
    at = guest_index_.emplace(key_, static_cast<uint32_t>(guests_.size())).first;
    Guest& guest = guests_.emplace_back();
    guest.node = names_.intern(node);
    if (!uuid.empty())
      guest.uuid = names_.intern(std::string_view(key_).substr(start));
  }
  return at->second;
}

std::optional<uint32_t> TenureBook::open_run(uint32_t guest) const {
  const std::vector<uint32_t>& runs = guests_[guest].runs;
  if (runs.empty() || !runs_[runs.back()].open())
    return std::nullopt;
  return runs.back();
}

uint32_t TenureBook::new_run(const Event& event, Phase phase, uint64_t number) {
  Guest& guest = guests_[event.guest];
  auto at = static_cast<uint32_t>(runs_.size());
  guest.last_number = static_cast<uint32_t>(number);
  guest.runs.push_back(at);
  Run& run = runs_.emplace_back();
  run.node = guest.node;
  run.guest = guest.name;
  run.uuid = guest.uuid;
  run.number = guest.last_number;
  states_.push_back({.phase = phase,
                     .begun = false,
                     .denied_all = false,
                     .ledger = event.ledger,
                     .guest = event.guest,
                     .tenures = {}});
  return at;
}

// Ours number their runs.
uint32_t TenureBook::own_run(const Event& event) {
  const std::vector<uint32_t>& runs = guests_[event.guest].runs;
  for (auto at = runs.rbegin(); at != runs.rend(); ++at)
    if (runs_[*at].number == *event.number)
      return *at;
  if (auto old = open_run(event.guest))
    end_run(*old, event.at, "superseded", "superseded", Certainty::Inferred);
  return new_run(event, Phase::Pending, *event.number);
}

// True if the record begins a start anew although one was pending.
bool TenureBook::is_new_start(const RunState& state, bool deny_all) const {
  if (state.phase == Phase::Active)
    return true;
  if (state.phase != Phase::Pending)
    return false;
  bool machine_id = fields_.find(Key::Resrc) == nullptr;  // one for each security model comes first
  return (machine_id && state.begun) || (deny_all && state.denied_all);
}

// The run that a record belongs to. `starts`: libvirt writes it only while it starts a guest;
// `running`: only otherwise, or with `starts`.
uint32_t TenureBook::run_of_event(const Event& event, bool starts, bool running) {
  if (event.number && *event.number <= UINT32_MAX)
    return own_run(event);
  uint32_t next = guests_[event.guest].last_number + 1;
  Phase phase = starts ? Phase::Pending : running ? Phase::Active : Phase::Unsure;
  auto open = open_run(event.guest);
  if (!open)
    return new_run(event, phase, next);
  RunState& state = states_[*open];
  if (starts && is_new_start(state, fields_.raw(Key::Class) == "all")) {
    end_run(*open, event.at, "superseded", "superseded", Certainty::Inferred);
    return new_run(event, Phase::Pending, next);
  }
  bool settled = state.phase == Phase::Active;
  if (state.phase == Phase::Unsure || (!settled && phase == Phase::Active))
    state.phase = phase;
  runs_[*open].guest = guests_[event.guest].name;
  return *open;
}

void TenureBook::control(const Event& event) {
  std::string_view op = fields_.raw(Key::Op);
  if (op == "start" && event.success)
    started(event);
  else if (op == "start")
    start_failed(event);
  else if (op == "stop" && event.success)
    stopped(event);
  else if (event.number && *event.number <= UINT32_MAX && op != "policy")
    own_run(event);
}

void TenureBook::started(const Event& event) {
  uint32_t at = 0;
  if (event.number && *event.number <= UINT32_MAX) {
    at = own_run(event);
  } else {
    auto open = open_run(event.guest);
    if (open && states_[*open].phase == Phase::Active) {
      end_run(*open, event.at, "superseded", "superseded", Certainty::Inferred);
      open.reset();
    }
    at = open ? *open : new_run(event, Phase::Pending, guests_[event.guest].last_number + 1);
  }
  Run& run = runs_[at];
  if (run.ok || !run.open()) {
    ++counts_.duplicates;
    return;
  }
  run.ok = true;
  run.guest = guests_[event.guest].name;
  run.start = event.at;
  run.start_reason = names_.intern(event.reason);
  run.pid = fields_.number(Key::VmPid).value_or(0);
  states_[at].phase = Phase::Active;
}

// Libvirt writes success for each device of a start that fails (A1). Ours wrote what was really
// granted, with its release.
void TenureBook::start_failed(const Event& event) {
  uint32_t at = 0;
  bool ours = event.number && *event.number <= UINT32_MAX;
  auto open = open_run(event.guest);
  if (ours) {
    at = own_run(event);
  } else if (open && states_[*open].phase != Phase::Active) {
    at = *open;
  } else if (open) {
    ++counts_.unmatched;  // of a guest that runs: nothing of it has ended
    return;
  } else {
    at = new_run(event, Phase::Pending, guests_[event.guest].last_number + 1);
  }
  Run& run = runs_[at];
  if (!run.open()) {
    ++counts_.duplicates;
    return;
  }
  if (!ours)
    void_run(at);
  run.failed = true;
  run.start = event.at;
  run.start_reason = names_.intern(event.reason);
  run.end = event.at;
  run.end_reason = names_.intern("failed");
  run.certainty = Certainty::Exact;
  states_[at].phase = Phase::Ended;
}

void TenureBook::stopped(const Event& event) {
  uint32_t at = 0;
  if (event.number && *event.number <= UINT32_MAX) {
    at = own_run(event);
  } else {
    auto open = open_run(event.guest);
    at = open ? *open : new_run(event, Phase::Active, guests_[event.guest].last_number + 1);
  }
  Run& run = runs_[at];
  if (!run.open() && run.certainty == Certainty::Exact) {
    ++counts_.duplicates;
    return;
  }
  end_run(at, event.at, event.reason, "stop",
          run.start ? Certainty::Exact : Certainty::UnknownStart);
  auto from = fields_.number(Key::BoundFrom);
  auto to = fields_.number(Key::BoundTo);
  if (!event.number || !from || !to)
    return;
  run.end->time_ms = static_cast<int64_t>(*to);
  run.end_after = event.at;
  run.end_after->time_ms = static_cast<int64_t>(*from);
  run.certainty = Certainty::Bounded;
}

// Ends the run, and all that it holds, unless the ledger tells that better.
void TenureBook::end_run(uint32_t at, const Position& when, std::string_view reason,
                         std::string_view tenure_reason, Certainty certainty,
                         const std::optional<Position>& after) {
  Run& run = runs_[at];
  run.end = when;
  run.end_after = after;
  run.end_reason = names_.intern(reason);
  run.certainty = certainty;
  states_[at].phase = Phase::Ended;
  if (states_[at].ledger)
    return;
  Name why = names_.intern(tenure_reason);
  for (uint32_t one : states_[at].tenures) {
    Tenure& tenure = tenures_.slot(one);
    if (!tenure.open())
      continue;
    unindex(one);
    tenure.until = when;
    tenure.until_after = after;
    tenure.until_reason = why;
    tenure.certainty = after ? Certainty::Bounded : Certainty::Inferred;
  }
}

}  // namespace tenure::model
