// SPDX-License-Identifier: Apache-2.0
#include "doctor/doctor.h"

#include <unistd.h>

#include "base/clock.h"
#include "doctor/checks.h"

namespace tenure::doctor {
namespace {

struct Check {
  const char* name;
  void (*run)(const Scope&, Report&);
};

constexpr Check kChecks[] = {
    {"audit.state", check_audit_state},
    {"audit.kernel", check_audit_kernel},
    {"audit.gap", check_audit_gap},
    {"auditd.disk", check_auditd_disk},
    {"auditd.space", check_auditd_space},
    {"auditd.files", check_auditd_files},
    {"fence", check_fence},
    {"fence.pins", check_pins},
    {"kvm", check_kvm},
    {"libvirt", check_libvirt},
    {"daemon", check_daemon},
    {"ledger", check_ledger},
    {"ledger.files", check_ledger_files},
    {"ledger.witness", check_witness},
};

}  // namespace

std::string_view to_string(Level level) {
  constexpr std::string_view kNames[] = {"pass", "warn", "fail", "unseen"};
  return kNames[static_cast<size_t>(level)];
}

Scope make_scope(Paths paths, std::optional<DaemonView> daemon, std::string no_daemon) {
  Scope scope{.paths = std::move(paths),
              .daemon = std::move(daemon),
              .no_daemon = std::move(no_daemon),
              .root = geteuid() == 0,
              .now_ms = system_clock().realtime_ns() / 1'000'000,
              .sys_root = {},
              .audit = {},
              .mounts = {}};
  scope.audit = kernel::gather_audit_facts(kernel::ask_audit_status(), std::nullopt, scope.now_ms);
  if (auto mounts = kernel::find_cgroup_mounts())
    scope.mounts = std::move(*mounts);
  return scope;
}

std::vector<Finding> examine(const Scope& scope) {
  std::vector<Finding> findings;
  for (const Check& check : kChecks) {
    Report report(check.name, findings);
    check.run(scope, report);
  }
  return findings;
}

}  // namespace tenure::doctor
