// SPDX-License-Identifier: Apache-2.0
// Counts over a reading: by guest, by resource, by who asked, by day. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "reader/event_view.h"
#include "reader/reading.h"

namespace tenure::reader {

enum class SummaryBy : uint8_t { Guest, Resource, Who, Day };

struct SummaryLine {
  uint64_t runs = 0;  // starts that succeeded
  uint64_t grants = 0;
  uint64_t releases = 0;
  uint64_t open = 0;     // grants that have not ended
  uint64_t failed = 0;   // records with res=failed, refusals left out
  uint64_t refused = 0;  // requests refused and accesses that the fence denied
  std::optional<int64_t> first_ms, last_ms;
};

// Keys: guest name (or uuid), "KIND ID", the number of an audit uid (or uid), with "?" behind it if
// that is a guess, "" if unknown; the day in the local zone.
class Summary {
 public:
  explicit Summary(SummaryBy by, TimeRange range) : by_(by), range_(range) {}
  // Each event while it is read, for what failed.
  void event(const Event& event, uint64_t order, const GuestSelector& guest);
  // Then everything that was read, once.
  void finish(Reading& reading, const GuestSelector& guest);
  const std::map<std::string, SummaryLine>& lines() const { return lines_; }

 private:
  void run(const model::Run& run);
  void tenure(const model::Tenure& tenure, const Stream& stream);
  SummaryLine& line(const std::string& key, int64_t time_ms);
  bool counts(const std::optional<model::Position>& at) const;

  SummaryBy by_;
  TimeRange range_;
  EventReader reader_;
  std::map<std::string, SummaryLine> lines_;
};

// "1000", "1000?" for a guess, "" if nobody is named.
std::string who_key(const model::Asker* asker, const Guess* guess);

}  // namespace tenure::reader
