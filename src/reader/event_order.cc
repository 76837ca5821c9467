// SPDX-License-Identifier: Apache-2.0
#include "reader/event_order.h"

#include <algorithm>
#include <iterator>

namespace tenure::reader {

void EventOrder::begin(SourceSet& set) {
  problems_ = set.problems;
  std::ranges::stable_partition(set.sources,
                                [](const Source& s) { return s.kind == SourceKind::Ledger; });
  for (const Source& source : set.sources) ledger_.push_back(source.kind == SourceKind::Ledger);
}

std::optional<Place> EventOrder::place(const Event& event) {
  const bool ledger = ledger_[event.source];
  if (ledger) {
    in_ledger_.add(event);
    next_[event.source] = event.offset + 1;
  } else if (in_ledger_.contains(event)) {
    return std::nullopt;
  }
  const Place place{.stream = ledger ? event.source + 1 : 0,
                    .order = ledger ? event.offset : ++logged_};
  gaps_[place.stream].event(event, place.order);
  return place;
}

void EventOrder::hand_over(Follower& follower) const {
  for (const auto& [source, next] : next_) follower.ledger_read_up_to(source, next);
}

std::vector<std::string> EventOrder::doubts(const TimeRange& range) {
  Reading facts;
  facts.damage = damage_;
  facts.problems = problems_;
  for (auto& [stream, finder] : gaps_) {
    auto gaps = finder.finish();
    std::ranges::move(gaps, std::back_inserter(facts.gaps));
  }
  return facts.doubts(range);
}

}  // namespace tenure::reader
