// SPDX-License-Identifier: Apache-2.0
// One entry of the ledger: a line in the form of auditd's raw log, so that one decoder reads both:
//   type=VIRT_RESOURCE msg=audit(SEC.MMM:SERIAL): state=STATE pid=P uid=U auid=A ses=S msg='BODY'
// With state=confirmed, time, serial, pid … ses and BODY are what the kernel emitted; otherwise
// SERIAL is 0, the time is ours, and BODY is what would have been sent.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/identity.h"
#include "base/result.h"

namespace tenure::trail {

enum class EntryState : uint8_t {
  Intent,       // about to be tried; says nothing of the world. BODY has no res=
  Void,         // ends an intent that came to nothing (found not done at recovery); not an event
  Confirmed,    // the kernel emitted the record, seen on the audit multicast group
  Unconfirmed,  // sent, but not seen: auditing off, rate-limited, listener overrun
  Unsent,       // no audit to send to (no capability, no kernel audit)
};

std::string_view to_string(EntryState state);  // "intent", …

struct Entry {
  EntryState state = EntryState::Intent;
  uint16_t type = 0;    // AUDIT_VIRT_CONTROL (2500) …
  int64_t time_ms = 0;  // since 1970 UTC
  uint64_t serial = 0;  // 0: not confirmed
  int32_t pid = 0;      // the sender's (tenured), as the kernel says
  uint32_t uid = kUnsetId;
  uint32_t auid = kUnsetId;
  uint32_t ses = kUnsetId;
  std::string body;  // inside msg='…'
};

// Without newline.
std::string encode_entry(const Entry& entry);
// Corrupt, with the byte offset, if it is not exactly that form.
Result<Entry> decode_entry(std::string_view line);

}  // namespace tenure::trail
