// SPDX-License-Identifier: Apache-2.0
// Who asked: the identity of a process as the audit subsystem names it.
#pragma once

#include <cstdint>
#include <string>

namespace tenure {

inline constexpr uint32_t kUnsetId = 4294967295U;  // (uid_t)-1: loginuid or session never set

struct Requester {
  uint32_t auid = kUnsetId;  // /proc/PID/loginuid
  uint32_t ses = kUnsetId;   // /proc/PID/sessionid
  uint32_t uid = kUnsetId;
  int32_t pid = 0;        // in the daemon's pid namespace
  std::string exe = "?";  // /proc/PID/exe
  std::string tty = "?";  // "pts/3", "?" if none
  bool operator==(const Requester&) const = default;
};

}  // namespace tenure
