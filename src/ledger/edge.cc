// SPDX-License-Identifier: Apache-2.0
#include "ledger/edge.h"

#include <fmt/format.h>

namespace tenure::ledger {
namespace {

std::string tile_bytes(const std::vector<Hash>& hashes) {
  std::string bytes;
  bytes.reserve(hashes.size() * sizeof(Hash));
  for (const Hash& hash : hashes) bytes += bytes_of(hash);
  return bytes;
}

Result<> check_bundle(std::string_view bundle, const std::vector<Hash>& leaves, uint64_t first) {
  TRY(std::vector<std::string_view> entries, split_bundle(bundle, leaves.size()));
  for (size_t i = 0; i < entries.size(); ++i)
    if (leaf_hash(entries[i]) != leaves[i])
      return fail(Errc::Corrupt,
                  fmt::format("entry {} does not have the hash in its tile", first + i));
  return {};
}

}  // namespace

Result<Edge> Edge::load(const Storage& storage, uint64_t size) {
  Edge edge;
  edge.size_ = size;
  for (int level = 0; nodes_at(size, level) > 0; ++level) {
    uint64_t nodes = nodes_at(size, level);
    TileRef ref{level, nodes / kTileWidth, static_cast<unsigned>(nodes % kTileWidth)};
    std::string bytes;
    if (ref.width > 0) {
      TRY(bytes, read_tile(storage, ref));
    }
    edge.levels_.push_back(hashes_of(bytes));
  }
  unsigned width = static_cast<unsigned>(size % kTileWidth);
  if (width == 0)
    return edge;
  TRY(edge.bundle_, read_bundle(storage, size / kTileWidth, width));
  TRY_OK(check_bundle(edge.bundle_, edge.levels_[0], size - width));
  return edge;
}

Result<> Edge::add(std::string_view entry, const Hash& leaf, const Write& write) {
  if (levels_.empty())
    levels_.emplace_back();
  add_to_bundle(bundle_, entry);
  levels_[0].push_back(leaf);
  ++size_;
  if (size_ % kTileWidth == 0) {
    TRY_OK(write(TileRef{kEntriesLevel, size_ / kTileWidth - 1}, bundle_));
    bundle_.clear();
  }
  for (size_t level = 0; levels_[level].size() == kTileWidth; ++level) {
    uint64_t index = nodes_at(size_, static_cast<int>(level)) / kTileWidth - 1;
    TRY_OK(write(TileRef{static_cast<int>(level), index}, tile_bytes(levels_[level])));
    if (levels_.size() == level + 1)
      levels_.emplace_back();
    levels_[level + 1].push_back(root_of(levels_[level].data(), kTileWidth));
    levels_[level].clear();
  }
  return {};
}

Result<> Edge::write_partials(uint64_t old_size, const Write& write) const {
  for (size_t level = 0; level < levels_.size(); ++level) {
    int l = static_cast<int>(level);
    if (levels_[level].empty() || nodes_at(old_size, l) == nodes_at(size_, l))
      continue;
    TileRef ref{l, nodes_at(size_, l) / kTileWidth, static_cast<unsigned>(levels_[level].size())};
    TRY_OK(write(ref, tile_bytes(levels_[level])));
  }
  unsigned width = static_cast<unsigned>(size_ % kTileWidth);
  if (width == 0 || old_size == size_)
    return {};
  return write(TileRef{kEntriesLevel, size_ / kTileWidth, width}, bundle_);
}

Frontier Edge::frontier() const {
  std::vector<Hash> subtrees;
  for (size_t level = levels_.size(); level-- > 0;) {
    const std::vector<Hash>& hashes = levels_[level];
    size_t at = 0;
    for (size_t width = kTileWidth / 2; width > 0; width /= 2) {
      if ((hashes.size() & width) == 0)
        continue;
      subtrees.push_back(root_of(hashes.data() + at, width));
      at += width;
    }
  }
  return Frontier(size_, std::move(subtrees));
}

}  // namespace tenure::ledger
