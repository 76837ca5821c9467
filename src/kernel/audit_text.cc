// SPDX-License-Identifier: Apache-2.0
#include "kernel/audit_text.h"

#include <fmt/format.h>
#include <libaudit.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <memory>

#include "base/text.h"

namespace tenure::kernel {
namespace {

// Cuts "<front>" off; false if `text` does not begin with it.
bool eat(std::string_view& text, std::string_view front) {
  if (!text.starts_with(front))
    return false;
  text.remove_prefix(front.size());
  return true;
}

// Cuts a number up to `end` off, and `end` itself.
template <class Int>
bool eat_number(std::string_view& text, Int& value, char end) {
  size_t at = text.find(end);
  if (at == text.npos)
    return false;
  std::optional<Int> number = parse_int<Int>(text.substr(0, at));
  if (!number)
    return false;
  value = *number;
  text.remove_prefix(at + 1);
  return true;
}

bool eat_stamp(std::string_view& text, AuditEcho& echo) {
  int64_t seconds = 0;
  int64_t millis = 0;
  if (!eat(text, "audit(") || !eat_number(text, seconds, '.') || !eat_number(text, millis, ':') ||
      !eat_number(text, echo.serial, ')') || !eat(text, ": "))
    return false;
  constexpr int64_t kLatest = INT64_MAX / 1000 - 1;
  if (seconds < 0 || seconds > kLatest || millis < 0 || millis > 999)
    return false;
  echo.time_ms = seconds * 1000 + millis;
  return true;
}

}  // namespace

AuditFrame audit_frame(const AuditMessage& message) {
  return {message.body + " exe=", fmt::format(" hostname=? addr=? terminal=? res={}",
                                              message.success ? "success" : "failed")};
}

bool matches(const AuditFrame& frame, std::string_view text) {
  if (text.size() <= frame.before.size() + frame.after.size())
    return false;
  if (!text.starts_with(frame.before) || !text.ends_with(frame.after))
    return false;
  text.remove_prefix(frame.before.size());
  text.remove_suffix(frame.after.size());
  return text.find(' ') == text.npos;
}

std::string own_exe_value() {
  char path[PATH_MAX];
  ssize_t size = readlink("/proc/self/exe", path, sizeof path - 1);
  if (size <= 0)
    return "\"?\"";
  path[size] = '\0';
  std::unique_ptr<char, decltype(&free)> pair(audit_encode_nv_string("exe", path, 0), free);
  if (pair == nullptr)
    return "\"?\"";
  return std::string(pair.get() + sizeof("exe=") - 1);
}

Result<> check_audit_message(const AuditMessage& message, std::string_view exe_value) {
  if (message.type < kFirstAuditType || message.type > kLastAuditType)
    return fail(Errc::Invalid, fmt::format("audit type {} is not one of {} to {}", message.type,
                                           kFirstAuditType, kLastAuditType));
  if (message.body.empty())
    return fail(Errc::Invalid, "the audit record is empty");
  auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
  if (std::ranges::any_of(message.body, is_control))
    return fail(Errc::Invalid, "a control character in the audit record: encode the value");
  AuditFrame frame = audit_frame(message);
  size_t size = frame.before.size() + exe_value.size() + frame.after.size();
  if (size > kMaxAuditText)
    return fail(Errc::Invalid, fmt::format("the audit record has {} bytes, the kernel takes {}",
                                           size, kMaxAuditText));
  return {};
}

std::optional<AuditEcho> parse_audit_echo(uint16_t type, std::string_view bytes) {
  while (!bytes.empty() && bytes.back() == '\0') bytes.remove_suffix(1);
  AuditEcho echo;
  echo.type = type;
  if (!eat_stamp(bytes, echo))
    return std::nullopt;
  if (!eat(bytes, "pid=") || !eat_number(bytes, echo.pid, ' '))
    return std::nullopt;
  if (!eat(bytes, "uid=") || !eat_number(bytes, echo.uid, ' '))
    return std::nullopt;
  if (!eat(bytes, "auid=") || !eat_number(bytes, echo.auid, ' '))
    return std::nullopt;
  if (!eat(bytes, "ses=") || !eat_number(bytes, echo.ses, ' '))
    return std::nullopt;
  if (bytes.starts_with("subj=")) {  // a security label, hex if it holds blanks
    size_t end = bytes.find(' ');
    if (end == bytes.npos)
      return std::nullopt;
    bytes.remove_prefix(end + 1);
  }
  if (!eat(bytes, "msg='") || !bytes.ends_with('\''))
    return std::nullopt;
  bytes.remove_suffix(1);
  echo.text = bytes;
  return echo;
}

}  // namespace tenure::kernel
