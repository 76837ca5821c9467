// SPDX-License-Identifier: Apache-2.0
#include "domain/guest_word.h"

#include <gtest/gtest.h>

namespace tenure::domain {
namespace {

const std::map<std::string, std::string> kNames{{"6fe7fc2a-0000-4000-8000-000000000001", "web"},
                                                {"6fe7fc2b-0000-4000-8000-000000000002", "6fe7"},
                                                {"a0000000-0000-4000-8000-000000000003", "db"}};

TEST(GuestWord, NamesOneGuest) {
  EXPECT_EQ(uuid_of_word(kNames, "web"), "6fe7fc2a-0000-4000-8000-000000000001");
  EXPECT_EQ(uuid_of_word(kNames, "6FE7FC2A"), "6fe7fc2a-0000-4000-8000-000000000001");
  EXPECT_EQ(uuid_of_word(kNames, "a0000000-0000-4000-8000-000000000003"),
            "a0000000-0000-4000-8000-000000000003");
}

TEST(GuestWord, ANameGoesBeforeAUuid) {
  EXPECT_EQ(uuid_of_word(kNames, "6fe7"), "6fe7fc2b-0000-4000-8000-000000000002");
}

TEST(GuestWord, WhatFitsNoneOrSeveralIsRefused) {
  for (const char* word : {"", "a00", "a0000001", "WEB"}) {
    auto found = uuid_of_word(kNames, word);
    ASSERT_FALSE(found) << word;
    EXPECT_EQ(found.error().code(), Errc::NotFound) << word;
  }
  auto found = uuid_of_word(kNames, "6fe7fc2");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code(), Errc::Invalid);
}

}  // namespace
}  // namespace tenure::domain
