// SPDX-License-Identifier: Apache-2.0
// A stretch of a source, scanned and decoded: the unit that travels from the threads that read to
// the one that understands.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "reader/damage.h"
#include "trail/decode.h"

namespace tenure::reader {

// One record in the order of the stream.
struct Event {
  trail::LineView view;   // into text
  std::string_view text;  // the line as it stands in the source; into the batch's arena
  uint64_t offset = 0;    // of the line in its source, in bytes; for a ledger the entry's index
  uint32_t source = 0;    // index in SourceSet::sources
};

struct Batch {
  std::unique_ptr<char[]> arena;
  std::vector<Event> events;
  DamageLog damage;
  uint64_t bytes = 0;  // of the source that were looked at; for the progress bar
};

struct BlockPlace {
  std::string_view source_name;
  uint32_t source = 0;
  uint64_t offset = 0;   // of the block in the source
  bool last = false;     // the block ends where the source ends
  bool growing = false;  // … and is still written to: a cut last line is not damage but unfinished
};

// Scans and decodes one block of whole lines. Thread-safe (no state).
Batch decode_block(std::string_view block, const BlockPlace& place);

// Decodes one line (no newline) that is known to be a record, and what is glued to it, into
// `batch`. `text` must outlive the batch. `unfinished`: if the line is cut, leave it out without a
// word.
void decode_into(Batch& batch, std::string_view text, const BlockPlace& place, uint64_t offset,
                 bool unfinished = false);

}  // namespace tenure::reader
