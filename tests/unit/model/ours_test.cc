// SPDX-License-Identifier: Apache-2.0
// What follows from our own records, of the ledger and of audit.log: grant= joins a release to its
// grant, an intent is no event, and two readings of one event are one.
#include "tests/unit/model/feed.h"

namespace tenure::model {
namespace {

using Lines = std::vector<std::string>;
using trail::EntryState;
using trail::Kind;
using trail::Record;

Record disk(std::string_view reason, std::string_view from, std::string_view to, uint64_t grant) {
  Record record(Kind::Disk);
  record.set("reason", reason).set("old-disk", from).set("new-disk", to).set("grant", grant);
  record.set("access", "rw").set("device", "virtio-disk0").set("txn", "42-1");
  set_requester(
      record,
      {.auid = 1000, .ses = 3, .uid = 1000, .pid = 77, .exe = "/usr/bin/tenure", .tty = "pts/3"});
  return record;
}

Record control(std::string_view op, std::string_view reason) {
  Record record(Kind::Control);
  return record.set("op", op).set("reason", reason).set("vm-pid", 4711);
}

Record rule_record(std::string_view reason, uint64_t grant) {
  Record record(Kind::CgroupPath);
  record.set("reason", reason).set("cgroup", "/sys/fs/cgroup/tenure/web").set("path", "/dev/sdb");
  return record.set("rdev", "08:10").set("acl", "rw").set("devtype", "b").set("grant", grant);
}

TEST(Ours, AReleaseEndsTheGrantThatItNames) {
  Feed feed;
  feed.entry(EntryState::Confirmed, disk("attach", "?", "/dev/sdb", 7));  // 1
  feed.entry(EntryState::Confirmed, disk("attach", "?", "/dev/sdb", 9));  // 2
  feed.entry(EntryState::Confirmed, disk("detach", "/dev/sdb", "?", 7));  // 3
  EXPECT_EQ(feed.tenures(), (Lines{"disk /dev/sdb 1-3 detach exact", "disk /dev/sdb 2- open"}));
  const Tenure* tenure = feed.book.find_grant(9, kAnchor);
  ASSERT_NE(tenure, nullptr);
  EXPECT_TRUE(tenure->open());
  EXPECT_EQ(tenure->holder.view(), "virtio-disk0");
  EXPECT_EQ(tenure->requester->auid, 1000U);
  EXPECT_EQ(tenure->requester->exe.view(), "/usr/bin/tenure");
  EXPECT_EQ(feed.book.find_grant(8, kAnchor), nullptr);
}

TEST(Ours, AnIntentIsNoEventUntilItsResult) {
  Feed feed;
  Record wanted = disk("attach", "?", "/dev/sdb", 0);
  std::erase_if(wanted.fields, [](const auto& field) { return field.first == "grant"; });
  feed.entry(EntryState::Intent, wanted, false);  // index 0
  feed.entry(EntryState::Intent, wanted, false);  // index 1
  feed.entry(EntryState::Intent, wanted, false);  // index 2
  EXPECT_EQ(feed.tenures(), Lines{});
  EXPECT_EQ(feed.book.open_intents().size(), 3U);
  feed.entry(EntryState::Confirmed, disk("attach", "?", "/dev/sdb", 0));
  feed.entry(EntryState::Void, disk("attach", "?", "/dev/sdb", 1), false);
  EXPECT_EQ(feed.tenures(), Lines{"disk /dev/sdb 4- open"});
  auto left = feed.book.open_intents();
  ASSERT_EQ(left.size(), 1U);
  EXPECT_EQ(left[0].index, 2U);
  EXPECT_NE(left[0].body.find("new-disk=\"/dev/sdb\""), std::string::npos);
}

TEST(Ours, WhatAuditDidNotConfirmIsAnEventOfTheLedger) {
  Feed feed;
  feed.entry(EntryState::Unsent, disk("attach", "?", "/dev/sdb", 1));
  feed.entry(EntryState::Unconfirmed, disk("detach", "/dev/sdb", "?", 1));
  EXPECT_EQ(feed.tenures(), Lines{"disk /dev/sdb 1-2 detach exact"});
  EXPECT_EQ(feed.tenure(0).from->serial, 0U);
}

TEST(Ours, AFailedReleaseLeavesTheTenureOpen) {
  Feed feed;
  feed.entry(EntryState::Confirmed, rule_record("allow", 3));
  Record failed = rule_record("deny", 3);
  failed.success = false;
  feed.entry(EntryState::Confirmed, failed);
  EXPECT_EQ(feed.tenures(), Lines{"cgroup /dev/sdb 1- open"});
}

TEST(Ours, AUserOfASharedDeviceIsReleasedAlone) {
  Feed feed;
  feed.entry(EntryState::Confirmed, rule_record("allow", 3));
  feed.entry(EntryState::Confirmed, rule_record("allow", 4));
  feed.entry(EntryState::Confirmed, rule_record("deny", 4));
  EXPECT_EQ(feed.tenures(), (Lines{"cgroup /dev/sdb 1- open", "cgroup /dev/sdb 2-3 deny exact"}));
}

TEST(Ours, AStopInTheLedgerDoesNotEndWhatWasNotReleased) {
  Feed feed;
  feed.entry(EntryState::Confirmed, rule_record("allow", 3));
  feed.entry(EntryState::Confirmed, control("start", "booted"));
  feed.entry(EntryState::Confirmed, control("stop", "destroyed"));  // 3
  EXPECT_EQ(feed.tenures(), Lines{"cgroup /dev/sdb 1- open"});
  EXPECT_EQ(feed.runs(), Lines{"1 booted 2-3 destroyed"});
  feed.entry(EntryState::Confirmed, rule_record("deny", 3));  // 4
  EXPECT_EQ(feed.tenures(), Lines{"cgroup /dev/sdb 1-4 deny exact"});
}

TEST(Ours, AFailedStartKeepsWhatWasReallyGrantedAndReleased) {
  Feed feed;
  feed.entry(EntryState::Confirmed, rule_record("allow", 3));
  feed.entry(EntryState::Confirmed, rule_record("deny", 3));
  Record failed = control("start", "booted");
  failed.success = false;
  feed.entry(EntryState::Confirmed, failed);
  EXPECT_EQ(feed.tenures(), Lines{"cgroup /dev/sdb 1-2 deny exact"});
  EXPECT_EQ(feed.runs(), Lines{"1 booted 3-3 failed (failed)"});
}

TEST(Ours, ARefusedStartDoesNotTouchARunningGuest) {
  Feed feed;
  feed.entry(EntryState::Confirmed, control("start", "booted"));
  feed.entry(EntryState::Confirmed, rule_record("allow", 3));
  Record refused(Kind::Refusal);
  refused.set("op", "start").success = false;
  feed.entry(EntryState::Confirmed, refused);
  EXPECT_EQ(feed.tenures(), Lines{"cgroup /dev/sdb 2- open"});
  EXPECT_EQ(feed.book.counts().refused, 1U);
}

TEST(Ours, DenialsAndDriftAreNoTenures) {
  Feed feed;
  Record denial(Kind::Denial);
  denial.set("cgroup", "/c").set("rdev", "08:10").set("acl", "rw").set("devtype", "b");
  denial.set("count", 1000000).success = false;
  feed.entry(EntryState::Confirmed, denial);
  Record drift(Kind::Drift);
  drift.set("cgroup", "/c").set("rdev", "08:10").set("new-acl", "rwm").set("old-acl", "?");
  feed.entry(EntryState::Confirmed, drift);
  EXPECT_EQ(feed.tenures(), Lines{});
}

TEST(Ours, RecoveryReleasesWithinBounds) {
  Feed feed;
  feed.entry(EntryState::Confirmed, rule_record("allow", 3));  // 1
  Record gone = rule_record("recovered", 3);
  gone.set("bound-from", 20'000).set("bound-to", 90'000);
  feed.second = 95;
  feed.entry(EntryState::Confirmed, gone);
  EXPECT_EQ(feed.tenures(), Lines{"cgroup /dev/sdb 1-90 recovered bounded"});
  EXPECT_EQ(feed.tenure(0).until_after->time_ms, 20'000);
}

TEST(Ours, RecoveryConfirmsAGrantWithoutAResult) {
  Feed feed;
  feed.entry(EntryState::Intent, rule_record("allow", 0), false);
  feed.entry(EntryState::Confirmed, rule_record("recovered", 0));
  EXPECT_EQ(feed.tenures(), Lines{"cgroup /dev/sdb 2- open"});
  EXPECT_TRUE(feed.book.open_intents().empty());
}

TEST(Ours, AnUpdateGoesOnUnderItsNumber) {
  Feed feed;
  auto memory = [](std::string_view reason, uint64_t from, uint64_t to) {
    Record record(Kind::Mem);
    return record.set("reason", reason).set("old-mem", from).set("new-mem", to).set("grant", 5);
  };
  feed.entry(EntryState::Confirmed, memory("start", 0, 524288));
  feed.entry(EntryState::Confirmed, memory("update", 524288, 262144));
  EXPECT_EQ(feed.tenures(), (Lines{"mem 524288 1-2 update exact", "mem 262144 2- open"}));
  feed.entry(EntryState::Confirmed, memory("stop", 262144, 0));
  EXPECT_EQ(feed.tenures(), (Lines{"mem 524288 1-2 update exact", "mem 262144 2-3 stop exact"}));
}

// audit.log and the ledger of one host hold the same event.
TEST(Ours, TheSameEventFromTwoSourcesCountsOnce) {
  Feed feed;
  auto both = [&](const Record& record) {
    int64_t second = feed.second;
    uint64_t serial = feed.serial;
    feed.entry(EntryState::Confirmed, record);
    feed.second = second;
    feed.serial = serial;
    Record other = record;
    other.set("virt", "kvm").set("vm", feed.guest).set("uuid", feed.uuid).set("run", 1);
    feed.line(trail::type_name(trail::spec(record.kind).type),
              "pid=1 msg='" + trail::encode(other).value() + " res=success'");
  };
  both(rule_record("allow", 3));
  both(disk("attach", "?", "/dev/sdb", 4));
  both(control("start", "booted"));
  both(disk("update", "/dev/sdb", "/dev/sdc", 4));
  both(disk("detach", "/dev/sdc", "?", 4));
  both(rule_record("recovered", 3));
  both(control("stop", "destroyed"));
  EXPECT_EQ(feed.tenures(),
            (Lines{"cgroup /dev/sdb 1-6 recovered exact", "disk /dev/sdb 2-4 update exact",
                   "disk /dev/sdc 4-5 detach exact"}));
  EXPECT_EQ(feed.runs(), Lines{"1 booted 3-7 destroyed"});
}

TEST(Ours, RunsGoByTheirNumber) {
  Feed feed;
  auto line = [&](std::string_view type, std::string_view what) {
    feed.line(type, "pid=1 msg='virt=kvm " + std::string(what) + " res=success'");
  };
  std::string who = " vm=\"a\" uuid=" + std::string(kAnchor);
  line("VIRT_CONTROL", "op=start reason=booted" + who + " vm-pid=1 run=4");
  line("VIRT_CONTROL", "op=stop reason=crashed" + who + " vm-pid=1 run=4");
  line("VIRT_CONTROL", "op=start reason=booted" + who + " vm-pid=1 run=5");
  EXPECT_EQ(feed.runs(), (Lines{"4 booted 1-2 crashed", "5 booted 3-"}));
}

TEST(Book, AbsorbsABookOfOtherHostsOnly) {
  Feed one;
  Feed two;
  one.node = "h1";
  two.node = "h2";
  for (Feed* feed : {&one, &two}) {
    feed->resource("resrc=disk reason=start", "old-disk=\"?\" new-disk=\"/dev/sdb\"");
    feed->control("op=start reason=booted");
  }
  ASSERT_TRUE(one.book.absorb(std::move(two.book)));
  one.node = "h2";
  one.control("op=stop reason=destroyed");  // goes on where the other book was
  EXPECT_EQ(one.tenures(), (Lines{"disk /dev/sdb 1- open", "disk /dev/sdb 1-3 stop inferred"}));
  Feed again;
  again.node = "h1";
  again.control("op=start reason=booted");
  auto refused = one.book.absorb(std::move(again.book));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().what(), "merge of two books: both have records of host 'h1'");
}

}  // namespace
}  // namespace tenure::model
