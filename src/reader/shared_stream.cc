// SPDX-License-Identifier: Apache-2.0
#include "reader/shared_stream.h"

#include <sys/wait.h>

#include <cstring>
#include <utility>

namespace tenure::reader {
namespace {

// Measured on a pipe of 1 MiB: with larger reads its writer waits for us, and both of us for
// memory.
constexpr size_t kRead = 256 * 1024;
static_assert(kRead <= kSegment);

// The end of the last whole line in `block`; its size where what follows is longer than any record,
// so that at most kMaxLine bytes are carried on.
size_t whole_lines(std::string_view block, DamageLog& damage, std::string_view name) {
  const size_t newline = block.rfind('\n');
  const size_t end = newline == std::string_view::npos ? 0 : newline + 1;
  if (block.size() - end <= kMaxLine)
    return end;
  damage.add(DamageKind::NoLineEnd, std::string(name));
  return block.size();
}

}  // namespace

SharedStream::SharedStream(Source& source) : source_(source) {}

std::optional<SharedStream::Block> SharedStream::next(ReadBuffer& buffer) {
  const std::scoped_lock lock(mutex_);
  if (ended_)
    return std::nullopt;
  Block block{.turn = turn_++, .bytes = {}, .offset = offset_, .last = false, .damage = {}};
  char* const read_to = buffer.data() + kMaxLine;  // aligned; the line begun stands in front of it
  const size_t got = read_into(read_to, block.damage);
  std::memcpy(read_to - begun_.size(), begun_.data(), begun_.size());
  const std::string_view all(read_to - begun_.size(), begun_.size() + got);
  block.last = got == 0;
  if (block.last)
    end(block.damage);
  const size_t size = block.last ? all.size() : whole_lines(all, block.damage, source_.name);
  block.bytes = all.substr(0, size);
  begun_.assign(all.substr(size));
  offset_ += size;
  return block;
}

// 0 at the end, and where nothing more can be read.
size_t SharedStream::read_into(char* to, DamageLog& damage) {
  if (!bytes_) {
    auto opened = open_content(fd_stream(std::move(source_.fd), source_.name), source_.name);
    if (!opened) {
      damage.add(DamageKind::ReadError, opened.error().what());
      return 0;
    }
    bytes_ = std::move(*opened);
  }
  auto got = bytes_->read(to, kRead);
  if (got)
    return *got;
  damage.add(DamageKind::ReadError, got.error().what());
  return 0;
}

// Ends with the journalctl that fed the stream; its failure is a read error.
void SharedStream::end(DamageLog& damage) {
  ended_ = true;
  bytes_.reset();
  if (source_.pid == 0)
    return;
  int status = 0;
  while (::waitpid(source_.pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0)
    damage.add(DamageKind::ReadError, "journalctl failed: its message stands above");
}

}  // namespace tenure::reader
