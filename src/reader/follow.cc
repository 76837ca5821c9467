// SPDX-License-Identifier: Apache-2.0
#include "reader/follow.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "base/file.h"
#include "ledger/ledger.h"
#include "reader/scan.h"

namespace tenure::reader {
namespace {

constexpr size_t kChunk = 1 << 20;

// The place behind the last newline before `size`: a half-written line is left for later.
uint64_t whole_lines(int fd, uint64_t size) {
  std::string tail(std::min<uint64_t>(size, kMaxLine), '\0');
  const ssize_t got = ::pread(fd, tail.data(), tail.size(), static_cast<off_t>(size - tail.size()));
  if (got <= 0)
    return size;
  const size_t newline = tail.substr(0, static_cast<size_t>(got)).rfind('\n');
  return newline == std::string::npos ? size : size - tail.size() + newline + 1;
}

}  // namespace

Result<Follower> Follower::start(const SourceSet& set) {
  Follower follower;
  follower.inotify_ = UniqueFd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!follower.inotify_)
    return fail_sys("inotify_init", "log");
  for (uint32_t i = 0; i < set.sources.size(); ++i) {
    const Source& source = set.sources[i];
    if (source.kind == SourceKind::Ledger) {
      TRY_OK(follower.watch(source.name));
      follower.ledgers_.push_back({.source = i, .dir = source.name, .next = 0});
    } else if (source.kind == SourceKind::Log && source.growing) {
      TRY_OK(follower.watch(folder_of(source.name)));
      UniqueFd fd(::fcntl(source.fd.get(), F_DUPFD_CLOEXEC, 3));
      if (!fd)
        return fail_sys("dup", source.name);
      const uint64_t offset = whole_lines(fd.get(), source.size);
      follower.logs_.push_back({i, source.name, std::move(fd), offset});
    }
  }
  if (follower.logs_.empty() && follower.ledgers_.empty())
    return fail(Errc::Unsupported, "log -f: none of the sources can be followed");
  return follower;
}

Result<> Follower::watch(const std::string& folder) {
  constexpr uint32_t kEvents = IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE;
  if (::inotify_add_watch(inotify_.get(), folder.c_str(), kEvents) < 0)
    return fail_sys("watch", folder);
  return {};
}

void Follower::ledger_read_up_to(uint32_t source, uint64_t next_index) {
  for (Ledger& ledger : ledgers_) {
    if (ledger.source == source)
      ledger.next = std::max(ledger.next, next_index);
  }
}

Result<bool> Follower::poll(int timeout_ms, const Each& each) {
  // What came between the first reading and now has no event of its own.
  TRY(const bool before, read_all(each));
  if (before)
    return true;
  pollfd waiting{.fd = inotify_.get(), .events = POLLIN, .revents = 0};
  const int ready = ::poll(&waiting, 1, timeout_ms);
  if (ready < 0 && errno != EINTR)
    return fail_sys("poll", "inotify");
  if (ready <= 0)
    return false;
  alignas(inotify_event) char events[16384];
  while (::read(inotify_.get(), events, sizeof events) > 0) {
  }
  return read_all(each);
}

Result<bool> Follower::read_all(const Each& each) {
  bool any = false;
  for (Log& log : logs_) any = read_log(log, each) || any;
  for (Ledger& ledger : ledgers_) {
    TRY(const bool more, read_ledger(ledger, each));
    any = any || more;
  }
  return any;
}

bool Follower::read_log(Log& log, const Each& each) {
  bool any = read_lines(log, each);
  struct stat by_fd{};
  struct stat by_name{};
  if (::fstat(log.fd.get(), &by_fd) != 0)
    return any;
  if (static_cast<uint64_t>(by_fd.st_size) < log.offset)
    log.offset = 0;  // emptied in place (logrotate's copytruncate)
  if (::stat(log.path.c_str(), &by_name) != 0)
    return any;
  if (by_fd.st_ino == by_name.st_ino && by_fd.st_dev == by_name.st_dev)
    return any;
  auto fresh = open_file(log.path, O_RDONLY);
  if (!fresh)
    return any;
  // The old file was renamed before the new one was made: what it has now is its end.
  any = read_lines(log, each) || any;
  log.fd = std::move(*fresh);
  log.offset = 0;
  return read_lines(log, each) || any;
}

bool Follower::read_lines(Log& log, const Each& each) {
  std::string chunk(kChunk, '\0');
  bool any = false;
  for (;;) {
    const ssize_t got =
        ::pread(log.fd.get(), chunk.data(), chunk.size(), static_cast<off_t>(log.offset));
    if (got <= 0)
      return any;
    const std::string_view text(chunk.data(), static_cast<size_t>(got));
    size_t end = text.rfind('\n') + 1;
    if (end == 0 && text.size() < kMaxLine)
      return any;
    if (end == 0)
      end = text.size();
    const BlockPlace place{.source_name = log.path, .source = log.source, .offset = log.offset};
    const Batch batch = decode_block(text.substr(0, end), place);
    any = any || !batch.events.empty();
    each(batch);
    log.offset += end;
  }
}

Result<bool> Follower::read_ledger(Ledger& ledger, const Each& each) {
  bool any = false;
  const BlockPlace place{.source_name = ledger.dir, .source = ledger.source};
  TRY_OK(ledger::read_entries(ledger.dir, ledger.next, [&](uint64_t index, std::string_view entry) {
    Batch batch;
    decode_into(batch, entry, place, index);
    each(batch);
    ledger.next = index + 1;
    return any = true;
  }));
  return any;
}

}  // namespace tenure::reader
