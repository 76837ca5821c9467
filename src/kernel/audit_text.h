// SPDX-License-Identifier: Apache-2.0
// The text of user records: as libaudit will frame a message, and as the kernel gives it back in
// the multicast group. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "kernel/audit.h"

namespace tenure::kernel {

// Longest text between msg=' and ', in bytes: the kernel cuts what is longer without a word
// (AUDIT_MESSAGE_TEXT_MAX of linux/audit.h, less the final NUL).
inline constexpr size_t kMaxAuditText = 8559;

// The message types that the multicast listener lets in: AUDIT_FIRST_VIRT_MSG to
// AUDIT_LAST_VIRT_MSG.
inline constexpr uint16_t kFirstAuditType = 2500;
inline constexpr uint16_t kLastAuditType = 2599;

// A message as audit_log_user_message(3) frames it: `before`, the program as exe="…" value,
// `after`.
struct AuditFrame {
  std::string before;  // "BODY exe="
  std::string after;   // " hostname=? addr=? terminal=? res=success"
};
AuditFrame audit_frame(const AuditMessage& message);

// Whether `text` is that message, from whatever program path libaudit found.
bool matches(const AuditFrame& frame, std::string_view text);

// The value of exe= for this process, quotes or hex included, by libaudit's rule.
std::string own_exe_value();

// Invalid for what the kernel would not pass on as it is: a type out of range, an empty body, a
// control character (a newline would forge a line of the log), or a text beyond kMaxAuditText with
// this exe=.
Result<> check_audit_message(const AuditMessage& message, std::string_view exe_value);

// One user record as the group delivers it.
struct AuditEcho {
  uint16_t type = 0;
  int64_t time_ms = 0;
  uint64_t serial = 0;
  int32_t pid = 0;  // in the initial pid namespace
  uint32_t uid = 0, auid = 0, ses = 0;
  std::string text;  // inside msg='…'
};
// From "audit(1732276800.123:42): pid=1 uid=0 auid=0 ses=1 [subj=…] msg='…'"; nullopt for anything
// else.
std::optional<AuditEcho> parse_audit_echo(uint16_t type, std::string_view bytes);

}  // namespace tenure::kernel
