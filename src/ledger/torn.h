// SPDX-License-Identifier: Apache-2.0
// Ends of pending files that are no frames: a write that a power cut left unfinished, or damage.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/storage.h"

namespace tenure::ledger {

// What stands behind text() where it can be.
inline constexpr std::string_view kUnfinished =
    ": a write that was cut short, as by a power loss; opening the ledger drops it";

struct TornEnd {
  std::string where;
  uint64_t bytes = 0;
  uint64_t offset = 0;
  bool frame_follows = false;  // a whole frame stands behind it
  bool has_frames = false;     // whole frames stand before it in the same file
  // "N bytes at offset M are no whole frame".
  std::string text() const;
};

// Of the two files only the one with the newest frames, or the one without any, can end in a write
// that was cut short; and nothing follows such a write. `newest`: the file with the newest frame,
// "" if there is none. Pure.
bool can_be_unfinished(const TornEnd& end, const std::vector<TornEnd>& all,
                       const std::string& newest);

// Changes whenever the writer does anything.
std::string stamp_of(const Storage& storage);

}  // namespace tenure::ledger
