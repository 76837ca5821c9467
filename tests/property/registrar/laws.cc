// SPDX-License-Identifier: Apache-2.0
#include "tests/property/registrar/laws.h"

#include "base/text.h"

namespace tenure::test {

using trail::EntryState;
using trail::Kind;

void Laws::blame(uint64_t index, const std::string& what) {
  violations_.push_back("entry " + std::to_string(index) + ": " + what);
}

void Laws::read(const std::vector<std::string>& entries) {
  for (; read_ < entries.size(); ++read_) {
    auto view = trail::decode_line(entries[read_]);
    auto record = view ? trail::decode_record(*view) : fail(Errc::Corrupt, "not a line");
    if (!record || !view->state) {
      blame(read_, "is not an entry");
      continue;
    }
    book_.apply(*view, read_);
    entry({.index = read_, .state = *view->state, .record = std::move(*record)});
  }
  const model::BookCounts& counts = book_.counts();
  if (counts.unmatched + counts.unknown + counts.damaged != 0)
    blame(read_, "the tenure book finds an end without a beginning, or what it does not know");
}

void Laws::entry(const Line& line) {
  if (line.state == EntryState::Intent) {
    grants_.emplace(line.index, Grant{line.record.kind, line.get("uuid"), line.get("txn")});
    return;
  }
  if (line.state == EntryState::Confirmed)
    ++confirmed_;
  if (line.state == EntryState::Unconfirmed || line.state == EntryState::Unsent)
    ++unconfirmed_;
  if (line.record.kind == Kind::Gap)
    in_gaps_ += parse_int<uint64_t>(line.get("count")).value_or(0);
  if (!line.record.get("grant")) {
    if (registrar::has_act(model::claim_of(line.record)))
      blame(line.index, "names no grant");
    return;
  }
  auto grant = grants_.find(parse_int<uint64_t>(line.get("grant")).value_or(UINT64_MAX));
  if (grant == grants_.end())
    return blame(line.index, "its grant is not an intent before it");
  if (grant->second.kind != line.record.kind || grant->second.uuid != line.get("uuid"))
    return blame(line.index, "its grant is another thing's");
  if (line.state == EntryState::Confirmed || line.state == EntryState::Void)
    shaky_.erase(grant->first);
  else
    shaky_.insert(grant->first);
  answer(line, grant->second);
}

void Laws::answer(const Line& line, Grant& grant) {
  bool first = grant.phase == Phase::Intended;
  if (line.state == EntryState::Void) {
    if (!first)
      blame(line.index, "voids what has its result");
    grant.phase = Phase::Void;
    return;
  }
  if (first)
    begin(line, grant);
  else
    end(line, grant);
}

void Laws::begin(const Line& line, Grant& grant) {
  if (grant.txn != line.get("txn"))
    blame(line.index, "answers an intent of another operation");
  bool tenure = line.record.kind != Kind::Control && line.record.kind != Kind::CgroupAll;
  if (!line.record.success)
    grant.phase = Phase::Failed;
  else
    grant.phase = tenure ? Phase::Held : Phase::Settled;
  model::Claim claim = model::claim_of(line.record);
  if (!registrar::has_act(claim))
    return;
  Truth truth = truth_(grant.uuid);
  if (line.record.success && !truth.applied.contains(key_of(claim)))
    blame(line.index, "says success of what was never done");
  if (!line.record.success && !truth.refused.contains(key_of(claim)))
    blame(line.index, "says failed of what was never refused");
}

void Laws::end(const Line& line, Grant& grant) {
  if (grant.phase != Phase::Held)
    return blame(line.index, "ends what is not held");
  if (!line.record.success)
    return;
  grant.phase = Phase::Released;
  model::Claim claim = model::claim_of(line.record);
  if (registrar::has_act(claim) && !truth_(grant.uuid).withdrawn.contains(key_of(claim)))
    blame(line.index, "says released of what was never taken away");
}

void Laws::expect_closed() {
  for (const auto& [index, grant] : grants_) {
    if (grant.phase == Phase::Held)
      blame(index, "its grant was never released");
    if (grant.phase == Phase::Intended)
      blame(index, "its intent was never answered");
  }
  if (!book_.open_intents().empty())
    blame(read_, "the tenure book has open intents");
}

}  // namespace tenure::test
