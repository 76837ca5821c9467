// SPDX-License-Identifier: Apache-2.0
// The head of a saved guest: what is written is read back; whatever is changed in it is found.
#include "guest/change/save_header.h"

#include <gtest/gtest.h>

using namespace tenure;
using namespace tenure::guest;

namespace {

TEST(SaveHeader, ComesBackWhole) {
  for (size_t size : {size_t{0}, size_t{1}, kSaveAlign - 72, kSaveAlign - 71, 3 * kSaveAlign}) {
    SaveHeader header{
        .complete = true, .stream_size = 0x123456789A, .meta = std::string(size, 'm')};
    auto head = encode_save_header(header);
    ASSERT_TRUE(head) << head.error().what();
    EXPECT_EQ(head->size() % kSaveAlign, 0U);
    auto known = save_head_size(head->substr(0, kSaveAlign));
    ASSERT_TRUE(known);
    EXPECT_EQ(*known, head->size());
    auto read = decode_save_header(*head);
    ASSERT_TRUE(read) << read.error().what();
    EXPECT_TRUE(read->complete);
    EXPECT_EQ(read->stream_size, header.stream_size);
    EXPECT_EQ(read->meta, header.meta);
  }
}

// The second writing must not be longer than the first: the stream begins behind it.
TEST(SaveHeader, LengthDependsOnMetaAlone) {
  SaveHeader header{.meta = std::string(5000, 'm')};
  auto first = encode_save_header(header);
  header.complete = true;
  header.stream_size = ~uint64_t{0};
  auto second = encode_save_header(header);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->size(), second->size());
}

TEST(SaveHeader, EveryChangedByteIsFound) {
  auto head = encode_save_header({.complete = true, .stream_size = 4096, .meta = "{}"});
  ASSERT_TRUE(head);
  for (size_t at = 0; at < head->size(); at += at < 80 ? 1 : 61) {
    std::string changed = *head;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    EXPECT_FALSE(decode_save_header(changed)) << "byte " << at;
  }
}

TEST(SaveHeader, BoundsAreKept) {
  EXPECT_FALSE(encode_save_header({.meta = std::string(kMaxSaveHead, 'm')}));
  EXPECT_FALSE(save_head_size(""));
  EXPECT_FALSE(save_head_size("TenureSavedGuest"));
  auto head = encode_save_header({.meta = "{}"});
  ASSERT_TRUE(head);
  EXPECT_FALSE(decode_save_header(std::string_view(*head).substr(0, head->size() - 1)));
  std::string version = *head;
  version[16] = 2;
  auto other = save_head_size(version);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code(), Errc::Unsupported);
}

}  // namespace
