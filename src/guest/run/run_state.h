// SPDX-License-Identifier: Apache-2.0
// What must be known of a run to find it again after the daemon died: one small JSON file a run, in
// the runtime folder (gone after a reboot, as the guests are).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/identity.h"
#include "base/paths.h"
#include "base/result.h"
#include "domain/domain.h"
#include "kernel/process.h"
#include "registrar/operation.h"
#include "trail/record.h"

namespace tenure::guest {

// A job of QEMU's on the chain of a disk, from its start to the release of what it took.
struct BlockJob {
  std::string op;       // blockcommit, blockpull, blockcopy
  std::string writes;   // image beside the chain's top that it writes to; "" if none
  std::string format;   // of that image
  std::string then;     // once both are alike: pivot, finish; "" waits to be told
  std::string told;     // the last of its reasons that was recorded: "", started, ready
  std::string outcome;  // once QEMU has ended it: completed, pivoted, cancelled, failed
  std::string why;      // of the outcome
  Requester who;        // asked for it, or for its end
};

// A process of the guest's own beside QEMU, by which it is found again.
struct HelperState {
  std::string kind;  // virtiofsd
  kernel::ProcessId process;
  uint64_t dev = 0, ino = 0;  // of the folder that it serves
};

// Who asked for a device, and whether QEMU has heard of it: noted before, and once it has answered.
struct Leaving {
  registrar::Txn txn;
  bool heard = false;
};

struct RunState {
  registrar::RunRef ref;
  std::string fence;  // "v2", "v1", "none"
  uint32_t slot = 0;
  std::string cgroup_v2, cgroup_v1;
  std::optional<uint32_t> uid;
  kernel::ProcessId process;  // pid 0: not launched yet
  std::string xml;            // the definition that this run was started from
  std::string boot_id;        // of the boot that it belongs to
  bool started = false;       // op=start was recorded as a success
  // Since then: devices that joined or are not what the definition says any more (alias and pinned
  // element, in their order), and aliases of those of the definition that left or were changed.
  std::vector<std::pair<std::string, std::string>> attached;
  std::set<std::string> detached;
  // An operation has stopped its vCPUs and lets them go on at its end: one that a daemon which died
  // in between left behind.
  bool suspended = false;
  std::map<std::string, BlockJob> jobs;        // by the disk's alias
  std::map<std::string, HelperState> helpers;  // by the device's alias
  // Devices that the guest was asked to give up and has not given up yet, by alias: it may do so
  // after this daemon.
  std::map<std::string, Leaving> leaving;
};

// As JSON: of the state file, and in the head of a saved guest.
std::string run_text(const RunState& state);
// Corrupt names `source` and what is wrong in it.
Result<RunState> parse_run(const std::string& text, const std::string& source);

// The definition as these changes make it. Errors: those of the definition's parts.
Result<domain::Domain> live_domain(const RunState& state);
// Notes that a device joined or left. Not saved by this.
void note_attached(RunState& state, const std::string& alias, const std::string& xml);
void note_detached(RunState& state, const std::string& alias);
// Notes what a device is now.
void note_changed(RunState& state, const std::string& alias, const std::string& xml);
// The element of a device as it is now, as it was given and pinned. NotFound.
Result<std::string> element_of(const RunState& state, const std::string& alias);
// The text of live_domain().
Result<std::string> live_text(const RunState& state);

std::string run_dir(const Paths& paths, const std::string& uuid);  // runtime/runs/UUID
std::string monitor_path(const Paths& paths, const std::string& uuid);
std::string guest_log_path(const Paths& paths, const std::string& uuid);

Result<> save_run(const Paths& paths, const RunState& state);
// Corrupt names the file and what is wrong in it.
Result<RunState> load_run(const std::string& path);
// All runs that have a state file; a file that cannot be read is an error of its own in the list.
Result<std::vector<Result<RunState>>> load_runs(const Paths& paths);
// The uuids of folders without a state file: a daemon died before its first word in there.
std::vector<std::string> stateless_runs(const Paths& paths);
// Removes the run's folder and what is in it.
Result<> forget_run(const Paths& paths, const std::string& uuid);

// The VIRT_CONTROL record of this run: op, reason and what is known of it.
trail::Record control_record(std::string_view op, std::string_view reason, const RunState& state,
                             bool kvm);

}  // namespace tenure::guest
