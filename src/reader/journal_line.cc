// SPDX-License-Identifier: Apache-2.0
// An entry of the journal as the line that auditd would have written of the same record.
#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "reader/journal.h"

namespace tenure::reader {
namespace {

struct TypeName {
  uint16_t type;
  std::string_view name;
};

// journald names a type that it does not know "AUDIT1305"; those that the reader looks for by name.
constexpr TypeName kTypeNames[] = {
    {1112, "USER_LOGIN"},
    {1123, "USER_CMD"},
    {1127, "SYSTEM_BOOT"},
    {1128, "SYSTEM_SHUTDOWN"},
    {1200, "DAEMON_START"},
    {1201, "DAEMON_END"},
    {1202, "DAEMON_ABORT"},
    {1300, "SYSCALL"},
    {1305, "CONFIG_CHANGE"},
    {1309, "EXECVE"},
    {1400, "AVC"},
    {1700, "ANOM_PROMISCUOUS"},
    {1701, "ANOM_ABEND"},
    {2500, "VIRT_CONTROL"},
    {2501, "VIRT_RESOURCE"},
    {2502, "VIRT_MACHINE_ID"},
    {2503, "VIRT_INTEGRITY_CHECK"},
    {2504, "VIRT_CREATE"},
    {2505, "VIRT_DESTROY"},
    {2506, "VIRT_MIGRATE_IN"},
    {2507, "VIRT_MIGRATE_OUT"},
};

std::string type_name(uint16_t type) {
  for (const TypeName& row : kTypeNames) {
    if (row.type == type)
      return std::string(row.name);
  }
  return fmt::format("UNKNOWN[{}]", type);
}

// The message without journald's word for the type in front: "VIRT_CONTROL pid=1 …".
std::string_view without_type(std::string_view message) {
  const size_t blank = message.find(' ');
  const std::string_view word = message.substr(0, blank);
  constexpr std::string_view kWord = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_[]";
  if (word.empty() || word.find_first_not_of(kWord) != std::string_view::npos)
    return message;
  return blank == std::string_view::npos ? std::string_view() : message.substr(blank + 1);
}

// A name with a blank would end node= too early and forge what follows.
std::string node_name(const JournalEntry& entry) {
  for (const std::string* name : {&entry.hostname, &entry.machine}) {
    if (!name->empty() && name->find_first_of(" \n\t") == std::string::npos)
      return *name;
  }
  return "?";
}

}  // namespace

std::string audit_line(const JournalEntry& entry, bool with_node) {
  const auto type = parse_int<uint16_t>(entry.audit_type);
  const auto us =
      parse_int<uint64_t>(entry.source_us.empty() ? entry.realtime_us : entry.source_us);
  if (!type || !us)
    return {};
  const uint64_t serial = parse_int<uint32_t>(entry.audit_id).value_or(0);
  std::string message(without_type(entry.message));
  std::replace(message.begin(), message.end(), '\n', ' ');
  const std::string node = with_node ? "node=" + node_name(entry) + " " : "";
  return fmt::format("{}type={} msg=audit({}.{:03}:{}): {}", node, type_name(*type), *us / 1000000,
                     *us / 1000 % 1000, serial, message);
}

}  // namespace tenure::reader
