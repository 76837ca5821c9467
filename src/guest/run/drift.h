// SPDX-License-Identifier: Apache-2.0
// What changed behind our back: which differences of live_check() are new and which are over, what
// their records say, and how they are put right.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "guest/run/live_check.h"
#include "kernel/watch.h"
#include "trail/record.h"

namespace tenure::guest {

// What is done about a difference, besides its record.
enum class OnDrift { Report, Repair, Pause, Stop };
std::string_view to_string(OnDrift policy);
Result<OnDrift> parse_on_drift(std::string_view text);

// The differences of one guest that have their record.
class DriftBook {
 public:
  struct News {
    std::vector<Difference> begun, over;
  };
  // `now` is what a look at `parts` found. Differences of other parts stay as they were; with
  // `complete` false (something could not be looked at) none is called over.
  News update(const std::vector<Difference>& now, const LiveParts& parts, bool complete);
  // Put right by us, with a record of its own.
  void forget(const Difference& difference);
  const std::vector<Difference>& known() const { return known_; }

 private:
  std::vector<Difference> known_;
};

// Owner, mode and ACL of the files that a guest holds entries in, as they were when first seen;
// entries of guests' own uids and the mask are ours and not in it. One a guest.
class AclBaseline {
 public:
  // `ours` says whether a uid is one of those that tenured gives to guests.
  explicit AclBaseline(std::function<bool(uint32_t)> ours) : ours_(std::move(ours)) {}
  // Differences of kind FileAcl; a file seen for the first time has none.
  std::vector<Difference> compare(const std::vector<registrar::Hold>& holds, const RunSeams& seams);

 private:
  std::function<bool(uint32_t)> ours_;
  std::map<std::string, std::vector<std::string>> files_;  // path -> entries in words
};

// The record of a difference: `phase` is begin, end or repair. `cgroup` is the guest's. Not stamped
// with the run yet.
trail::Record drift_record(const Difference& difference, std::string_view phase,
                           const kernel::Culprit& who, const std::string& cgroup);

// Makes the kernel say again what the open tenures say. Unsupported for what nobody can undo from
// outside (a descriptor that QEMU has, its uid, a stranger's process). The caller looks again
// afterwards and records what that finds.
Result<> repair(const Difference& difference, RunSeams& seams, const RunState& state,
                const std::vector<registrar::Hold>& holds);

}  // namespace tenure::guest
