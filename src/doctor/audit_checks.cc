// SPDX-License-Identifier: Apache-2.0
// The kernel's side of the audit system.
#include <fmt/format.h>

#include "doctor/checks.h"

namespace tenure::doctor {
namespace {

using kernel::AuditCondition;

// Below this, loading the fence's program alone fills it: its BPF records come in a burst.
constexpr uint32_t kSmallBacklog = 320;

// Of the daemon, whose place and rights may be others than ours.
void add_daemons_view(const DaemonView& daemon, Report& report) {
  if (daemon.audit_state == "good" || daemon.audit_state.empty())
    return;
  if (daemon.audit_state == "not-used")
    return report.warn("tenured keeps its records in the ledger only (audit = \"off\")",
                       "set audit = \"auto\" in tenure.conf");
  report.warn(fmt::format("tenured sees {}: {}", daemon.audit_state, daemon.audit_cause), "");
}

}  // namespace

void check_audit_state(const Scope& scope, Report& report) {
  if (scope.daemon && scope.daemon->audit_state == "not-used")
    return add_daemons_view(*scope.daemon, report);  // by configuration: the rest is not asked for
  const kernel::AuditState state = kernel::recognise_audit(scope.audit);
  // Without rights of our own the daemon's answer is the one that counts.
  const bool blind =
      state.condition == AuditCondition::NoCapability || state.condition == AuditCondition::Unknown;
  if (blind && !scope.root) {
    report.unseen(fmt::format("the kernel's audit state cannot be asked: {}", state.cause));
  } else if (state.condition == AuditCondition::Good) {
    report.pass(fmt::format("auditing is on, auditd (pid {}) is registered",
                            scope.audit.status->auditd_pid));
  } else {
    report.add(state.loses ? Level::Fail : Level::Warn,
               fmt::format("{}: {}", to_string(state.condition), state.cause), state.remedy);
  }
  if (scope.daemon)
    add_daemons_view(*scope.daemon, report);
}

void check_audit_kernel(const Scope& scope, Report& report) {
  if (!scope.audit.status)
    return report.unseen("failure mode, backlog and rules: " + scope.audit.status_error);
  const kernel::AuditStatus& status = *scope.audit.status;
  if (status.failure == 0)
    report.warn("failure mode 0: the kernel does not tell when it loses records", "auditctl -f 1");
  else
    report.pass(status.failure == 1 ? "failure mode 1: the kernel logs what it loses"
                                    : "failure mode 2: the kernel panics when it loses records");
  std::string backlog = fmt::format("backlog limit {}, {} waiting, {} lost since boot",
                                    status.backlog_limit, status.backlog, status.lost);
  if (status.backlog_limit != 0 && status.backlog_limit < kSmallBacklog)
    report.warn(backlog + ": a burst of records fills it", "auditctl -b 8192");
  else
    report.pass(backlog);
  if (!status.rules_read)
    report.unseen("the audit rules could not be read");
  else if (status.excluded_by.empty())
    report.pass("no audit rule that can be told keeps records of virtual machines out");
  else
    report.fail(fmt::format("the audit rule `{}` keeps our records out", status.excluded_by),
                "remove it with auditctl -d");
}

void check_audit_gap(const Scope& scope, Report& report) {
  if (!scope.daemon)
    return report.unseen("whether records are missing in the audit log now: " + scope.no_daemon);
  if (scope.daemon->gap.empty())
    return report.pass("no gap is open");
  report.fail("a gap is open: " + scope.daemon->gap, "the ledger has every record meanwhile");
}

}  // namespace tenure::doctor
