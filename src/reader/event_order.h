// SPDX-License-Identifier: Apache-2.0
// Where each event of several sources stands, for commands that show events as they come.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "reader/follow.h"
#include "reader/gaps.h"
#include "reader/reading.h"

namespace tenure::reader {

struct Place {
  uint32_t stream = 0;  // 0: all logs together; of a ledger, its source + 1
  uint64_t order = 0;   // a ledger's index, by which grants are named; of logs, the count
};

// Puts events into their streams, once each: what a ledger and audit.log both have is the ledger's.
// Notes what makes an answer doubtful on the way. One thread.
class EventOrder {
 public:
  // Before the first event. Moves the ledgers of `set` to its front, so that they are read first.
  void begin(SourceSet& set);

  // Nothing if a ledger has told the event already.
  std::optional<Place> place(const Event& event);
  // Damage that came with a batch.
  void add(const DamageLog& damage) { damage_.merge(damage); }

  // `follower` goes on behind the ledger entries that had their place.
  void hand_over(Follower& follower) const;
  // Why an answer about `range` may lack something, a line each. Ends the streams: last call.
  std::vector<std::string> doubts(const TimeRange& range);

 private:
  std::vector<bool> ledger_;           // by source
  std::map<uint32_t, uint64_t> next_;  // index of each ledger, by source
  uint64_t logged_ = 0;
  SeenInLedger in_ledger_;
  std::map<uint32_t, GapFinder> gaps_;  // by stream
  DamageLog damage_;
  std::vector<Error> problems_;
};

}  // namespace tenure::reader
