// SPDX-License-Identifier: Apache-2.0
// The write-ahead files pending.0 and pending.1: entries that are durable but not yet in tiles. A
// group commit is one frame, appended by one write and made durable by one fdatasync. Format and
// reasons: docs/ledger-format.md.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "ledger/hash.h"
#include "ledger/note.h"
#include "ledger/storage.h"

namespace tenure::ledger {

inline constexpr std::string_view kPendingHeader = "tenure-pending/1\n";
inline constexpr size_t kFrameOverhead = 4 + 4 + 8 + 4 + kSignatureSize;
inline constexpr size_t kMaxFrame = size_t{16} << 20;  // bytes, all of it
inline constexpr size_t kPendingFiles = 2;

std::string pending_path(size_t which);  // "pending.0", "pending.1"

struct Frame {
  uint64_t first = 0;                     // index of the first entry
  std::vector<std::string_view> entries;  // into `bytes`
  std::string_view signature;             // into `bytes`
  std::string bytes;                      // the whole frame as it stands in the file

  Frame() = default;
  Frame(const Frame&) = delete;  // the views would point into the other one's bytes
  Frame& operator=(const Frame&) = delete;
  Frame(Frame&&) = delete;
  Frame& operator=(Frame&&) = delete;
  uint64_t end() const { return first + entries.size(); }
};

// What a frame's signature covers: the tree that the log has with it. Four lines, so that it can
// never be taken for a checkpoint: a frame whose write fails must not bind the log.
std::string frame_text(std::string_view origin, uint64_t size, const Hash& root);

// `payload` is entries as in a bundle.
std::string encode_frame(uint64_t first, uint32_t count, std::string_view payload,
                         std::string_view signature);

// Reads the frames of one file in order. Not thread-safe.
class FrameReader {
 public:
  // Corrupt if the header is wrong. A file that ends inside the header has no frames and is torn.
  static Result<FrameReader> begin(const File& file);

  // The next whole frame, nullptr at the end. Whatever follows the last whole frame is torn().
  Result<std::unique_ptr<Frame>> next();
  // Offset behind the last frame returned.
  uint64_t offset() const { return offset_; }
  // After the end: bytes that are no whole frame.
  uint64_t torn() const { return torn_; }

 private:
  explicit FrameReader(const File& file) : file_(&file) {}
  const File* file_;
  uint64_t offset_ = 0;
  uint64_t torn_ = 0;
};

// True if a whole frame stands somewhere behind `offset`: then what stands at `offset` is damage in
// the middle, not a write that a power cut left unfinished. Looks through at most 2 kMaxFrame
// bytes, and says true for more: one unfinished frame is never that long.
Result<bool> frame_follows(const File& file, uint64_t offset);

}  // namespace tenure::ledger
