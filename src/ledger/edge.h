// SPDX-License-Identifier: Apache-2.0
// The right edge of the published tree: the hashes of each level's last, unfinished tile and the
// bytes of the last, unfinished bundle. With it, publishing writes what is new and rehashes
// nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "ledger/hash.h"
#include "ledger/storage.h"
#include "ledger/tile.h"

namespace tenure::ledger {

// A value: copied before a publish, put in place after it. About 8 KiB a level and one bundle.
class Edge {
 public:
  using Write = std::function<Result<>(const TileRef& ref, std::string_view bytes)>;

  // Reads the edge of the tree of `size` entries. Corrupt if the last bundle does not belong to it.
  static Result<Edge> load(const Storage& storage, uint64_t size);

  // Appends an entry; tiles and bundles that become full go to `write`.
  Result<> add(std::string_view entry, const Hash& leaf, const Write& write);
  // The partial tiles and the partial bundle of this size that the tree of `old_size` has not.
  Result<> write_partials(uint64_t old_size, const Write& write) const;
  uint64_t size() const { return size_; }
  Frontier frontier() const;

 private:
  uint64_t size_ = 0;
  std::vector<std::vector<Hash>> levels_;  // levels_[l]: nodes_at(size, l) mod 256 hashes
  std::string bundle_;                     // size mod 256 entries
};

}  // namespace tenure::ledger
