// SPDX-License-Identifier: Apache-2.0
// Logs that libvirt really wrote: every record has its meaning, and what the book makes of the
// failures and of the device node that changed is what really happened (as written down beside the
// logs).
#include <filesystem>
#include <fstream>

#include "tests/unit/model/feed.h"

namespace tenure::model {
namespace {

class RealLogs : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(folder))
      GTEST_SKIP() << "no logs of libvirt beside the sources";
  }
  void read(const std::filesystem::path& path) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) feed.apply(line);
  }
  size_t count(std::string_view kind, std::string_view id, bool open) {
    size_t found = 0;
    for (const Tenure& tenure : feed.book.tenures())
      found +=
          tenure.kind.view() == kind && tenure.id.view() == id && tenure.open() == open ? 1U : 0U;
    return found;
  }
  std::filesystem::path folder = TENURE_SOURCE_DIR "/../shared/libvirt-logs";
  Feed feed;
};

TEST_F(RealLogs, NoRecordIsUnexplained) {
  for (const auto& file : std::filesystem::directory_iterator(folder))
    if (file.path().extension() == ".log")
      read(file.path());
  const BookCounts& counts = feed.book.counts();
  EXPECT_GT(counts.records, 150U);
  EXPECT_EQ(counts.unknown, 0U);
  EXPECT_EQ(counts.damaged, 0U);
  EXPECT_EQ(counts.duplicates, 0U);
}

TEST_F(RealLogs, TheStartOfAFullGuestHoldsWhatItSays) {
  read(folder / "audit-01-define-start.log");
  ASSERT_EQ(feed.book.runs().size(), 1U);
  const auto& run = feed.book.runs()[0];
  EXPECT_TRUE(run.ok);
  EXPECT_EQ(run.pid, 27158U);
  EXPECT_EQ(run.start_reason.view(), "booted");
  // 28 records but MACHINE_ID, deny all and op=start.
  EXPECT_EQ(feed.book.tenures().size(), 25U);
  EXPECT_EQ(count("disk", "/dev/loop0", true), 1U);
  EXPECT_EQ(count("mem", "524288", true), 1U);
  EXPECT_EQ(count("cgroup", "pty", true), 1U);
}

TEST_F(RealLogs, WhatFailedGrantsNothing) {
  read(folder / "audit-03-failures.log");
  EXPECT_EQ(feed.book.counts().failed, 3U);
  ASSERT_EQ(feed.book.tenures().size(), 1U);
  EXPECT_EQ(count("cgroup", "/dev/loop2", false), 1U);  // allowed, and denied 4 ms later
}

// The node was re-pointed from loop1 to loop2 before the detach, so that libvirt denied 7:2 and the
// kernel kept 7:1; later one deny took 7:1 from every user of it, though a disk still held it.
TEST_F(RealLogs, ARuleStandsUntilItsOwnNumberIsDenied) {
  read(folder / "audit-06b-stale-node.log");
  size_t rules = 0;
  for (const Tenure& tenure : feed.book.tenures()) {
    if (tenure.kind.view() != "cgroup" || tenure.rdev.view() != "07:01")
      continue;
    ++rules;
    ASSERT_TRUE(tenure.until);
    EXPECT_EQ(tenure.until->serial, 16174U);
  }
  EXPECT_EQ(rules, 4U);
  EXPECT_EQ(count("disk", "/dev/loop1", true), 1U);
  EXPECT_EQ(feed.book.counts().unmatched, 1U);  // the deny of 7:2
}

}  // namespace
}  // namespace tenure::model
