// SPDX-License-Identifier: Apache-2.0
// Which audit rules keep the records of virtual machines out of the log. Only what the kernel's own
// rule list proves is named: a rule that compares what we do not know here decides nothing.
#pragma once

#include <linux/audit.h>
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "kernel/audit.h"

namespace tenure::kernel {

// One rule as AUDIT_LIST_RULES gives it, numbers only.
struct AuditRule {
  uint32_t list = 0;    // AUDIT_FILTER_USER, AUDIT_FILTER_EXCLUDE, …
  uint32_t action = 0;  // AUDIT_NEVER, AUDIT_ALWAYS
  struct Field {
    uint32_t field = 0, op = 0, value = 0;  // AUDIT_MSGTYPE …, AUDIT_EQUAL …
  };
  std::vector<Field> fields;
};

// Who sends: what a rule may compare.
struct AuditSender {
  uint16_t type = 0;  // 2500 …
  uint32_t pid = 0, uid = 0, auid = 0;
};

// The rules of the lists user and exclude, in the kernel's order. Blocks like a status query.
// Denied without CAP_AUDIT_CONTROL.
Result<std::vector<AuditRule>> query_audit_rules(int fd);

// The first rule that surely drops a record of that sender, as auditctl(8) would spell it; "" if
// none does. audit_filter() of kernel/auditsc.c: the first rule of a list that matches decides; on
// the list exclude whatever its action is, on user if the action is never. Pure.
std::string dropping_rule(const std::vector<AuditRule>& rules, const AuditSender& sender);

// The same over all types of this process's records (2500 to 2505).
std::string rule_that_drops_ours(const std::vector<AuditRule>& rules);

// Asks for the rules and fills in rules_read and excluded_by; leaves them alone if they cannot be
// read.
void add_audit_rules(int fd, AuditStatus& status);

}  // namespace tenure::kernel
