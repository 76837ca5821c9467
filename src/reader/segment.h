// SPDX-License-Identifier: Apache-2.0
// A regular file cut into pieces of whole lines that can be read independently, in any order.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "reader/damage.h"

namespace tenure::reader {

// Small enough to stay in a core's second-level cache between read(2) and scan.
inline constexpr uint64_t kSegment = 256 * 1024;

struct Segment {
  std::string_view bytes;  // into the buffer given to read_segment()
  uint64_t offset = 0;     // in the file
  bool last = false;
  DamageLog damage;
};

// Lines that begin in [index, index+1) * kSegment of a file with `size` bytes. A line may be 64 KiB
// long; where no newline is found within that, the cut is made all the same and recorded. `buffer`
// is grown as needed and may be reused. Thread-safe.
Segment read_segment(int fd, std::string_view name, uint64_t size, uint64_t index,
                     std::vector<char>& buffer);

inline uint64_t segment_count(uint64_t size) {
  return (size + kSegment - 1) / kSegment;
}

}  // namespace tenure::reader
