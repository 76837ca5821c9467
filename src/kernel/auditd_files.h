// SPDX-License-Identifier: Apache-2.0
// What auditd has on disk: its configuration and the end of its log. The kernel tells that it made
// and emitted a record; only the log tells that auditd stored it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "base/result.h"

namespace tenure::kernel {

// auditd.conf(5): keywords in lower case, values as they stand there.
struct AuditdConfig {
  std::map<std::string, std::string> values;

  // "" if the keyword is not set.
  std::string text(std::string_view key) const;
  std::optional<uint64_t> number(std::string_view key) const;
  std::string log_file() const;  // its default if not set
  bool writes_logs() const { return text("write_logs") != "no"; }
};
AuditdConfig parse_auditd_config(std::string_view text);
// The file `auditd.conf` in the folder that the process `auditd_pid` was given by -c, else in
// /etc/audit. Denied to everybody but root as a rule.
Result<AuditdConfig> read_auditd_config(uint32_t auditd_pid);

// The end of the log, as far as one read of kTailBytes shows it.
struct AuditLogTail {
  std::string path;
  int64_t changed_ms = 0;      // mtime of the file
  uint64_t last_serial = 0;    // of the newest record that the kernel numbered; 0 if there is none
  int64_t last_ms = 0;         // its time
  int64_t resumed_ms = 0;      // of the newest DAEMON_START or DAEMON_RESUME; 0 if none is seen
  bool restarted = false;      // that was a DAEMON_START: what the kernel held for it may follow
  int64_t from_ms = 0;         // of the oldest record seen: what is older is not known
  std::set<uint64_t> serials;  // of the VIRT_* records seen
};
inline constexpr size_t kTailBytes = 1U << 18U;
// Of `path`, or of path.1 where a rotation has just left `path` without records.
Result<AuditLogTail> read_audit_log_tail(const std::string& path);
// The same, read back over rotated logs (path.1, path.2 …) as far as the first record before
// `since_ms`, but at most 64 MiB of each. Blocks for as long as that reading takes.
Result<AuditLogTail> read_audit_log_since(const std::string& path, int64_t since_ms);
// The same from text. auditd numbers its own DAEMON_* records apart from the kernel's. Pure.
void scan_audit_log(std::string_view text, AuditLogTail& tail);

}  // namespace tenure::kernel
