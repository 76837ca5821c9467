// SPDX-License-Identifier: Apache-2.0
#include "guest/event_pacer.h"

#include <gtest/gtest.h>

namespace tenure::guest {
namespace {

TEST(EventPacer, TellsTheFirstAndCountsTheRest) {
  EventPacer pacer;
  EXPECT_TRUE(pacer.happened("tray sda"));
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(pacer.happened("tray sda"));
  EXPECT_TRUE(pacer.happened("tray sdb")) << "another device has a pace of its own";
  EXPECT_EQ(pacer.due("tray sda"), 1000U);
  EXPECT_FALSE(pacer.happened("tray sda")) << "one was told at the end of that period";
  EXPECT_EQ(pacer.due("tray sda"), 1U);
  EXPECT_EQ(pacer.due("tray sda"), 0U);
  EXPECT_TRUE(pacer.happened("tray sda")) << "it had been quiet for a period";
  EXPECT_EQ(pacer.due("never"), 0U);
}

}  // namespace
}  // namespace tenure::guest
