// SPDX-License-Identifier: Apache-2.0
#include "reader/segment.h"

#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "base/result.h"

namespace tenure::reader {
namespace {

constexpr size_t kStep = 1024;  // how much more is read to find the end of the last line

// A stretch of the file from `from` on; grows to the right.
class Window {
 public:
  Window(int fd, uint64_t from, uint64_t file_size, ReadBuffer& buffer)
      : fd_(fd), from_(from), limit_(file_size - from), data_(buffer.data()) {}

  // Has at least `size` bytes if the file has them. ReadBuffer::kSize is the most.
  void need(size_t size) {
    size = static_cast<size_t>(std::min<uint64_t>(size, limit_));
    while (have_ < size && !failed_) {
      const ssize_t got =
          ::pread(fd_, data_ + have_, size - have_, static_cast<off_t>(from_ + have_));
      if (got > 0) {
        have_ += static_cast<size_t>(got);
      } else if (got == 0 || errno != EINTR) {
        failed_ = true;
        errno_ = got == 0 ? 0 : errno;
      }
    }
  }

  // Where the first line at or behind byte `at` of the window begins: after the first newline from
  // at-1 on. nullopt if there is none within kMaxLine; the window's end if the file ends before.
  std::optional<size_t> line_start(size_t at) {
    size_t look = at - 1;
    while (look < at - 1 + kMaxLine) {
      need(std::min(look + kStep, at - 1 + kMaxLine));
      if (have_ <= look)
        break;
      const void* newline = std::memchr(data_ + look, '\n', have_ - look);
      if (newline != nullptr) {
        return static_cast<size_t>(static_cast<const char*>(newline) - data_) + 1;
      }
      look = have_;
    }
    if (have_ == limit_ || failed_)
      return have_;
    return std::nullopt;
  }

  std::string_view bytes(size_t begin, size_t end) const {
    return {data_ + begin, std::min(end, have_) - std::min(begin, std::min(end, have_))};
  }
  bool failed() const { return failed_; }
  int error() const { return errno_; }

 private:
  int fd_;
  uint64_t from_;
  uint64_t limit_;
  char* data_;
  size_t have_ = 0;
  bool failed_ = false;
  int errno_ = 0;
};

}  // namespace

Segment read_segment(int fd, std::string_view name, uint64_t size, uint64_t index,
                     ReadBuffer& buffer) {
  const uint64_t start = index * kSegment;
  const uint64_t from = start == 0 ? 0 : start - ReadBuffer::kMargin;
  const auto skip = static_cast<size_t>(start - from);
  Window window(fd, from, size, buffer);
  window.need(kSegment + skip);
  Segment segment;
  std::optional<size_t> begin = skip == 0 ? std::optional<size_t>(0) : window.line_start(skip);
  if (!begin) {
    segment.damage.add(DamageKind::NoLineEnd, fmt::format("{} at byte {}", name, start));
    begin = skip;
  }
  segment.last = start + kSegment >= size;
  size_t end = static_cast<size_t>(size - from);
  if (!segment.last)
    end = window.line_start(skip + kSegment).value_or(skip + kSegment);
  segment.bytes = window.bytes(*begin, end);
  segment.offset = from + *begin;
  if (window.failed() && window.error() != 0) {
    segment.damage.add(DamageKind::ReadError, sys_error("read", name, window.error()).what());
  } else if (window.failed()) {
    segment.damage.add(DamageKind::Shrunk, std::string(name));
  }
  return segment;
}

}  // namespace tenure::reader
