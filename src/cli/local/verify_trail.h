// SPDX-License-Identifier: Apache-2.0
// What `tenure verify` checks beyond hashes and signatures: that the ledger's entries are a trail.
// Each is in the grammar, names only grants that are before it, and ends only what is open; and
// what the kernel confirmed stands in the audit log with the same text. Pure; not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "model/tenure_book.h"
#include "trail/decode.h"

namespace tenure::cli {

// The confirmed records of the ledger against the logs that were shown.
struct LogComparison {
  uint64_t same = 0;
  uint64_t rotated_away = 0;      // older than the oldest record of the logs
  uint64_t not_yet = 0;           // newer than the newest: auditd is behind, or did not run
  std::vector<uint64_t> missing;  // entries between the two that no log has
  std::vector<uint64_t> altered;  // entries that a log has with another text
};

class TrailCheck {
 public:
  // The next entry of the ledger, in order; index 0 begins anew. Corrupt if it breaks a law.
  Result<> entry(uint64_t index, std::string_view bytes);
  // Any record of the audit logs, after all entries.
  void log_record(const trail::LineView& line);

  LogComparison comparison() const;
  // What is odd but no lie: steps of the clock, intents without result, kinds that are not known
  // here.
  std::vector<std::string> notes() const;

 private:
  struct Confirmed {
    uint64_t index;
    size_t text_hash;
    bool same = false;
    bool altered = false;
  };
  using EventId = std::pair<int64_t, uint64_t>;  // ms since 1970, serial
  struct EventIdHash {
    size_t operator()(const EventId& id) const {
      return static_cast<size_t>(id.first) * 1000003 ^ static_cast<size_t>(id.second);
    }
  };
  struct State {
    model::TenureBook book;
    trail::FieldSet fields;
    std::vector<uint64_t> intents;  // indices, rising
    std::unordered_multimap<EventId, Confirmed, EventIdHash> confirmed;
    int64_t last_ms = 0;
    uint64_t clock_steps = 0;  // backwards, by more than kClockSlackMs
    uint64_t first_step = 0;   // the entry after the first of them
    uint64_t unknown_kinds = 0;
    int64_t log_from_ms = INT64_MAX;
    int64_t log_until_ms = INT64_MIN;
  };

  Result<> check_grant(uint64_t index) const;
  Result<> check_book(uint64_t index, const trail::LineView& line);
  void note_time(uint64_t index, int64_t time_ms);

  State state_;
};

}  // namespace tenure::cli
