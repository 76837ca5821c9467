// SPDX-License-Identifier: Apache-2.0
#include "kernel/audit_state.h"

#include <fmt/format.h>
#include <linux/capability.h>
#include <unistd.h>

#include <algorithm>

#include "base/file.h"
#include "base/text.h"
#include "kernel/audit_rules.h"
#include "kernel/audit_socket.h"
#include "kernel/process.h"

namespace tenure::kernel {
namespace {

constexpr int64_t kStoreMs = 3000;  // auditd writes within ms; its flush settings are about fsync
constexpr size_t kMaxProc = 65536;

using enum AuditCondition;

struct ConditionName {
  AuditCondition condition;
  std::string_view name;
};
constexpr ConditionName kNames[] = {
    {Good, "good"},
    {NoKernelAudit, "no-kernel-audit"},
    {UserNamespace, "user-namespace"},
    {NetNamespace, "net-namespace"},
    {NoCapability, "no-capability"},
    {Off, "off"},
    {Excluded, "excluded"},
    {AuditdStuck, "auditd-stuck"},
    {BacklogFull, "backlog-full"},
    {AuditdSuspended, "auditd-suspended"},
    {RateLimited, "rate-limited"},
    {NoAuditd, "no-auditd"},
    {Unknown, "unknown"},
};

uint32_t auditd_of(const AuditFacts& facts) {
  return facts.status ? facts.status->auditd_pid : 0;
}

bool is_stopped(const AuditFacts& facts) {
  return facts.auditd_state == 'T' || facts.auditd_state == 't';
}

bool backlog_is_full(const AuditFacts& facts) {
  return facts.status && facts.status->backlog_limit > 0 &&
         facts.status->backlog >= facts.status->backlog_limit;
}

bool is_not_stored(const AuditFacts& facts) {
  return auditd_of(facts) != 0 && log_lacks_records(facts);
}

struct Row {
  AuditCondition condition;
  bool loses;
  bool (*holds)(const AuditFacts&);
  std::string (*cause)(const AuditFacts&);
  std::string_view remedy;
};

// In the order in which one hides the next.
const Row kRows[] = {
    {UserNamespace, true, [](const AuditFacts& f) { return f.user_namespace; },
     [](const AuditFacts&) {
       return std::string("this is a user namespace, which the kernel's audit does not serve");
     },
     "run as root of the host"},
    {NoCapability, true, [](const AuditFacts& f) { return !f.can_write || !f.can_read; },
     [](const AuditFacts& f) {
       return fmt::format("this process has no {}",
                          f.can_write ? "CAP_AUDIT_READ" : "CAP_AUDIT_WRITE");
     },
     "run as root, or give it (setcap, AmbientCapabilities=)"},
    {NetNamespace, true, [](const AuditFacts& f) { return f.net_namespace; },
     [](const AuditFacts&) {
       return std::string(
           "this is not the host's network namespace, the only one in which the "
           "kernel shows audit records");
     },
     "run in the host's"},
    {NoKernelAudit, true,
     [](const AuditFacts& f) {
       return !f.status && f.status_code == Errc::Unsupported && !f.user_namespace;
     },
     [](const AuditFacts& f) { return f.status_error; }, "boot with audit=1"},
    {Off, true, [](const AuditFacts& f) { return f.status && f.status->enabled == 0; },
     [](const AuditFacts&) { return std::string("auditing is switched off"); },
     "auditctl -e 1 switches it on"},
    {Excluded, true, [](const AuditFacts& f) { return f.status && !f.status->excluded_by.empty(); },
     [](const AuditFacts& f) {
       return fmt::format("the audit rule `{}` drops records of virtual machines",
                          f.status->excluded_by);
     },
     "auditctl -d with the same words removes it"},
    {AuditdStuck, true, [](const AuditFacts& f) { return auditd_of(f) != 0 && is_stopped(f); },
     [](const AuditFacts& f) {
       return fmt::format("auditd (pid {}) is stopped by a signal and reads nothing", auditd_of(f));
     },
     "kill -CONT lets it go on"},
    {BacklogFull, true, backlog_is_full,
     [](const AuditFacts& f) {
       return fmt::format(
           "the kernel's audit backlog is full ({} of {} records), auditd (pid {}) "
           "does not keep up or is stuck",
           f.status->backlog, f.status->backlog_limit, f.status->auditd_pid);
     },
     "auditctl -b raises the limit; restart auditd if it is stuck"},
    {AuditdSuspended, true, is_not_stored,
     [](const AuditFacts& f) {
       return fmt::format(
           "auditd (pid {}) takes records and does not store them: {} ends with "
           "record {}, the kernel emitted {} {} s ago",
           auditd_of(f), f.log->path, f.log->last_serial, f.confirmed->serial,
           (f.now_ms - f.confirmed->time_ms) / 1000);
     },
     "make room on its disk, then auditctl --signal resume"},
    {RateLimited, false, [](const AuditFacts& f) { return f.status && f.status->rate_limit > 0; },
     [](const AuditFacts& f) {
       return fmt::format("the kernel drops what exceeds a rate limit of {} records/s",
                          f.status->rate_limit);
     },
     "auditctl -r 0 lifts it"},
    {NoAuditd, false, [](const AuditFacts& f) { return f.status && f.status->auditd_pid == 0; },
     [](const AuditFacts&) {
       return std::string(
           "no auditd is registered: the kernel emits records, and keeps none but in "
           "its message buffer");
     },
     "systemctl start auditd"},
    {Unknown, false, [](const AuditFacts& f) { return !f.status; },
     [](const AuditFacts& f) { return f.status_error; }, ""},
};

// "S" of "123 (name with ) in it) S 1 …", proc_pid_stat(5).
char process_state(uint32_t pid) {
  auto text = read_file(fmt::format("/proc/{}/stat", pid), kMaxProc);
  if (!text)
    return text.error().code() == Errc::NotFound ? 'X' : '?';
  size_t end = text->rfind(") ");
  return end == text->npos || end + 2 >= text->size() ? '?' : (*text)[end + 2];
}

bool in_user_namespace() {
  auto map = read_file("/proc/self/uid_map", kMaxProc);
  return map && !map->contains(" 4294967295");
}

}  // namespace

std::string_view to_string(AuditCondition condition) {
  return std::ranges::find(kNames, condition, &ConditionName::condition)->name;
}

std::string AuditState::text() const {
  std::string text(to_string(condition));
  if (!cause.empty())
    text += ": " + cause;
  if (!remedy.empty())
    text += fmt::format(" ({})", remedy);
  return text;
}

AuditState recognise_audit(const AuditFacts& facts) {
  for (const Row& row : kRows)
    if (row.holds(facts))
      return {row.condition, row.cause(facts), std::string(row.remedy), row.loses};
  return {};
}

bool log_lacks_records(const AuditFacts& facts) {
  if (!facts.confirmed || !facts.log || !facts.auditd || !facts.auditd->writes_logs())
    return false;
  const AuditMark& mark = *facts.confirmed;
  if (facts.now_ms - mark.time_ms < kStoreMs || facts.log->resumed_ms > mark.time_ms)
    return false;
  return facts.log->last_serial < mark.serial || facts.log->last_ms + kStoreMs < mark.time_ms;
}

std::string cause_of_loss(const AuditFacts& facts, uint32_t lost) {
  AuditState state = recognise_audit(facts);
  if (state.loses && state.condition != AuditdSuspended)  // that one happens behind the kernel
    return state.text();
  if (lost > 0 && state.condition == RateLimited)
    return fmt::format(
        "rate-limited: the kernel dropped it, rate limit of {} records/s "
        "(auditctl -r 0 lifts it)",
        facts.status->rate_limit);
  if (lost > 0)
    return fmt::format("dropped: the kernel counts {} lost records meanwhile", lost);
  if (facts.status && facts.status->backlog > 0)
    return fmt::format(
        "slow: not seen in time; {} records wait in the kernel, auditd (pid {}) does "
        "not keep up",
        facts.status->backlog, facts.status->auditd_pid);
  return "not seen; cause not established, `tenure doctor` looks further" +
         (facts.status ? "" : ": " + facts.status_error);
}

AuditFacts gather_process_facts(const Result<AuditStatus>& status) {
  AuditFacts facts;
  if (status) {
    facts.status = *status;
  } else {
    facts.status_error = status.error().what();
    facts.status_code = status.error().code();
  }
  if (auto own = process_status(getpid())) {
    facts.can_write = (own->cap_eff >> CAP_AUDIT_WRITE & 1) != 0;
    facts.can_read = (own->cap_eff >> CAP_AUDIT_READ & 1) != 0;
  }
  facts.user_namespace = in_user_namespace();
  facts.net_namespace = !in_initial_net_namespace();
  if (uint32_t pid = auditd_of(facts); pid != 0)
    facts.auditd_state = process_state(pid);
  return facts;
}

AuditFacts gather_audit_facts(const Result<AuditStatus>& status, std::optional<AuditMark> confirmed,
                              int64_t now_ms, std::optional<AuditdConfig> last_known) {
  AuditFacts facts = gather_process_facts(status);
  facts.confirmed = confirmed;
  facts.now_ms = now_ms;
  auto config = auditd_of(facts) == 0 && last_known ? Result<AuditdConfig>(std::move(*last_known))
                                                    : read_auditd_config(auditd_of(facts));
  if (!config) {
    facts.log_error = config.error().what();
    return facts;
  }
  facts.auditd = std::move(*config);
  auto tail = read_audit_log_tail(facts.auditd->log_file());
  if (tail)
    facts.log = std::move(*tail);
  else
    facts.log_error = tail.error().what();
  return facts;
}

Result<AuditStatus> ask_audit_status() {
  TRY(UniqueFd fd, open_audit_socket());
  TRY(AuditStatus status, query_audit_status(fd.get()));
  add_audit_rules(fd.get(), status);
  return status;
}

}  // namespace tenure::kernel
