// SPDX-License-Identifier: Apache-2.0
// Bytes of a log that can only be read forwards: pipes, compressed files, journal exports. What
// they are is seen from their first bytes, never from their names.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace tenure::reader {

// Not thread-safe; one thread reads one stream.
class ByteStream {
 public:
  virtual ~ByteStream() = default;
  // Fills up to `size` bytes (> 0); 0 only at the end. Corrupt if compressed data is damaged or
  // cut: what was given out before stays good.
  virtual Result<size_t> read(char* to, size_t size) = 0;
};

enum class Content { Plain, Gzip, Zstd, Xz, JournalExport, JournalJson };

// From the first bytes (kPeek are enough).
Content content_of(std::string_view first_bytes);
inline constexpr size_t kPeek = 512;

// read(2) of `fd`; `name` is for errors.
std::unique_ptr<ByteStream> fd_stream(UniqueFd fd, std::string name);
// The bytes of `text`, kept by the caller; for tests.
std::unique_ptr<ByteStream> text_stream(std::string_view text);
// Several gzip members or zstd frames in a row are one stream (gzip(1), zstd(1)).
std::unique_ptr<ByteStream> gzip_stream(std::unique_ptr<ByteStream> from, std::string name);
std::unique_ptr<ByteStream> zstd_stream(std::unique_ptr<ByteStream> from, std::string name);

// Looks at the first bytes and puts the streams needed in front, twice at most (a compressed
// journal export), so that audit lines come out. Unsupported for xz.
Result<std::unique_ptr<ByteStream>> open_content(std::unique_ptr<ByteStream> from,
                                                 const std::string& name);

}  // namespace tenure::reader
