// SPDX-License-Identifier: Apache-2.0
// Reading without lock and key beside a writer. The writer publishes entries before it empties
// their pending file, so an entry is always in at least one of the two places; a reader that finds
// it in neither has been overtaken and looks again.
#include <fmt/format.h>

#include <optional>

#include "ledger/ledger.h"
#include "ledger/note.h"
#include "ledger/pending.h"
#include "ledger/publisher.h"
#include "ledger/storage.h"
#include "ledger/tile.h"

namespace tenure::ledger {
namespace {

constexpr int kMaxStandstill = 1000;  // looks without any progress, against a writer gone mad

using Each = std::function<bool(uint64_t index, std::string_view entry)>;

// Where reading stands.
struct Cursor {
  uint64_t next;
  bool stopped = false;
};

Result<> read_published(const Storage& storage, uint64_t size, const Each& each, Cursor& cursor) {
  while (cursor.next < size && !cursor.stopped) {
    uint64_t index = cursor.next / kTileWidth;
    uint64_t first = index * kTileWidth;
    unsigned width = static_cast<unsigned>(std::min<uint64_t>(kTileWidth, size - first));
    TRY(std::string bundle, read_bundle(storage, index, width));
    auto entries = split_bundle(bundle, width);
    if (!entries)
      return std::unexpected(
          std::move(entries).error().context(fmt::format("entries from {}", first)));
    for (size_t i = cursor.next - first; i < entries->size() && !cursor.stopped; ++i) {
      cursor.stopped = !each(first + i, (*entries)[i]);
      ++cursor.next;
    }
  }
  return {};
}

Result<> read_file_of_frames(const Storage& storage, size_t which, const Each& each,
                             Cursor& cursor) {
  TRY(std::unique_ptr<File> file, storage.open(pending_path(which), OpenMode::Read));
  TRY(FrameReader reader, FrameReader::begin(*file));
  while (!cursor.stopped) {
    TRY(std::unique_ptr<Frame> frame, reader.next());
    if (!frame || frame->first > cursor.next)
      return {};
    for (size_t i = 0; i < frame->entries.size() && !cursor.stopped; ++i) {
      if (frame->first + i < cursor.next)
        continue;
      cursor.stopped = !each(cursor.next, frame->entries[i]);
      ++cursor.next;
    }
  }
  return {};
}

// Either file may be the older one, so each is looked at twice.
Result<> read_pending(const Storage& storage, const Each& each, Cursor& cursor) {
  for (size_t pass = 0; pass < 2 * kPendingFiles && !cursor.stopped; ++pass) {
    TRY_OK(read_file_of_frames(storage, pass % kPendingFiles, each, cursor));
  }
  return {};
}

Result<uint64_t> published_size(const Storage& storage) {
  TRY(std::string note, read_whole(storage, kCheckpointPath, kMaxNote));
  TRY(Checkpoint checkpoint, peek_checkpoint(note));
  return checkpoint.size;
}

}  // namespace

Result<> read_entries(const std::string& dir, uint64_t from, const Each& each) {
  TRY(std::unique_ptr<Storage> storage, open_storage(dir));
  Cursor cursor{from};
  TRY(uint64_t size, published_size(*storage));
  for (int looks = 0; !cursor.stopped; ++looks) {
    uint64_t before = cursor.next;
    TRY_OK(read_published(*storage, size, each, cursor));
    TRY_OK(read_pending(*storage, each, cursor));
    TRY(uint64_t now, published_size(*storage));
    if (now == size)
      break;  // nothing was moved meanwhile: all was seen
    size = now;
    if (cursor.next != before)
      looks = 0;
    if (looks > kMaxStandstill)
      return fail(Errc::Busy, "ledger: overtaken by its writer again and again");
  }
  return {};
}

}  // namespace tenure::ledger
