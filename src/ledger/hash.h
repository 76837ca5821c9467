// SPDX-License-Identifier: Apache-2.0
// RFC 6962 §2.1 hashing with SHA-256, and the two small trees that a growing log needs: the
// frontier (for roots) and the range hash over any source of node hashes (for proofs). Pure;
// thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace tenure::ledger {

using Hash = std::array<uint8_t, 32>;

inline std::string_view bytes_of(const Hash& hash) {
  return {reinterpret_cast<const char*>(hash.data()), hash.size()};
}
// `bytes` must hold 32.
Hash hash_from(std::string_view bytes);

// Unsupported if OpenSSL offers no SHA-256 or Ed25519 (a broken provider configuration). The hash
// functions below cannot fail once this has succeeded; ask before the first use.
Result<> crypto_ready();

Hash sha256(std::string_view bytes);
Hash leaf_hash(std::string_view entry);               // SHA-256(0x00 || entry)
Hash node_hash(const Hash& left, const Hash& right);  // SHA-256(0x01 || left || right)
Hash empty_root();                                    // SHA-256()

// Root of a tree whose leaves are the given hashes; `hashes` is not empty.
Hash root_of(const Hash* hashes, size_t count);

// The perfect subtrees that make up a tree, largest first: what is needed to append a leaf and to
// know the root. At most 64 hashes, so a copy is cheap (that is how an append is rolled back).
class Frontier {
 public:
  Frontier() = default;
  // From the subtrees themselves; their number must be the number of one bits in `size`.
  Frontier(uint64_t size, std::vector<Hash> subtrees)
      : size_(size), subtrees_(std::move(subtrees)) {}

  void add(const Hash& leaf);
  Hash root() const;
  uint64_t size() const { return size_; }

 private:
  uint64_t size_ = 0;
  std::vector<Hash> subtrees_;
};

// Hash of the perfect subtree of 2^height leaves, number `index` from the left.
using NodeSource = std::function<Result<Hash>(unsigned height, uint64_t index)>;

// RFC 6962 MTH(D[first:end]) for a range that begins at a multiple of its largest power of two.
Result<Hash> range_hash(const NodeSource& nodes, uint64_t first, uint64_t end);
// RFC 6962 §2.1.1 PATH(index, D[size]), the leaf's sibling first. index < size.
Result<std::vector<Hash>> inclusion_path(const NodeSource& nodes, uint64_t index, uint64_t size);
// RFC 6962 §2.1.2 PROOF(old_size, D[size]). 0 < old_size <= size.
Result<std::vector<Hash>> consistency_path(const NodeSource& nodes, uint64_t old_size,
                                           uint64_t size);

// The root that a leaf and its path lead to (RFC 9162 §2.1.3.2). Invalid if the path's length is
// not that of such a tree.
Result<Hash> root_from_inclusion(const Hash& leaf, uint64_t index, uint64_t size,
                                 const std::vector<Hash>& path);
// Corrupt unless `path` proves that the tree (size, root) begins with the tree (old_size, old_root)
// (RFC 9162 §2.1.4.2).
Result<> check_consistency(uint64_t old_size, const Hash& old_root, uint64_t size, const Hash& root,
                           const std::vector<Hash>& path);

}  // namespace tenure::ledger
