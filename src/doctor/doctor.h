// SPDX-License-Identifier: Apache-2.0
// `tenure doctor`: whether this host can keep a true and complete trail. Looks, changes nothing
// (but for a throw-away cgroup when the fence is tried), needs neither the daemon nor root, and
// says what it could not see. Each check is one row of the table in doctor.cc.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/paths.h"
#include "kernel/audit_state.h"
#include "kernel/cgroup.h"

namespace tenure::doctor {

enum class Level : uint8_t {
  Pass,
  Warn,    // works, but weaker than it could be
  Fail,    // the trail is, or will be, untrue or incomplete, or guests do not start
  Unseen,  // could not be looked at; `what` says why
};
std::string_view to_string(Level level);  // "pass" …

struct Finding {
  Level level = Level::Pass;
  std::string check;   // "audit.state": stable, for scripts
  std::string what;    // one sentence
  std::string remedy;  // "" if there is none to name
};

// What a running daemon has said of itself (org.tenure.Info).
struct DaemonView {
  int64_t pid = 0;
  std::string fence;  // v2, v1, none
  std::string no_fence_reason;
  std::string audit_state;  // to_string(AuditCondition), or not-used
  std::string audit_cause;
  std::string gap;  // "" if none is open
  uint64_t ledger_size = 0, published = 0, witnessed = 0;
  bool has_witness = false;
  std::string publish_error;
};

struct Scope {
  Paths paths;
  std::optional<DaemonView> daemon;  // nullopt: none runs, or it may not be asked
  std::string no_daemon;             // why
  bool root = false;
  int64_t now_ms = 0;
  std::string sys_root;  // "" but in tests: in front of /etc/libvirt, /dev/kvm and the like

  // Looked up once, for all checks.
  kernel::AuditFacts audit;
  kernel::CgroupMounts mounts;
};

// Fills in what is looked up once. `confirmed` as in gather_audit_facts().
Scope make_scope(Paths paths, std::optional<DaemonView> daemon, std::string no_daemon);

// All checks in the order of the table.
std::vector<Finding> examine(const Scope& scope);

}  // namespace tenure::doctor
