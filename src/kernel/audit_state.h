// SPDX-License-Identifier: Apache-2.0
// In which state the audit system is, and why records would be lost in it. One recogniser for the
// cause of a lost record, for `tenure status` and for `tenure doctor`, so that the three never
// disagree. It names only what the facts establish.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "kernel/audit.h"
#include "kernel/auditd_files.h"

namespace tenure::kernel {

enum class AuditCondition {
  Good,
  NoKernelAudit,    // CONFIG_AUDIT missing, or audit=0
  UserNamespace,    // we are in one that the kernel's audit does not serve
  NetNamespace,     // the multicast group is not here: nothing can be confirmed
  NoCapability,     // CAP_AUDIT_WRITE or CAP_AUDIT_READ is missing
  Off,              // enabled=0
  Excluded,         // an audit rule drops our records
  AuditdStuck,      // registered, but stopped: the backlog fills and senders are held
  BacklogFull,      // and auditd is slow
  AuditdSuspended,  // takes records and stores none
  RateLimited,      // what is beyond the limit is dropped
  NoAuditd,         // emitted, stored by nobody that the kernel knows of
  Unknown,          // the kernel was not asked: no right to
};

// The newest record that the kernel confirmed to us.
struct AuditMark {
  uint64_t serial = 0;
  int64_t time_ms = 0;
};

// Everything that the recogniser looks at; what is not known is left out.
struct AuditFacts {
  std::optional<AuditStatus> status;
  std::string status_error;  // why there is none
  Errc status_code = Errc::Internal;
  bool can_write = true, can_read = true;              // capabilities
  bool user_namespace = false, net_namespace = false;  // not the initial one
  char auditd_state = '?';  // of proc_pid_stat(5): R S D T t Z; 'X' if there is no such process
  std::optional<AuditdConfig> auditd;
  std::optional<AuditLogTail> log;
  std::string log_error;  // why there is none
  std::optional<AuditMark> confirmed;
  int64_t now_ms = 0;
};

struct AuditState {
  AuditCondition condition = AuditCondition::Good;
  std::string cause;   // one sentence of facts; "" if good
  std::string remedy;  // "" if none is known
  bool loses = false;  // records of ours are lost, or stored by nobody who was to store them
  // "off: auditing is switched off (auditctl -e 1 switches it on)"; "good" if it is.
  std::string text() const;
};

std::string_view to_string(AuditCondition condition);

// The first row of the table that the facts establish. Pure.
AuditState recognise_audit(const AuditFacts& facts);
// Why records were dropped by the kernel although it took them: `lost` is how much its counter grew
// meanwhile. Says that the cause is not established where nothing proves one. Pure.
std::string cause_of_loss(const AuditFacts& facts, uint32_t lost);

// The newest confirmed record is some seconds old, and the log ends before it: nobody stored it.
// False where the log is not known. Pure.
bool log_lacks_records(const AuditFacts& facts);

// Looks at this process and auditd's only.
AuditFacts gather_process_facts(const Result<AuditStatus>& status);
// Looks at this process, auditd's process, its configuration and its log. Does not ask the kernel's
// audit: `status` is its answer, or why there is none. `last_known`: the configuration of an auditd
// that was there before, whose log is still the one to look at. Never blocks for long.
AuditFacts gather_audit_facts(const Result<AuditStatus>& status, std::optional<AuditMark> confirmed,
                              int64_t now_ms, std::optional<AuditdConfig> last_known = {});
// For a process without an Audit of its own: asks the kernel for status and rules on a socket of
// its own. Blocks while the kernel's backlog is full.
Result<AuditStatus> ask_audit_status();

}  // namespace tenure::kernel
