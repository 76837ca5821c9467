// SPDX-License-Identifier: Apache-2.0
// The file `checkpoints`: the signed checkpoint of every multiple of 256 entries, one note after
// the other. As the sizes are fixed and a note's length follows from its size, the place of each is
// known without reading the others, and none can be left out unseen. Pure.
#pragma once

#include <cstdint>
#include <string_view>

namespace tenure::ledger {

inline constexpr uint64_t kArchiveStep = 256;  // entries
inline constexpr char kArchivePath[] = "checkpoints";

// Bytes of the checkpoint note of a tree of `size` entries, signed once, under that origin.
uint64_t checkpoint_note_size(std::string_view origin, uint64_t size);
// Bytes of the first `count` archived notes: the place of note number `count`.
uint64_t archive_offset(std::string_view origin, uint64_t count);

}  // namespace tenure::ledger
