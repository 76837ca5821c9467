// SPDX-License-Identifier: Apache-2.0
// The entries of a ledger in memory, decoded.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tests/unit/registrar/world.h"
#include "trail/decode.h"

namespace tenure::test {

// One entry of the ledger, decoded.
struct Line {
  uint64_t index = 0;
  trail::EntryState state = trail::EntryState::Intent;
  trail::Record record{trail::Kind::Control};
  std::string get(std::string_view key) const { return std::string(record.get(key).value_or("")); }
};
// `entry` must be one of ours.
inline Line decode(uint64_t index, const std::string& entry) {
  auto view = trail::decode_line(entry);
  return {.index = index, .state = view->state.value(), .record = *trail::decode_record(*view)};
}
inline std::vector<Line> lines(const MemoryLedger& ledger) {
  std::vector<Line> all;
  for (size_t i = 0; i < ledger.entries.size(); ++i) all.push_back(decode(i, ledger.entries[i]));
  return all;
}

}  // namespace tenure::test
