// SPDX-License-Identifier: Apache-2.0
// C2SP tlog-tiles: names of tiles and entry bundles, bundle bytes, and node hashes read from tiles.
// Pure but for TileReader, which reads through the storage seam.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "ledger/hash.h"
#include "ledger/storage.h"

namespace tenure::ledger {

inline constexpr unsigned kTileWidth = 256;
inline constexpr int kEntriesLevel = -1;  // the bundles, tile/entries/…
inline constexpr size_t kMaxBundle = size_t{kTileWidth} * (2 + 65535);

// One file of tile/: which tile, and how many hashes (or entries) wide this file is.
struct TileRef {
  int level = 0;  // kEntriesLevel or 0 … 7
  uint64_t index = 0;
  unsigned width = kTileWidth;  // 1 … 256
  auto operator<=>(const TileRef&) const = default;
};

// "tile/0/x001/x234/067", "tile/entries/000.p/17".
std::string tile_path(const TileRef& ref);
// The folder of its partial files: "tile/0/000.p".
std::string partial_dir(const TileRef& ref);
// nullopt if `path` is not exactly what tile_path() would give.
std::optional<TileRef> parse_tile_path(std::string_view path);

// Appends length and bytes; the entry is at most kMaxEntry.
void add_to_bundle(std::string& bundle, std::string_view entry);
// The entries, pointing into `bundle`. Corrupt if there are not exactly `count` or bytes are left.
Result<std::vector<std::string_view>> split_bundle(std::string_view bundle, size_t count);

// Reads a file of `ref`'s width; if it is gone because the full one has taken its place, the
// beginning of that. Corrupt if its length is wrong.
Result<std::string> read_tile(const Storage& storage, const TileRef& ref);
// Entries [index * 256, index * 256 + width) as bundle bytes, from the partial or the full bundle.
Result<std::string> read_bundle(const Storage& storage, uint64_t index, unsigned width);

// Node hashes of the tree of `size` leaves, from its tiles. Keeps what it has read; not
// thread-safe.
class TileReader {
 public:
  TileReader(const Storage& storage, uint64_t size) : storage_(storage), size_(size) {}
  // As a NodeSource. The subtree must lie within the tree.
  Result<Hash> node(unsigned height, uint64_t index);

 private:
  const Storage& storage_;
  uint64_t size_;
  std::map<TileRef, std::string> tiles_;
};

// The hashes of a tile's bytes.
std::vector<Hash> hashes_of(std::string_view tile);
// How many nodes the tree of `size` leaves has at tile level `level`: floor(size / 256^level).
uint64_t nodes_at(uint64_t size, int level);

}  // namespace tenure::ledger
