// SPDX-License-Identifier: Apache-2.0
#include "reader/damage.h"

#include <fmt/format.h>

namespace tenure::reader {
namespace {

struct Words {
  DamageKind kind;
  std::string_view text;
};

constexpr std::array<Words, kDamageKinds> kDamageWords = {{
    {DamageKind::NulBlock, "records behind NUL bytes (power lost while the log was written)"},
    {DamageKind::Truncated, "records cut in the middle"},
    {DamageKind::Glued, "records glued to the one before (a newline was lost)"},
    {DamageKind::Overlong, "lines longer than 64 KiB, cut"},
    {DamageKind::NoLineEnd, "stretches of 64 KiB without a line end (not an audit log?)"},
    {DamageKind::BadHeader, "records without a readable msg=audit(…)"},
    {DamageKind::NoId, "records without time and serial (a short form of journald or syslog)"},
    {DamageKind::Interpreted, "interpreted records (ausearch -i; use ausearch --raw)"},
    {DamageKind::Shrunk, "files that became shorter while being read"},
    {DamageKind::ReadError, "files that cannot be read to the end"},
}};

constexpr bool in_order() {
  for (size_t i = 0; i < kDamageWords.size(); ++i) {
    if (static_cast<size_t>(kDamageWords[i].kind) != i)
      return false;
  }
  return true;
}
static_assert(in_order());

}  // namespace

std::string_view describe(DamageKind kind) {
  return kDamageWords[static_cast<size_t>(kind)].text;
}

void DamageLog::add(DamageKind kind, std::string where, uint64_t count) {
  if (count == 0)
    return;
  const auto at = static_cast<size_t>(kind);
  if (counts_[at] == 0)
    first_[at] = std::move(where);
  counts_[at] += count;
}

void DamageLog::merge(const DamageLog& other) {
  for (size_t i = 0; i < kDamageKinds; ++i) {
    add(static_cast<DamageKind>(i), other.first_[i], other.counts_[i]);
  }
}

bool DamageLog::empty() const {
  for (const uint64_t count : counts_) {
    if (count != 0)
      return false;
  }
  return true;
}

std::vector<std::string> DamageLog::lines() const {
  std::vector<std::string> out;
  for (size_t i = 0; i < kDamageKinds; ++i) {
    if (counts_[i] == 0)
      continue;
    out.push_back(fmt::format("{} {} (first: {})", counts_[i], describe(static_cast<DamageKind>(i)),
                              first_[i]));
  }
  return out;
}

}  // namespace tenure::reader
