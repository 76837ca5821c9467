// SPDX-License-Identifier: Apache-2.0
#include "ledger/tile.h"

#include <fmt/format.h>

#include "base/text.h"
#include "ledger/ledger.h"

namespace tenure::ledger {
namespace {

constexpr int kMaxLevel = 7;  // 256^8 entries are more than a uint64_t counts

std::string number_path(uint64_t index) {
  std::string path = fmt::format("{:03}", index % 1000);
  for (index /= 1000; index > 0; index /= 1000) path = fmt::format("x{:03}/{}", index % 1000, path);
  return path;
}

std::string full_path(const TileRef& ref) {
  std::string level = ref.level == kEntriesLevel ? "entries" : std::to_string(ref.level);
  return fmt::format("tile/{}/{}", level, number_path(ref.index));
}

size_t expected_size(const TileRef& ref) {
  return size_t{ref.width} * sizeof(Hash);
}

}  // namespace

std::string tile_path(const TileRef& ref) {
  if (ref.width == kTileWidth)
    return full_path(ref);
  return fmt::format("{}.p/{}", full_path(ref), ref.width);
}

std::string partial_dir(const TileRef& ref) {
  return full_path(ref) + ".p";
}

std::optional<TileRef> parse_tile_path(std::string_view path) {
  std::string_view rest = path;
  if (path.size() > 64 || !rest.starts_with("tile/"))
    return std::nullopt;
  rest.remove_prefix(5);
  size_t slash = rest.find('/');
  if (slash == rest.npos)
    return std::nullopt;
  TileRef ref;
  std::string_view level = rest.substr(0, slash);
  rest.remove_prefix(slash + 1);
  ref.level = level == "entries" ? kEntriesLevel : parse_int<int>(level).value_or(kMaxLevel + 1);
  if (size_t partial = rest.find(".p/"); partial != rest.npos) {
    ref.width = parse_int<unsigned>(rest.substr(partial + 3)).value_or(0);
    rest = rest.substr(0, partial);
    if (ref.width == kTileWidth)
      return std::nullopt;
  }
  for (std::string_view group : split(rest, '/')) {
    if (group.starts_with('x'))
      group.remove_prefix(1);
    auto digits = parse_int<unsigned>(group);
    if (!digits || *digits > 999 || ref.index > UINT64_MAX / 1000 - 1)
      return std::nullopt;
    ref.index = ref.index * 1000 + *digits;
  }
  // Comparing with the one right spelling finds leading zeros, missing x and everything else.
  if (ref.level > kMaxLevel || ref.width == 0 || ref.width > kTileWidth)
    return std::nullopt;
  if (tile_path(ref) != path)
    return std::nullopt;
  return ref;
}

void add_to_bundle(std::string& bundle, std::string_view entry) {
  bundle += static_cast<char>(entry.size() >> 8);
  bundle += static_cast<char>(entry.size() & 0xFF);
  bundle += entry;
}

Result<std::vector<std::string_view>> split_bundle(std::string_view bundle, size_t count) {
  std::vector<std::string_view> entries;
  entries.reserve(std::min<size_t>(count, bundle.size() / 2));
  while (!bundle.empty()) {
    if (bundle.size() < 2)
      return fail(Errc::Corrupt, "entry bundle: ends inside a length");
    size_t size = size_t{static_cast<uint8_t>(bundle[0])} << 8 | static_cast<uint8_t>(bundle[1]);
    if (bundle.size() < 2 + size)
      return fail(Errc::Corrupt, "entry bundle: ends inside an entry");
    entries.push_back(bundle.substr(2, size));
    bundle.remove_prefix(2 + size);
  }
  if (entries.size() != count)
    return fail(Errc::Corrupt,
                fmt::format("entry bundle: {} entries, {} expected", entries.size(), count));
  return entries;
}

Result<std::string> read_tile(const Storage& storage, const TileRef& ref) {
  auto bytes = read_whole(storage, tile_path(ref), expected_size(ref));
  TileRef full = ref;
  full.width = kTileWidth;
  if (!bytes && bytes.error().code() == Errc::NotFound && ref.width != kTileWidth)
    bytes = read_whole(storage, tile_path(full), expected_size(full));
  if (!bytes)
    return bytes;
  if (bytes->size() != expected_size(ref) && bytes->size() != expected_size(full))
    return fail(Errc::Corrupt, fmt::format("{}: {} bytes, {} expected", tile_path(ref),
                                           bytes->size(), expected_size(ref)));
  bytes->resize(expected_size(ref));
  return bytes;
}

Result<std::string> read_bundle(const Storage& storage, uint64_t index, unsigned width) {
  TileRef ref{kEntriesLevel, index, width};
  auto bytes = read_whole(storage, tile_path(ref), kMaxBundle);
  if (bytes || bytes.error().code() != Errc::NotFound || width == kTileWidth)
    return bytes;
  TileRef full{kEntriesLevel, index};
  TRY(std::string whole, read_whole(storage, tile_path(full), kMaxBundle));
  auto entries = split_bundle(whole, kTileWidth);
  if (!entries)
    return std::unexpected(std::move(entries).error().context(tile_path(full)));
  std::string_view last = (*entries)[width - 1];
  return whole.substr(0, static_cast<size_t>(last.data() + last.size() - whole.data()));
}

Result<Hash> TileReader::node(unsigned height, uint64_t index) {
  int level = static_cast<int>(height / 8);
  unsigned rows = height % 8;      // how far above the tile's own hashes
  uint64_t first = index << rows;  // of those hashes
  TileRef ref{level, first / kTileWidth};
  uint64_t nodes = nodes_at(size_, level);
  ref.width = static_cast<unsigned>(std::min<uint64_t>(kTileWidth, nodes - ref.index * kTileWidth));
  auto found = tiles_.find(ref);
  if (found == tiles_.end()) {
    TRY(std::string bytes, read_tile(storage_, ref));
    found = tiles_.emplace(ref, std::move(bytes)).first;
  }
  size_t offset = first % kTileWidth;
  size_t count = size_t{1} << rows;
  if (offset + count > ref.width)
    return fail(Errc::Internal, "node outside the tree");
  std::vector<Hash> hashes = hashes_of(
      std::string_view(found->second).substr(offset * sizeof(Hash), count * sizeof(Hash)));
  return root_of(hashes.data(), hashes.size());
}

std::vector<Hash> hashes_of(std::string_view tile) {
  std::vector<Hash> hashes;
  hashes.reserve(tile.size() / sizeof(Hash));
  for (; tile.size() >= sizeof(Hash); tile.remove_prefix(sizeof(Hash)))
    hashes.push_back(hash_from(tile));
  return hashes;
}

uint64_t nodes_at(uint64_t size, int level) {
  return level >= 8 ? 0 : size >> (8 * static_cast<unsigned>(std::max(level, 0)));
}

}  // namespace tenure::ledger
