// SPDX-License-Identifier: Apache-2.0
// A regular file cut into pieces of whole lines that can be read independently, in any order.
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <string_view>

#include "reader/damage.h"
#include "reader/scan.h"

namespace tenure::reader {

inline constexpr uint64_t kSegment = 1024 * 1024;

// Memory for one segment or one block of a stream. Aligned as the page cache is: the kernel's copy
// (rep movsb) takes more than twice as long where source and target differ in their last bits.
class ReadBuffer {
 public:
  static constexpr size_t kMargin = 64;  // in front: the byte that tells if a line begins behind it
  static constexpr size_t kSize = kMargin + kSegment + kMaxLine + kMargin;

  ReadBuffer() : memory_(static_cast<char*>(::operator new(kSize, kAlignment))) {}
  char* data() { return memory_.get(); }

 private:
  static constexpr std::align_val_t kAlignment{4096};
  struct Free {
    void operator()(char* memory) const { ::operator delete(memory, kAlignment); }
  };
  std::unique_ptr<char, Free> memory_;
};

struct Segment {
  std::string_view bytes;  // into the buffer given to read_segment()
  uint64_t offset = 0;     // in the file
  bool last = false;
  DamageLog damage;
};

// Lines that begin in [index, index+1) * kSegment of a file with `size` bytes. A line may be 64 KiB
// long; where no newline is found within that, the cut is made all the same and recorded. `buffer`
// may be reused. Thread-safe.
Segment read_segment(int fd, std::string_view name, uint64_t size, uint64_t index,
                     ReadBuffer& buffer);

inline uint64_t segment_count(uint64_t size) {
  return (size + kSegment - 1) / kSegment;
}

}  // namespace tenure::reader
