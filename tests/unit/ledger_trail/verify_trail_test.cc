// SPDX-License-Identifier: Apache-2.0
#include "cli/local/verify_trail.h"

#include <gtest/gtest.h>

#include "trail/entry.h"
#include "trail/record.h"

namespace tenure::cli {
namespace {

using trail::EntryState;
using trail::Kind;
using trail::Record;

constexpr char kUuid[] = "7f5ff0a4-6e6a-4ca5-8e5b-6e5a9a1b2c3d";

Record disk(const char* reason, uint64_t grant) {
  Record record(Kind::Disk);
  bool ends = std::string_view(reason) == "detach";
  record.set("virt", "kvm").set("reason", reason).set("vm", "web").set("uuid", kUuid);
  record.set("old-disk", ends ? "/dev/sdb" : "?").set("new-disk", ends ? "?" : "/dev/sdb");
  if (grant != UINT64_MAX)
    record.set("grant", grant);
  return record;
}

// An entry as the registrar writes it; `serial` 0 for what the kernel did not confirm.
std::string entry(EntryState state, const Record& record, int64_t time_ms, uint64_t serial) {
  auto body = trail::encode(record);
  EXPECT_TRUE(body) << body.error().what();
  trail::Entry made{
      .state = state, .type = trail::kVirtResource, .time_ms = time_ms, .serial = serial};
  made.pid = 1;
  made.uid = 0;
  made.body = *body;
  if (state != EntryState::Intent && state != EntryState::Void)
    made.body += " exe=\"/usr/sbin/tenured\" hostname=? addr=? terminal=? res=success";
  return trail::encode_entry(made);
}

class VerifyTrail : public testing::Test {
 protected:
  Result<> next(const std::string& bytes) { return check_.entry(index_++, bytes); }
  // Attach and detach of a disk: four entries, of which the results have serials 10 and 11.
  void attach_and_detach() {
    auto intent = next(entry(EntryState::Intent, disk("attach", UINT64_MAX), 1000, 0));
    ASSERT_TRUE(intent) << intent.error().what();
    ASSERT_TRUE(next(entry(EntryState::Confirmed, disk("attach", 0), 2000, 10)));
    auto release = next(entry(EntryState::Confirmed, disk("detach", 0), 3000, 11));
    ASSERT_TRUE(release) << release.error().what();
  }
  void log(EntryState state, const Record& record, int64_t time_ms, uint64_t serial) {
    std::string text = entry(state, record, time_ms, serial);
    size_t at = text.find("state=confirmed ");
    ASSERT_NE(at, text.npos);
    text.erase(at, 16);  // as auditd writes it
    auto line = trail::decode_line(text);
    ASSERT_TRUE(line);
    check_.log_record(*line);
  }

  TrailCheck check_;
  uint64_t index_ = 0;
};

TEST_F(VerifyTrail, AGrantAndItsReleaseAreLawful) {
  attach_and_detach();
  EXPECT_TRUE(check_.notes().empty());
}

TEST_F(VerifyTrail, WhatIsNoEntryIsNamed) {
  EXPECT_FALSE(next("hello"));
  EXPECT_FALSE(next(""));
  EXPECT_FALSE(next("type=VIRT_RESOURCE msg=audit(1.000:0): state=intent"));
}

TEST_F(VerifyTrail, AReleaseOfNothingIsNamed) {
  ASSERT_TRUE(next(entry(EntryState::Intent, disk("attach", UINT64_MAX), 1000, 0)));
  auto future = next(entry(EntryState::Confirmed, disk("attach", 7), 2000, 10));
  ASSERT_FALSE(future);
  EXPECT_NE(future.error().what().find("grant=7"), std::string::npos);
  ASSERT_TRUE(next(entry(EntryState::Confirmed, disk("attach", 0), 2000, 11)));
  auto not_an_intent = next(entry(EntryState::Confirmed, disk("detach", 2), 3000, 12));
  EXPECT_FALSE(not_an_intent);
}

TEST_F(VerifyTrail, ASecondReleaseIsNamed) {
  attach_and_detach();
  auto again = next(entry(EntryState::Confirmed, disk("detach", 0), 4000, 12));
  ASSERT_FALSE(again);
  EXPECT_NE(again.error().what().find("again"), std::string::npos);
}

TEST_F(VerifyTrail, ClockStepsAndOpenIntentsAreNoted) {
  attach_and_detach();
  ASSERT_TRUE(next(entry(EntryState::Intent, disk("attach", UINT64_MAX), 500, 0)));
  std::vector<std::string> notes = check_.notes();
  ASSERT_EQ(notes.size(), 2U);
  EXPECT_NE(notes[0].find("before entry 3"), std::string::npos) << notes[0];
  EXPECT_NE(notes[1].find("1 intents"), std::string::npos) << notes[1];
}

TEST_F(VerifyTrail, IndexZeroBeginsAnew) {
  attach_and_detach();
  index_ = 0;
  attach_and_detach();
}

TEST_F(VerifyTrail, TheAuditLogHasTheSameText) {
  attach_and_detach();
  log(EntryState::Confirmed, disk("attach", 0), 2000, 10);
  log(EntryState::Confirmed, disk("detach", 0), 3000, 11);
  LogComparison found = check_.comparison();
  EXPECT_EQ(found.same, 2U);
  EXPECT_TRUE(found.missing.empty());
  EXPECT_TRUE(found.altered.empty());
}

TEST_F(VerifyTrail, AlteredAndMissingRecordsOfTheAuditLogAreNamed) {
  attach_and_detach();
  log(EntryState::Confirmed, disk("attach", 1), 2000, 10);
  log(EntryState::Confirmed, disk("detach", 0), 4000, 15);
  LogComparison found = check_.comparison();
  EXPECT_EQ(found.altered, std::vector<uint64_t>{1});
  EXPECT_EQ(found.missing, std::vector<uint64_t>{2});
}

TEST_F(VerifyTrail, RotatedAndUnwrittenRecordsAreCounted) {
  attach_and_detach();
  log(EntryState::Confirmed, disk("attach", 0), 2500, 99);
  LogComparison found = check_.comparison();
  EXPECT_EQ(found.rotated_away, 1U);
  EXPECT_EQ(found.not_yet, 1U);
  EXPECT_TRUE(found.missing.empty());
}

}  // namespace
}  // namespace tenure::cli
