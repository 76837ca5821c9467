// SPDX-License-Identifier: Apache-2.0
#include "ledger/listing.h"

#include <fmt/format.h>

#include "base/text.h"
#include "ledger/archive.h"
#include "ledger/note.h"
#include "ledger/publisher.h"

namespace tenure::ledger {
namespace {

constexpr int kMaxDepth = 12;  // of folders below tile/

void list_top(const Storage& storage, const ListingSink& sink) {
  static const std::set<std::string> kKnown{
      "tile",      "lock",      kCheckpointPath,        kArchivePath,
      "pending.0", "pending.1", "checkpoint.witnessed", "checkpoint.witnessed.tmp"};
  auto names = storage.list("");
  if (!names)
    return sink.problem(".", names.error().what());
  for (const DirEntry& entry : *names)
    if (!kKnown.contains(entry.name))
      sink.note(fmt::format("{}: not a file of the ledger", printable(entry.name)));
}

void list_tiles(const Storage& storage, const std::string& dir, int depth, const ListingSink& sink,
                std::set<TileRef>& tiles) {
  auto names = storage.list(dir);
  if (!names && names.error().code() == Errc::NotFound && dir.ends_with(".p"))
    return;  // gone, with the partial tiles in it
  if (!names)
    return sink.problem(dir, names.error().what());
  for (const DirEntry& entry : *names) {
    std::string path = dir + "/" + entry.name;
    auto ref = parse_tile_path(path);
    if (entry.is_dir && depth < kMaxDepth)
      list_tiles(storage, path, depth + 1, sink, tiles);
    else if (ref && !entry.is_dir)
      tiles.insert(*ref);
    else if (!entry.is_dir && path.ends_with(".tmp") &&
             parse_tile_path(path.substr(0, path.size() - 4)))
      sink.note(path + ": leftover of an unfinished publish");
    else
      sink.problem(printable(path), "not a name that a tile can have");
  }
}

}  // namespace

std::set<TileRef> list_files(const Storage& storage, bool empty, const ListingSink& sink) {
  list_top(storage, sink);
  std::set<TileRef> tiles;
  auto top = storage.list("tile");
  if (empty && !top && top.error().code() == Errc::NotFound)
    return tiles;
  list_tiles(storage, "tile", 0, sink, tiles);
  return tiles;
}

}  // namespace tenure::ledger
