// SPDX-License-Identifier: Apache-2.0
#include "ledger/hash.h"

#include <gtest/gtest.h>

#include "base/text.h"

namespace tenure::ledger {
namespace {

std::string hex(const Hash& hash) {
  std::string text = to_hex(bytes_of(hash));
  for (char& c : text) c = static_cast<char>(tolower(c));
  return text;
}

Hash leaf(uint64_t i) {
  return leaf_hash("entry " + std::to_string(i));
}

std::vector<Hash> leaves(uint64_t count) {
  std::vector<Hash> all;
  for (uint64_t i = 0; i < count; ++i) all.push_back(leaf(i));
  return all;
}

Hash root(uint64_t count) {
  std::vector<Hash> all = leaves(count);
  return all.empty() ? empty_root() : root_of(all.data(), all.size());
}

NodeSource nodes_of(const std::vector<Hash>& all) {
  return [&all](unsigned height, uint64_t index) -> Result<Hash> {
    return root_of(all.data() + (index << height), size_t{1} << height);
  };
}

// Roots of the eight-leaf tree that Certificate Transparency implementations share as test vector.
TEST(LedgerHash, KnownRoots) {
  const std::string inputs[] = {"",
                                std::string(1, '\0'),
                                "\x10",
                                "\x20\x21",
                                "\x30\x31",
                                "\x40\x41\x42\x43",
                                "\x50\x51\x52\x53\x54\x55\x56\x57",
                                "\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f"};
  EXPECT_EQ(hex(empty_root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  Frontier tree;
  tree.add(leaf_hash(inputs[0]));
  EXPECT_EQ(hex(tree.root()), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
  for (size_t i = 1; i < 8; ++i) tree.add(leaf_hash(inputs[i]));
  EXPECT_EQ(hex(tree.root()), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
}

TEST(LedgerHash, FrontierAgreesWithTheDefinition) {
  Frontier tree;
  for (uint64_t n = 0; n < 300; ++n) {
    ASSERT_EQ(tree.root(), root(n)) << n;
    ASSERT_EQ(tree.size(), n);
    tree.add(leaf(n));
  }
}

TEST(LedgerHash, EveryInclusionProofLeadsToTheRoot) {
  for (uint64_t size = 1; size <= 40; ++size) {
    std::vector<Hash> all = leaves(size);
    for (uint64_t i = 0; i < size; ++i) {
      auto path = inclusion_path(nodes_of(all), i, size);
      ASSERT_TRUE(path);
      auto found = root_from_inclusion(leaf(i), i, size, *path);
      ASSERT_TRUE(found) << i << " of " << size;
      EXPECT_EQ(*found, root(size));
      auto other = root_from_inclusion(leaf(i), (i + 1) % size, size, *path);
      if (size > 1) {
        EXPECT_FALSE(other && *other == root(size));
      }
    }
  }
}

TEST(LedgerHash, InclusionProofOfWrongLengthIsRefused) {
  std::vector<Hash> all = leaves(11);
  std::vector<Hash> path = *inclusion_path(nodes_of(all), 3, 11);
  std::vector<Hash> longer = path;
  longer.push_back(leaf(0));
  EXPECT_FALSE(root_from_inclusion(leaf(3), 3, 11, longer));
  path.pop_back();
  EXPECT_FALSE(root_from_inclusion(leaf(3), 3, 11, path));
  EXPECT_FALSE(root_from_inclusion(leaf(3), 11, 11, path));
}

TEST(LedgerHash, EveryConsistencyProofHolds) {
  for (uint64_t size = 1; size <= 40; ++size) {
    std::vector<Hash> all = leaves(size);
    for (uint64_t old_size = 1; old_size <= size; ++old_size) {
      auto path = consistency_path(nodes_of(all), old_size, size);
      ASSERT_TRUE(path);
      EXPECT_TRUE(check_consistency(old_size, root(old_size), size, root(size), *path))
          << old_size << " " << size;
      EXPECT_FALSE(check_consistency(old_size, leaf(99), size, root(size), *path));
      EXPECT_FALSE(check_consistency(old_size, root(old_size), size, leaf(99), *path));
      std::vector<Hash> longer = *path;
      longer.push_back(leaf(0));
      EXPECT_FALSE(check_consistency(old_size, root(old_size), size, root(size), longer));
    }
  }
}

}  // namespace
}  // namespace tenure::ledger
