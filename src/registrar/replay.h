// SPDX-License-Identifier: Apache-2.0
// What the ledger says is still open: the state from which a new daemon goes on.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "registrar/operation.h"

namespace tenure::registrar {

// An intent without a result: the daemon died between the two.
struct Pending {
  uint64_t index = 0;
  trail::Record record;
  std::string unknown;  // why settle() could not tell what came of it; "" otherwise
};

struct OpenRun {
  RunRef ref;
  std::vector<Hold> holds;  // granted, not released, in the order of their grants
  std::vector<Pending> pending;
  bool started = false;  // op=start recorded as a success, and no stop since
  bool ended = false;    // its stop or failed start is recorded; a tenure may be left all the same
  int64_t last_ms = 0;   // time of the last entry of this run
};

struct Replay {
  std::map<std::string, OpenRun> open;       // by uuid; only runs with anything open
  std::map<std::string, uint64_t> last_run;  // by uuid: the highest run number given
  uint64_t entries = 0;
  std::optional<kernel::AuditMark> confirmed;  // the last record that audit confirmed
  std::optional<AuditGap> gap;  // results that audit did not confirm and no gap record tells of
};

// Reads the whole ledger at `dir`; an absent one is empty. Corrupt names the first bad entry.
Result<Replay> replay(const std::string& dir);

// The same of entries from anywhere: `read` hands them in order, from index 0, to its argument,
// which returns false to stop.
using EntrySink = std::function<bool(uint64_t index, std::string_view entry)>;
Result<Replay> replay_from(const std::function<Result<>(const EntrySink&)>& read);

}  // namespace tenure::registrar
