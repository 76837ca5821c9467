// SPDX-License-Identifier: Apache-2.0
// Time words against values worked out by `date -d` and by hand, in a fixed zone at a fixed now.
#include "reader/time_words.h"

#include <gtest/gtest.h>

namespace tenure::reader {
namespace {

// Wednesday 2025-07-02 15:04:05.678 +0200.
constexpr int64_t kNow = 1751461445678;
constexpr int kOffset = 7200;

TimeContext context(bool end = false) {
  return TimeContext{
      .now_ms = kNow, .zone = fixed_zone(kOffset), .boot_ms = 1751400000000, .end_of_range = end};
}

std::string at(std::string_view text, bool end = false) {
  const auto time = parse_time(text, context(end));
  return time ? format_time(*time, fixed_zone(kOffset)) : time.error().what();
}

TEST(TimeWords, JournalctlsCalendarForms) {
  EXPECT_EQ(at("2025-07-01 10:20:30"), "2025-07-01 10:20:30.000 +0200");
  EXPECT_EQ(at("2025-07-01 10:20:30.25"), "2025-07-01 10:20:30.250 +0200");
  EXPECT_EQ(at("2025-07-01 10:20"), "2025-07-01 10:20:00.000 +0200");
  EXPECT_EQ(at("2025-07-01"), "2025-07-01 00:00:00.000 +0200");
  EXPECT_EQ(at("Tue 2025-07-01 10:20:30"), "2025-07-01 10:20:30.000 +0200");
  EXPECT_EQ(at("10:20"), "2025-07-02 10:20:00.000 +0200");
  EXPECT_EQ(at("2025-07-01 10:20:30 UTC"), "2025-07-01 12:20:30.000 +0200");
  EXPECT_EQ(at("2025-07-01T10:20:30Z"), "2025-07-01 12:20:30.000 +0200");
  EXPECT_EQ(at("2025-07-01T10:20:30+05:30"), "2025-07-01 06:50:30.000 +0200");
  EXPECT_EQ(at("2025-07-01 10:20:30 -0330"), "2025-07-01 15:50:30.000 +0200");
}

TEST(TimeWords, WhatWePrintCanBeTypedAgain) {
  EXPECT_EQ(at("2025-07-01 10:20:30.250 +0200"), "2025-07-01 10:20:30.250 +0200");
  EXPECT_EQ(at("1751328000.250"), "2025-07-01 02:00:00.250 +0200");
}

TEST(TimeWords, RelativeAndEpoch) {
  EXPECT_EQ(at("-1h"), "2025-07-02 14:04:05.678 +0200");
  EXPECT_EQ(at("+90"), "2025-07-02 15:05:35.678 +0200");
  EXPECT_EQ(at("2 days ago"), "2025-06-30 15:04:05.678 +0200");
  EXPECT_EQ(at("1h 30min ago"), "2025-07-02 13:34:05.678 +0200");
  EXPECT_EQ(at("-1w2d"), "2025-06-23 15:04:05.678 +0200");
  EXPECT_EQ(at("@1751328000"), "2025-07-01 02:00:00.000 +0200");
  EXPECT_EQ(at("@1751328000.5"), "2025-07-01 02:00:00.500 +0200");
  EXPECT_EQ(at("@0"), "1970-01-01 02:00:00.000 +0200");
}

TEST(TimeWords, AusearchsWords) {
  EXPECT_EQ(at("now"), "2025-07-02 15:04:05.678 +0200");
  EXPECT_EQ(at("recent"), "2025-07-02 14:54:05.678 +0200");
  EXPECT_EQ(at("this-hour"), "2025-07-02 15:00:00.000 +0200");
  EXPECT_EQ(at("today"), "2025-07-02 00:00:00.000 +0200");
  EXPECT_EQ(at("Yesterday"), "2025-07-01 00:00:00.000 +0200");
  EXPECT_EQ(at("tomorrow"), "2025-07-03 00:00:00.000 +0200");
  EXPECT_EQ(at("this-week"), "2025-06-29 00:00:00.000 +0200");
  EXPECT_EQ(at("week-ago"), "2025-06-25 00:00:00.000 +0200");
  EXPECT_EQ(at("this-month"), "2025-07-01 00:00:00.000 +0200");
  EXPECT_EQ(at("month-ago"), "2025-06-02 00:00:00.000 +0200");
  EXPECT_EQ(at("this-year"), "2025-01-01 00:00:00.000 +0200");
  EXPECT_EQ(at("boot"), "2025-07-01 22:00:00.000 +0200");
}

TEST(TimeWords, AnAmericanDateWithoutTimeIsAusearchs) {
  EXPECT_EQ(at("07/01/2025"), "2025-07-01 00:00:00.000 +0200");
  EXPECT_EQ(at("07/01/2025", true), "2025-07-01 15:04:05.000 +0200");
  EXPECT_EQ(at("07/01/25 10:20:30", true), "2025-07-01 10:20:30.000 +0200");
  EXPECT_EQ(at("2025-07-01", true), "2025-07-01 00:00:00.000 +0200");
}

TEST(TimeWords, EverythingElseIsRefused) {
  for (const char* text : {"",
                           "soon",
                           "2025-13-01",
                           "2025-02-30",
                           "2025-7",
                           "25:00",
                           "10:61",
                           "10:00:00.",
                           "@",
                           "@-1",
                           "@99999999999999",
                           "1 fortnight ago",
                           "-",
                           "ago",
                           "07/32/2025",
                           "1969-01-01",
                           "2025-07-01 10:00 CET",
                           "2025-07-01 10:00:00 +99",
                           "123",
                           "99999999999999999999 ago",
                           "-800511328y",
                           "200000y ago",
                           "-7000y 7000y",
                           "10:00:00 now"}) {
    const auto time = parse_time(text, context());
    ASSERT_FALSE(time) << text;
    EXPECT_EQ(time.error().code(), Errc::Invalid);
  }
  EXPECT_NE(parse_time("so\x1b[31mon", context()).error().what().find("\\x1B"), std::string::npos);
  EXPECT_FALSE(parse_time(std::string(1000, '1'), context()));
}

TEST(TimeWords, BootMustBeKnown) {
  TimeContext none = context();
  none.boot_ms.reset();
  EXPECT_EQ(parse_time("boot", none).error().code(), Errc::Unsupported);
}

TEST(TimeWords, TheLocalZoneFollowsTz) {
  ::setenv("TZ", "Europe/Vienna", 1);
  const Zone zone = local_zone();
  EXPECT_EQ(format_time(kNow, zone), "2025-07-02 15:04:05.678 +0200");
  EXPECT_EQ(*parse_time("2025-01-15 12:00", {.now_ms = kNow, .zone = zone, .boot_ms = {}}),
            1736938800000);
  EXPECT_EQ(format_day(1751407200000, zone), "2025-07-02");
  ::unsetenv("TZ");
  ::tzset();
}

}  // namespace
}  // namespace tenure::reader
