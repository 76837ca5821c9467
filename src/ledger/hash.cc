// SPDX-License-Identifier: Apache-2.0
// The tree functions follow the recursive definitions of RFC 6962; the checks follow the iterative
// ones of RFC 9162, so that making and checking a proof share no code that could be wrong twice.
#include "ledger/hash.h"

#include <openssl/evp.h>

#include <bit>
#include <cstring>
#include <initializer_list>
#include <memory>

namespace tenure::ledger {
namespace {

// Fetched once: EVP_sha256() would look the algorithm up at every use.
const EVP_MD* sha256_method() {
  static const std::unique_ptr<EVP_MD, void (*)(EVP_MD*)> method(
      EVP_MD_fetch(nullptr, "SHA256", nullptr), EVP_MD_free);
  return method.get();
}

// A failure after crypto_ready() would leave zeros, which no verification accepts.
Hash digest(std::initializer_list<std::string_view> parts) {
  static thread_local const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(
      EVP_MD_CTX_new(), EVP_MD_CTX_free);
  Hash hash{};
  if (EVP_DigestInit_ex2(context.get(), sha256_method(), nullptr) != 1)
    return hash;
  for (std::string_view part : parts)
    if (EVP_DigestUpdate(context.get(), part.data(), part.size()) != 1)
      return hash;
  if (EVP_DigestFinal_ex(context.get(), hash.data(), nullptr) != 1)
    return Hash{};
  return hash;
}

// The largest power of two smaller than n; n >= 2.
uint64_t split_point(uint64_t n) {
  return std::bit_floor(n - 1);
}

bool is_node(uint64_t first, uint64_t end) {
  return std::has_single_bit(end - first) && first % (end - first) == 0;
}

Result<> add_consistency(const NodeSource& nodes, uint64_t old_size, uint64_t first, uint64_t end,
                         bool whole, std::vector<Hash>& path) {
  uint64_t size = end - first;
  if (old_size == size) {
    if (whole)
      return {};
    TRY(Hash hash, range_hash(nodes, first, end));
    path.push_back(hash);
    return {};
  }
  uint64_t middle = split_point(size);
  if (old_size <= middle) {
    TRY_OK(add_consistency(nodes, old_size, first, first + middle, whole, path));
    TRY(Hash right, range_hash(nodes, first + middle, end));
    path.push_back(right);
    return {};
  }
  TRY_OK(add_consistency(nodes, old_size - middle, first + middle, end, false, path));
  TRY(Hash left, range_hash(nodes, first, first + middle));
  path.push_back(left);
  return {};
}

}  // namespace

Hash hash_from(std::string_view bytes) {
  Hash hash{};
  std::memcpy(hash.data(), bytes.data(), hash.size());
  return hash;
}

Result<> crypto_ready() {
  if (sha256_method() == nullptr)
    return fail(Errc::Unsupported, "OpenSSL offers no SHA-256: check openssl.cnf");
  std::unique_ptr<EVP_PKEY_CTX, void (*)(EVP_PKEY_CTX*)> ed25519(
      EVP_PKEY_CTX_new_from_name(nullptr, "ED25519", nullptr), EVP_PKEY_CTX_free);
  if (!ed25519)
    return fail(Errc::Unsupported, "OpenSSL offers no Ed25519: check openssl.cnf");
  return {};
}

Hash sha256(std::string_view bytes) {
  return digest({bytes});
}
Hash leaf_hash(std::string_view entry) {
  return digest({std::string_view("\0", 1), entry});
}
Hash node_hash(const Hash& left, const Hash& right) {
  return digest({std::string_view("\1", 1), bytes_of(left), bytes_of(right)});
}
Hash empty_root() {
  return digest({});
}

Hash root_of(const Hash* hashes, size_t count) {
  if (count == 1)
    return hashes[0];
  size_t middle = split_point(count);
  return node_hash(root_of(hashes, middle), root_of(hashes + middle, count - middle));
}

void Frontier::add(const Hash& leaf) {
  subtrees_.push_back(leaf);
  for (uint64_t n = size_; (n & 1) != 0; n >>= 1) {
    Hash right = subtrees_.back();
    subtrees_.pop_back();
    subtrees_.back() = node_hash(subtrees_.back(), right);
  }
  ++size_;
}

Hash Frontier::root() const {
  if (subtrees_.empty())
    return empty_root();
  Hash root = subtrees_.back();
  for (size_t i = subtrees_.size() - 1; i-- > 0;) root = node_hash(subtrees_[i], root);
  return root;
}

Result<Hash> range_hash(const NodeSource& nodes, uint64_t first, uint64_t end) {
  if (is_node(first, end)) {
    uint64_t width = end - first;
    return nodes(static_cast<unsigned>(std::countr_zero(width)), first / width);
  }
  uint64_t middle = first + split_point(end - first);
  TRY(Hash left, range_hash(nodes, first, middle));
  TRY(Hash right, range_hash(nodes, middle, end));
  return node_hash(left, right);
}

Result<std::vector<Hash>> inclusion_path(const NodeSource& nodes, uint64_t index, uint64_t size) {
  std::vector<Hash> path;
  uint64_t first = 0;
  uint64_t end = size;
  while (end - first > 1) {  // from the root down, so the path comes out reversed
    uint64_t middle = first + split_point(end - first);
    bool left = index < middle;
    TRY(Hash sibling, left ? range_hash(nodes, middle, end) : range_hash(nodes, first, middle));
    path.insert(path.begin(), sibling);
    (left ? end : first) = middle;
  }
  return path;
}

Result<std::vector<Hash>> consistency_path(const NodeSource& nodes, uint64_t old_size,
                                           uint64_t size) {
  std::vector<Hash> path;
  TRY_OK(add_consistency(nodes, old_size, 0, size, true, path));
  return path;
}

Result<Hash> root_from_inclusion(const Hash& leaf, uint64_t index, uint64_t size,
                                 const std::vector<Hash>& path) {
  if (index >= size)
    return fail(Errc::Invalid, "inclusion proof: index is beyond the tree");
  uint64_t node = index;
  uint64_t last = size - 1;
  Hash root = leaf;
  for (const Hash& sibling : path) {
    if (last == 0)
      return fail(Errc::Invalid, "inclusion proof: too many hashes");
    if ((node & 1) != 0 || node == last) {
      root = node_hash(sibling, root);
      while ((node & 1) == 0 && node != 0) {
        node >>= 1;
        last >>= 1;
      }
    } else {
      root = node_hash(root, sibling);
    }
    node >>= 1;
    last >>= 1;
  }
  if (last != 0)
    return fail(Errc::Invalid, "inclusion proof: too few hashes");
  return root;
}

Result<> check_consistency(uint64_t old_size, const Hash& old_root, uint64_t size, const Hash& root,
                           const std::vector<Hash>& path) {
  auto bad = [](const char* why) {
    return fail(Errc::Corrupt, std::string("consistency proof: ") + why);
  };
  if (old_size == 0 || old_size > size)
    return bad("sizes are out of order");
  if (old_size == size) {
    if (!path.empty() || old_root != root)
      return bad("two trees of one size differ");
    return {};
  }
  std::vector<Hash> hashes = path;
  if (std::has_single_bit(old_size))
    hashes.insert(hashes.begin(), old_root);
  if (hashes.empty())
    return bad("too few hashes");
  uint64_t node = old_size - 1;
  uint64_t last = size - 1;
  for (; (node & 1) != 0; node >>= 1) last >>= 1;
  Hash from_old = hashes[0];
  Hash from_new = hashes[0];
  for (size_t i = 1; i < hashes.size(); ++i) {
    if (last == 0)
      return bad("too many hashes");
    if ((node & 1) != 0 || node == last) {
      from_old = node_hash(hashes[i], from_old);
      from_new = node_hash(hashes[i], from_new);
      while ((node & 1) == 0 && node != 0) {
        node >>= 1;
        last >>= 1;
      }
    } else {
      from_new = node_hash(from_new, hashes[i]);
    }
    node >>= 1;
    last >>= 1;
  }
  if (last != 0)
    return bad("too few hashes");
  if (from_old != old_root)
    return bad("does not lead to the older root");
  if (from_new != root)
    return bad("does not lead to the newer root");
  return {};
}

}  // namespace tenure::ledger
