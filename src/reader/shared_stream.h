// SPDX-License-Identifier: Apache-2.0
// A stream that threads read in turns: while one decodes its block, another reads the next one.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "reader/byte_stream.h"
#include "reader/damage.h"
#include "reader/files.h"
#include "reader/segment.h"

namespace tenure::reader {

class SharedStream {
 public:
  // Whole lines, as many as were there: a slow pipe's records do not wait for a full block.
  struct Block {
    uint64_t turn = 0;       // blocks are numbered from 0
    std::string_view bytes;  // into the buffer given to next()
    uint64_t offset = 0;     // in the stream
    bool last = false;
    DamageLog damage;
  };

  // Takes the source's descriptor and reaps the process that feeds it; `source` outlives this.
  explicit SharedStream(Source& source);

  // nullopt behind the last block. Errors are damage of the last block. Thread-safe: one thread
  // reads, the others wait for their turn.
  std::optional<Block> next(ReadBuffer& buffer);

 private:
  size_t read_into(char* to, DamageLog& damage);
  void end(DamageLog& damage);

  Source& source_;
  std::mutex mutex_;
  std::unique_ptr<ByteStream> bytes_;
  std::string begun_;  // the line that the last block ended in
  uint64_t turn_ = 0;
  uint64_t offset_ = 0;
  bool ended_ = false;
};

}  // namespace tenure::reader
