// SPDX-License-Identifier: Apache-2.0
// One record of the trail as plain values, and its text in the audit grammar. Pure: no system call.
// The vocabulary table (vocabulary.cc) says which keys a kind has, in which order and how each
// value is encoded; encoder, decoder and docs/records.md all come from it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/identity.h"
#include "base/result.h"
#include "trail/vocabulary.h"

namespace tenure::trail {

// Values are raw bytes; encoding happens in encode(), so a caller can never forget it.
struct Record {
  Kind kind;
  bool success = true;
  std::vector<std::pair<std::string, std::string>> fields;

  explicit Record(Kind k) : kind(k) {}
  // Sets or replaces; chainable.
  Record& set(std::string_view key, std::string_view value);
  Record& set(std::string_view key, uint64_t value);
  // What was set, else the fixed word of the table; nullopt if the record has no such key.
  std::optional<std::string_view> get(std::string_view key) const;
};

// req-auid, req-ses, req-uid, req-pid, req-exe, req-tty.
void set_requester(Record& record, const Requester& who);

// The message that goes to the kernel, without what libaudit appends (exe= … res=):
// `virt=kvm resrc=disk reason=attach vm="web" uuid=… old-disk="?" new-disk="/dev/sdb" … txn=…`.
// Keys come out in the table's order whatever the order of set(). Invalid: a key that the kind has
// not, a mandatory key missing, a word with a byte that a bare word cannot hold, or text longer
// than kMaxMessage.
Result<std::string> encode(const Record& record);

// MAX_AUDIT_MESSAGE_LENGTH of libaudit (8970) less what libaudit appends; longer is EINVAL there.
inline constexpr size_t kMaxMessage = 8400;

// As audit_encode_nv_string without the key: quoted, or upper-case hex if a byte is '"', below
// 0x21, 0x7F or above. Hex also for ' and =, which libaudit leaves alone: ausearch looks for "res="
// with strstr, so a guest named q'res=failed (or xres=failed) makes it report a success as a
// failure. Every audit reader decodes both forms. Empty text is "" (quoted).
std::string encode_value(std::string_view value);

}  // namespace tenure::trail
