// SPDX-License-Identifier: Apache-2.0
// Which differences are news, and what their records say.
#include "guest/run/drift.h"

#include <gtest/gtest.h>

namespace tenure::guest {
namespace {

constexpr LiveParts kAll{};
constexpr LiveParts kAclsOnly{
    .fence = false, .members = false, .identity = false, .descriptors = false, .acls = true};

Difference rule(std::string found) {
  kernel::AclRule standing{.type = DeviceType::Char, .major = 1, .minor = 5, .access = kReadOnly};
  return {.kind = LiveKind::Rule,
          .resource = "c 1:5",
          .expected = "",
          .found = std::move(found),
          .text = "t",
          .rule = standing};
}

TEST(Drift, ADifferenceIsNewsOnceAndOverOnce) {
  DriftBook book;
  EXPECT_EQ(book.update({rule("r")}, kAll, true).begun.size(), 1U);
  EXPECT_TRUE(book.update({rule("r")}, kAll, true).begun.empty());
  auto news = book.update({}, kAll, true);
  EXPECT_TRUE(news.begun.empty());
  ASSERT_EQ(news.over.size(), 1U);
  EXPECT_TRUE(book.update({}, kAll, true).over.empty());
}

TEST(Drift, OneThatTurnsIntoAnotherIsOverAndBegins) {
  DriftBook book;
  book.update({rule("r")}, kAll, true);
  auto news = book.update({rule("rw")}, kAll, true);
  EXPECT_EQ(news.begun.size(), 1U);
  EXPECT_EQ(news.over.size(), 1U);
}

TEST(Drift, WhatWasNotLookedAtIsNotOver) {
  DriftBook book;
  book.update({rule("r")}, kAll, true);
  EXPECT_TRUE(book.update({}, kAclsOnly, true).over.empty());
  EXPECT_TRUE(book.update({}, kAll, false).over.empty()) << "the kernel could not be asked";
  EXPECT_EQ(book.known().size(), 1U);
}

TEST(Drift, TheRecordNamesDeviceAndDoer) {
  kernel::Culprit who{.pid = 7, .uid = 0, .auid = 1000, .comm = "sh", .exe = "/bin/sh"};
  trail::Record record = drift_record(rule("r"), "begin", who, "/cg/x");
  record.set("virt", "qemu").set("vm", "a").set("uuid", "?");
  auto text = trail::encode(record);
  ASSERT_TRUE(text) << text.error().what();
  for (const char* piece : {"rdev=01:05", "devtype=c", "old-acl=?", "new-acl=r", "by-pid=7",
                            "by-auid=1000", "phase=begin", "what=rule"})
    EXPECT_NE(text->find(piece), std::string::npos) << piece << " in " << *text;
  auto nobody = drift_record(rule("r"), "end", {}, "");
  EXPECT_FALSE(nobody.get("by-pid"));
}

TEST(Drift, PoliciesAreReadAsTheyAreWritten) {
  for (OnDrift policy : {OnDrift::Report, OnDrift::Repair, OnDrift::Pause, OnDrift::Stop})
    EXPECT_EQ(parse_on_drift(to_string(policy)).value(), policy);
  EXPECT_FALSE(parse_on_drift("ignore"));
}

}  // namespace
}  // namespace tenure::guest
