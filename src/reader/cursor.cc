// SPDX-License-Identifier: Apache-2.0
#include "reader/cursor.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/file.h"
#include "base/text.h"

namespace tenure::reader {
namespace {

constexpr char kHeader[] = "tenure-cursor 1";
constexpr size_t kMaxCursor = 1 << 20;

// The first `count` blank-separated words and the rest, which is a path.
std::vector<std::string_view> words(std::string_view line, size_t count) {
  std::vector<std::string_view> out;
  while (out.size() < count) {
    const size_t blank = line.find(' ');
    if (blank == std::string_view::npos)
      break;
    out.push_back(line.substr(0, blank));
    line.remove_prefix(blank + 1);
  }
  out.push_back(line);
  return out;
}

}  // namespace

Result<Cursor> Cursor::load(const std::string& path) {
  Cursor cursor;
  auto text = read_file(path, kMaxCursor);
  if (!text && text.error().code() == Errc::NotFound)
    return cursor;
  if (!text)
    return fail(std::move(text).error().context("cursor"));
  const auto bad = [&] { return fail(Errc::Corrupt, "cursor " + path + ": not a cursor file"); };
  const auto lines = split(*text, '\n');
  if (lines[0] != kHeader)
    return bad();
  for (size_t i = 1; i < lines.size(); ++i) {
    if (lines[i].empty())
      continue;
    if (lines[i].starts_with("ledger ")) {
      const auto parts = words(lines[i], 2);
      const auto next = parts.size() == 3 ? parse_int<uint64_t>(parts[1]) : std::nullopt;
      if (!next)
        return bad();
      cursor.ledgers_[std::string(parts[2])] = *next;
      continue;
    }
    const auto parts = words(lines[i], 4);
    if (parts.size() != 5 || parts[0] != "log")
      return bad();
    const auto inode = parse_int<uint64_t>(parts[1]);
    const auto offset = parse_int<uint64_t>(parts[2]);
    const auto time = parse_int<int64_t>(parts[3]);
    const auto serial = parse_int<uint64_t>(parts[4]);
    if (!inode || !offset || !time || !serial)
      return bad();
    cursor.log_ = LogPlace{*inode, *offset, *time, *serial};
  }
  return cursor;
}

Result<> Cursor::store(const std::string& path) const {
  std::string text = std::string(kHeader) + "\n";
  if (const auto& place = newest_ ? newest_ : log_) {
    text += fmt::format("log {} {} {} {}\n", place->inode, place->offset, place->time_ms,
                        place->serial);
  }
  for (const auto& [dir, next] : ledgers_) text += fmt::format("ledger {} {}\n", next, dir);
  return write_file_atomic(path, text);
}

// Inodes are given out again: it is the same file only if the record stands where it stood.
bool Cursor::is_at(int fd) const {
  constexpr size_t kFrame = 512;  // node=, type= and msg= fit
  char text[kFrame];
  const ssize_t got = ::pread(fd, text, sizeof text, static_cast<off_t>(log_->offset));
  if (got <= 0)
    return false;
  const std::string id =
      fmt::format("audit({}.{:03}:{})", log_->time_ms / 1000, log_->time_ms % 1000, log_->serial);
  return std::string_view(text, static_cast<size_t>(got)).find(id) != std::string_view::npos;
}

void Cursor::attach(const SourceSet& set) {
  for (const Source& source : set.sources) {
    SourceInfo info{.name = source.name, .ledger = source.kind == SourceKind::Ledger};
    struct stat st{};
    if (source.fd && ::fstat(source.fd.get(), &st) == 0 && S_ISREG(st.st_mode))
      info.inode = st.st_ino;
    if (log_ && info.inode != 0 && info.inode == log_->inode && is_at(source.fd.get()))
      at_source_ = sources_.size();
    sources_.push_back(std::move(info));
  }
}

bool Cursor::log_passed(const Event& event) const {
  if (!log_)
    return false;
  if (at_source_) {
    if (event.source != *at_source_)
      return event.source < *at_source_;
    return event.offset <= log_->offset;
  }
  return std::pair(trail::time_ms(event.view), event.view.serial) <=
         std::pair(log_->time_ms, log_->serial);
}

bool Cursor::passed(const Event& event) {
  const SourceInfo& source = sources_[event.source];
  if (source.ledger) {
    uint64_t& next = ledgers_[source.name];
    const bool before = event.offset < next;
    next = std::max(next, event.offset + 1);
    return before;
  }
  if (log_passed(event))
    return true;
  newest_ = LogPlace{source.inode, event.offset, trail::time_ms(event.view), event.view.serial};
  return false;
}

}  // namespace tenure::reader
