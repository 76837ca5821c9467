// SPDX-License-Identifier: Apache-2.0
// Times for which the trail itself says that it is not whole: auditing switched off, auditd stopped
// or failing, records counted as lost. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "reader/batch.h"

namespace tenure::reader {

// A time that an answer is asked for, ms since 1970; no bound where none was given.
struct TimeRange {
  std::optional<int64_t> since;
  std::optional<int64_t> until;
  // Whether [from, to] has a moment in common with it; no value is open-ended.
  bool meets(std::optional<int64_t> from, std::optional<int64_t> to) const {
    return !(since && to && *to < *since) && !(until && from && *from > *until);
  }
};

struct Gap {
  std::string node;
  std::optional<int64_t> from_ms;   // none: since before the trail begins
  std::optional<int64_t> until_ms;  // none: to its end
  std::string what;                 // "auditing was switched off"
  std::optional<uint64_t> lost;     // how many records, where that is known
  std::string proof;                // the record that tells: "audit(…:7)"
};

class GapFinder {
 public:
  // Every event of a stream, in its order.
  void event(const Event& event, uint64_t order);
  // At the end of the stream: also what has not ended.
  std::vector<Gap> finish();

 private:
  struct Host {
    std::optional<Gap> disabled;
    std::optional<Gap> stopped;  // auditd
    bool shutdown = false;
  };
  void config_change(Host& host, const trail::LineView& view, const Gap& here);
  void daemon(Host& host, uint16_t type, const Gap& here);
  void own_gap(const trail::LineView& view, Gap here);

  std::map<std::string, Host, std::less<>> hosts_;
  std::vector<Gap> gaps_;
};

}  // namespace tenure::reader
