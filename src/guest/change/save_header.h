// SPDX-License-Identifier: Apache-2.0
// The head of a file with a guest's saved state: who it is, then QEMU's own migration stream
// (docs/save-format.md). Whoever can write to the file chooses these bytes. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace tenure::guest {

inline constexpr size_t kSaveAlign = 4096;          // bytes; the head is a multiple of it
inline constexpr size_t kMaxSaveHead = 16U << 20U;  // bytes, meta included

struct SaveHeader {
  bool complete = false;     // written last, once the stream is all there
  uint64_t stream_size = 0;  // bytes that follow the head
  std::string meta;          // JSON, see save.cc; at most kMaxSaveHead - kSaveAlign
};

// The whole head, padded; its length depends on meta alone, so that it can be written again.
// Invalid if meta is too long.
Result<std::string> encode_save_header(const SaveHeader& header);

// How many bytes the head has, by its first kSaveAlign ones. Invalid: no such file, another
// version, or a length out of bounds.
Result<size_t> save_head_size(std::string_view first);

// Corrupt: the checksum or a length does not fit.
Result<SaveHeader> decode_save_header(std::string_view head);

}  // namespace tenure::guest
