// SPDX-License-Identifier: Apache-2.0
// Intent, act, read back, result, and the way back: what the trail says is what the world is.
#include <algorithm>
#include <set>

#include "tests/unit/registrar/bench.h"

namespace tenure::test {
namespace {

using registrar::Hold;
using trail::EntryState;
using trail::Kind;

const Error kRefused{Errc::Denied, "no"};

TEST_F(RegistrarTest, IntentsAreDurableBeforeAnyAct) {
  auto op = operation(journal());
  size_t intents_at_first_act = 0;
  world.on_apply = [&](const model::Claim&) {
    if (intents_at_first_act == 0)
      intents_at_first_act = count(EntryState::Intent);
  };
  ASSERT_TRUE(intend(*op));
  EXPECT_TRUE(world.order.empty());
  EXPECT_EQ(fate.history(), std::vector{Step::Append}) << "one durable write, nothing else";
  ASSERT_TRUE(apply(*op));
  EXPECT_EQ(intents_at_first_act, start_claims().size() + 1) << "every claim, and the start itself";
}

TEST_F(RegistrarTest, ResultsComeAfterTheActsAndNameTheirIntents) {
  auto op = operation(journal());
  ASSERT_TRUE(intend(*op));
  EXPECT_TRUE(audit.fake.seen().empty());
  ASSERT_TRUE(apply(*op));
  std::vector<Step> expected{Step::Append};
  expected.insert(expected.end(), 5, Step::Apply);
  expected.push_back(Step::Send);
  EXPECT_EQ(fate.history(), expected);
  ASSERT_TRUE(conclude(*op));
  for (const Line& line : lines(ledger)) {
    if (line.state == EntryState::Intent)
      continue;
    auto grant = line.record.get("grant");
    ASSERT_TRUE(grant) << ledger.entries[line.index];
    Line intent =
        decode(std::stoul(std::string(*grant)), ledger.entries[std::stoul(std::string(*grant))]);
    EXPECT_EQ(intent.state, EntryState::Intent);
    EXPECT_EQ(intent.record.kind, line.record.kind);
    EXPECT_TRUE(line.record.success);
    EXPECT_EQ(line.get("req-uid"), "1000");
    EXPECT_EQ(line.get("vm"), "web \"1\" res=success");
  }
  EXPECT_EQ(ledger.published(), ledger.size());
}

// A driver is bound before the nodes that come of it can be claimed.
TEST_F(RegistrarTest, IntentsInTwoPartsEachHaveTheirResult) {
  auto op = operation(journal());
  std::vector<model::Claim> early{path_claim(kGroup, "/dev/sdc")};
  ASSERT_TRUE(run(pool, op->intend(std::move(early), std::nullopt)));
  ASSERT_TRUE(apply(*op));
  ASSERT_TRUE(intend(*op));
  ASSERT_TRUE(apply(*op));
  ASSERT_TRUE(conclude(*op));
  std::set<std::string> intents, ended;
  for (const Line& line : lines(ledger))
    if (line.state == EntryState::Intent)
      intents.insert(std::to_string(line.index));
    else
      ended.emplace(line.record.get("grant").value_or(""));
  EXPECT_EQ(intents, ended);
}

TEST_F(RegistrarTest, AnOperationCostsTwoAppends) {
  started(journal());
  EXPECT_EQ(std::ranges::count(fate.history(), Step::Append), 2);
}

TEST_F(RegistrarTest, DenyAllIsAnActButNoTenure) {
  auto& j = journal();
  std::vector<Hold> holds = started(j);
  EXPECT_EQ(holds.size(), start_claims().size() - 1);
  for (const Hold& hold : holds) EXPECT_NE(hold.claim.record.kind, Kind::CgroupAll);
  EXPECT_EQ(ledger.replay()->open.at(kUuid).holds.size(), holds.size());
}

TEST_F(RegistrarTest, ARefusedActIsRecordedAsFailedAndTheEarlierOnesGoBackInReverse) {
  auto op = operation(journal());
  ASSERT_TRUE(intend(*op));
  fate.fail(Step::Apply, EPERM, 3);
  Result<> applied = apply(*op);
  ASSERT_FALSE(applied);
  EXPECT_EQ(applied.error().code(), Errc::Denied);
  ASSERT_TRUE(roll_back(*op, applied.error()));

  EXPECT_TRUE(world.present.empty());
  std::string group = std::string("cgroup-group ") + kGroup;
  EXPECT_EQ(world.order, (std::vector<std::string>{
                             "+" + group, "+cgroup-all " + std::string(kGroup),
                             "+cgroup-path /dev/sdb", "-cgroup-path /dev/sdb", "-" + group}));
  std::vector<Line> acl = lines_with("resrc", "acl");
  ASSERT_EQ(acl.size(), 2U) << "intent and failure, no release";
  EXPECT_FALSE(acl[1].record.success);
  EXPECT_EQ(acl[1].get("grant"), std::to_string(acl[0].index));
  // Never tried: net-open, disk, mem.
  EXPECT_EQ(count(EntryState::Void), 3U);
  for (const kernel::AuditMessage& message : audit.fake.seen())
    EXPECT_EQ(message.body.find("new-disk"), std::string::npos) << "not an event: " << message.body;
  std::vector<Line> starts = lines_with("op", "start");
  ASSERT_EQ(starts.size(), 2U);
  EXPECT_FALSE(starts[1].record.success);
  EXPECT_NE(starts[1].get("why").find("Operation not permitted"), std::string::npos);
  EXPECT_TRUE(ledger.replay()->open.empty());
}

TEST_F(RegistrarTest, EveryGrantHasOneReleaseWithItsNumber) {
  auto& j = journal();
  std::vector<Hold> holds = started(j);
  auto left = release(j, std::move(holds));
  ASSERT_TRUE(left);
  EXPECT_TRUE(left->empty());
  ASSERT_TRUE(run(pool, j.commit()));
  std::map<std::string, int> releases;
  for (const Line& line : lines_with("txn", "t2")) {
    EXPECT_TRUE(line.record.success);
    ++releases[line.get("grant")];
  }
  EXPECT_EQ(releases.size(), start_claims().size() - 1);
  for (const auto& [grant, n] : releases) EXPECT_EQ(n, 1) << grant;
  std::vector<Line> disk = lines_with("old-disk", "/srv/a b.qcow2");
  ASSERT_EQ(disk.size(), 1U);
  EXPECT_EQ(disk[0].get("new-disk"), "?");
  EXPECT_EQ(disk[0].get("reason"), "stop");
  EXPECT_TRUE(world.present.empty());
}

TEST_F(RegistrarTest, AWithdrawalThatFailsKeepsItsTenure) {
  auto& j = journal();
  std::vector<Hold> holds = started(j);
  fate.fail(Step::Withdraw, EBUSY);
  auto left = release(j, std::move(holds), "because");
  ASSERT_TRUE(left);
  ASSERT_EQ(left->size(), 1U);
  EXPECT_EQ(left->front().claim.kind, "net-open") << "the last granted goes first";
  EXPECT_FALSE(left->front().kept.empty()) << "whoever asked is told why";
  ASSERT_TRUE(run(pool, j.commit()));
  auto open = ledger.replay()->open;
  ASSERT_EQ(open.at(kUuid).holds.size(), 1U);
  EXPECT_EQ(open.at(kUuid).holds[0].grant, left->front().grant);
  for (const Line& line : lines_with("txn", "t2")) {
    bool told = line.get("why").find("resource busy") != std::string::npos;
    EXPECT_NE(line.record.success, told);
  }

  auto again = release(j, std::move(*left));
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->empty());
  ASSERT_TRUE(run(pool, j.commit()));
  EXPECT_TRUE(ledger.replay()->open.at(kUuid).holds.empty());
}

TEST_F(RegistrarTest, AWithdrawalSeesWhatIsStillHeld) {
  auto& j = journal();
  ASSERT_TRUE(release(j, started(j)));
  EXPECT_EQ(world.others_seen, (std::vector<size_t>{3, 2, 1, 0}))
      << "disk and mem have no act and go first";
}

TEST_F(RegistrarTest, NothingIsDoneIfTheIntentsCannotBeWritten) {
  auto op = operation(journal());
  fate.fail(Step::Append, ENOSPC);
  Result<> intended = intend(*op);
  ASSERT_FALSE(intended);
  EXPECT_EQ(intended.error().sys_errno(), ENOSPC);
  ASSERT_TRUE(roll_back(*op, intended.error()));
  EXPECT_TRUE(world.order.empty());
  std::vector<Line> all = lines(ledger);
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].get("op"), "start");
  EXPECT_FALSE(all[0].record.success);
  EXPECT_FALSE(all[0].record.get("grant"));
}

TEST_F(RegistrarTest, AClaimThatCannotBeRecordedIsNeverTried) {
  auto op = operation(journal());
  std::vector<model::Claim> claims{group_claim(kGroup), acl_claim(std::string(4500, '\n'))};
  Result<> intended = run(pool, op->intend(std::move(claims), control("start", "booted")));
  ASSERT_FALSE(intended);
  EXPECT_EQ(intended.error().code(), Errc::Invalid);
  EXPECT_TRUE(ledger.entries.empty());
}

// Its intent would just fit, its result with grant= and why= would not: then the act would be done
// and its record lost.
TEST_F(RegistrarTest, AnIntentLeavesRoomForItsResult) {
  for (size_t size = 3800; size < 4200; size += 3) {
    ledger.clear();
    world.present.clear();
    auto op = operation(journal());
    std::vector<model::Claim> claims{acl_claim(std::string(size, '"'))};
    if (!run(pool, op->intend(std::move(claims), control("start", "booted"))))
      continue;
    ASSERT_TRUE(apply(*op)) << size;
    ASSERT_TRUE(conclude(*op)) << size;
    fate.fail(Step::Withdraw, EBUSY);
    auto left = release(journal(), op->take_holds());
    ASSERT_TRUE(left) << size;
    ASSERT_TRUE(release(journal(), std::move(*left), "recovered: tenured died")) << size;
  }
}

TEST_F(RegistrarTest, ALongReasonIsShortenedNotLost) {
  auto op = operation(journal());
  Error why{Errc::Io, "image " + std::string(9000, '\n')};
  ASSERT_TRUE(roll_back(*op, why));
  std::vector<Line> all = lines(ledger);
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].get("why").substr(0, 7), "image \n");
  EXPECT_TRUE(all[0].get("why").ends_with("..."));
}

// The start itself was recorded as a success before the loss was known, so it cannot have failed.
TEST_F(RegistrarTest, AStartThatWasAnnouncedEndsAsAStop) {
  auto op = operation(journal());
  ASSERT_TRUE(intend(*op));
  ASSERT_TRUE(apply(*op));
  EXPECT_FALSE(op->announced());
  fate.fail(Step::Append, ENOSPC);
  Result<> concluded = conclude(*op);
  ASSERT_FALSE(concluded);
  EXPECT_TRUE(op->announced());
  Result<> undone = run(pool, op->roll_back(control("stop", "failed"), concluded.error()));
  ASSERT_TRUE(undone) << undone.error().what();
  EXPECT_TRUE(world.present.empty());
  std::vector<Line> stops = lines_with("op", "stop");
  ASSERT_EQ(stops.size(), 1U);
  EXPECT_TRUE(stops[0].record.success);
  EXPECT_FALSE(stops[0].record.get("grant")) << "the intent was the start's";
  EXPECT_TRUE(ledger.replay()->open.empty());
}

TEST_F(RegistrarTest, WhatCannotBeRolledBackStaysHeld) {
  auto op = operation(journal());
  ASSERT_TRUE(intend(*op));
  ASSERT_TRUE(apply(*op));
  fate.fail(Step::Withdraw, EBUSY);
  ASSERT_TRUE(roll_back(*op, kRefused));
  std::vector<Hold> left = op->take_holds();
  ASSERT_EQ(left.size(), 1U);
  EXPECT_EQ(ledger.replay()->open.at(kUuid).holds.at(0).grant, left[0].grant);
}

}  // namespace
}  // namespace tenure::test
