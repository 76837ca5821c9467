// SPDX-License-Identifier: Apache-2.0
// What was wrong with what was read: nothing is skipped in silence. Counted by kind, with the first
// place of each, so that memory stays bounded whatever the input.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tenure::reader {

enum class DamageKind : uint8_t {
  NulBlock,     // NULs in front of a record: power was lost while auditd wrote
  Truncated,    // a record ends in the middle: its last fields are missing
  Glued,        // two records on one line: a newline was lost
  Overlong,     // longer than any record can be: cut
  NoLineEnd,    // 64 KiB without a newline: not a log, or a damaged one
  BadHeader,    // a VIRT_ record without a readable msg=audit(…)
  NoId,         // a short form without time and serial (journald's, syslog's)
  Interpreted,  // output of ausearch -i: names in place of numbers
  Shrunk,       // the file became shorter while it was read
  ReadError,    // cannot be read on: I/O error, damaged compression
};
inline constexpr size_t kDamageKinds = static_cast<size_t>(DamageKind::ReadError) + 1;

std::string_view describe(DamageKind kind);  // "records cut in the middle"

class DamageLog {
 public:
  // `where`: "audit.log.1 at byte 4711", or an error's text; kept for the first of each kind.
  void add(DamageKind kind, std::string where, uint64_t count = 1);
  void merge(const DamageLog& other);
  uint64_t count(DamageKind kind) const { return counts_[static_cast<size_t>(kind)]; }
  const std::string& first(DamageKind kind) const { return first_[static_cast<size_t>(kind)]; }
  bool empty() const;
  // One line for each kind that occurred: "2 records cut in the middle (first: …)".
  std::vector<std::string> lines() const;

 private:
  std::array<uint64_t, kDamageKinds> counts_{};
  std::array<std::string, kDamageKinds> first_;
};

}  // namespace tenure::reader
