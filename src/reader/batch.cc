// SPDX-License-Identifier: Apache-2.0
#include "reader/batch.h"

#include <fmt/format.h>

#include <cstring>
#include <optional>

#include "reader/scan.h"

namespace tenure::reader {
namespace {

std::string where(const BlockPlace& place, uint64_t offset) {
  return fmt::format("{} at byte {}", place.source_name, offset);
}

// Faults that mean a record of ours was there and cannot be read. Other text that only mentions a
// type (a command line, a comment) is none of our business.
std::optional<DamageKind> damage_of(trail::LineFault fault) {
  switch (fault) {
    case trail::LineFault::NoId:
      return DamageKind::NoId;
    case trail::LineFault::Interpreted:
      return DamageKind::Interpreted;
    case trail::LineFault::Header:
      return DamageKind::BadHeader;
    case trail::LineFault::TooLong:
      return DamageKind::Overlong;
    case trail::LineFault::Blank:
    case trail::LineFault::Foreign:
      break;
  }
  return std::nullopt;
}

}  // namespace

void decode_into(Batch& batch, std::string_view text, const BlockPlace& place, uint64_t offset,
                 bool unfinished) {
  while (!text.empty()) {
    const auto view = trail::decode_line(text);
    if (!view) {
      const auto kind = damage_of(view.error().fault);
      if (kind && !unfinished)
        batch.damage.add(*kind, where(place, offset));
      return;
    }
    if (view->truncated && unfinished)
      return;
    const size_t end = view->glued_at != 0 ? view->glued_at : text.size();
    batch.events.push_back({*view, text.substr(0, end), offset, place.source});
    if (view->truncated)
      batch.damage.add(DamageKind::Truncated, where(place, offset));
    if (view->glued_at == 0 || view->glued_at >= text.size())
      return;
    batch.damage.add(DamageKind::Glued, where(place, offset + end));
    text.remove_prefix(end);
    offset += end;
  }
}

Batch decode_block(std::string_view block, const BlockPlace& place) {
  Batch batch;
  batch.bytes = block.size();
  ScanResult scan;
  scan_block(block, scan);
  batch.damage.add(DamageKind::NulBlock, where(place, place.offset), scan.nul_blocks);
  batch.damage.add(DamageKind::Overlong, where(place, place.offset), scan.overlong);
  size_t total = 0;
  for (const LineSpan& line : scan.lines) total += line.size;
  if (total == 0)
    return batch;
  batch.arena = std::make_unique_for_overwrite<char[]>(total);
  batch.events.reserve(scan.lines.size());
  size_t at = 0;
  for (const LineSpan& line : scan.lines) {
    char* to = batch.arena.get() + at;
    std::memcpy(to, block.data() + line.offset, line.size);
    at += line.size;
    const bool unfinished =
        place.last && place.growing && size_t{line.offset} + line.size == block.size();
    decode_into(batch, {to, line.size}, place, place.offset + line.offset, unfinished);
  }
  return batch;
}

}  // namespace tenure::reader
