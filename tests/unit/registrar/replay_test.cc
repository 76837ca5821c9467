// SPDX-License-Identifier: Apache-2.0
// What a daemon finds in the ledger after its own death, at every step at which it can die.
#include "model/tenure_book.h"
#include "registrar/settle.h"
#include "tests/unit/registrar/bench.h"

namespace tenure::test {
namespace {

using registrar::Hold;
using registrar::OpenRun;
using registrar::Pending;
using registrar::Replay;
using trail::EntryState;
using trail::Kind;

class ReplayTest : public RegistrarTest {
 protected:
  // One life: start, then stop, as the guest room does it.
  void live() {
    auto& j = journal();
    auto op = operation(j);
    std::vector<Hold> holds;
    if (intend(*op) && apply(*op) && conclude(*op)) {
      holds = op->take_holds();
      ASSERT_TRUE(release(j, std::move(holds)));
      trail::Record stop = control("stop", "destroyed");
      registrar::stamp(stop, ref(), txn("t2"));
      run(pool, j.write({std::move(stop)}));
    } else {
      roll_back(*op, Error{Errc::Denied, "no"});
    }
  }

  // As recovery closes a run whose guest is gone.
  void close(OpenRun open) {
    auto& j = journal();
    auto present = [&](uint64_t, const model::Claim& claim) {
      return claim.record.kind == Kind::CgroupAll || world.has(claim);
    };
    ASSERT_TRUE(run(pool, registrar::settle(j, open, present, "recovered")));
    EXPECT_TRUE(open.pending.empty());
    auto left = release(j, std::move(open.holds), "recovered");
    ASSERT_TRUE(left);
    EXPECT_TRUE(left->empty());
    trail::Record end = control(open.started ? "stop" : "start", "crashed");
    end.success = open.started;
    registrar::stamp(end, ref(), txn("t3"));
    ASSERT_TRUE(run(pool, j.write({std::move(end)})));
  }

  // Everything that the world has is known to the ledger, as held or as perhaps held.
  void expect_world_is_known(const Replay& replay) {
    std::set<std::string> known;
    auto open = replay.open.find(kUuid);
    if (open != replay.open.end()) {
      for (const Hold& hold : open->second.holds) known.insert(key_of(hold.claim));
      for (const Pending& pending : open->second.pending)
        known.insert(key_of(model::claim_of(pending.record)));
    }
    for (const std::string& thing : world.present) EXPECT_TRUE(known.contains(thing)) << thing;
  }

  void expect_all_closed() {
    EXPECT_TRUE(world.present.empty());
    EXPECT_TRUE(ledger.replay()->open.empty());
    model::TenureBook book;
    std::map<std::string, std::pair<int, int>> grants;  // begun, ended
    for (size_t i = 0; i < ledger.entries.size(); ++i) {
      book.apply(*trail::decode_line(ledger.entries[i]), i);
      Line line = decode(i, ledger.entries[i]);
      bool result = line.state != EntryState::Intent && line.state != EntryState::Void;
      bool tenure =
          !model::claim_of(line.record).kind.empty() && line.record.kind != Kind::CgroupAll;
      if (!result || !tenure || !line.record.success)
        continue;
      auto& [begun, ended] = grants[line.get("grant")];
      ++(begun == 0 ? begun : ended);
    }
    for (const auto& [grant, counts] : grants)
      EXPECT_EQ(counts, std::pair(1, 1)) << "grant " << grant;
    EXPECT_TRUE(book.open_tenures(kUuid).empty());
    EXPECT_TRUE(book.open_intents().empty());
    EXPECT_EQ(book.counts().unmatched, 0U);
    EXPECT_EQ(book.counts().duplicates, 0U);
    EXPECT_EQ(book.counts().unknown, 0U);
  }

  void reset() {
    fate.revive();
    ledger.clear();
    world.present.clear();
  }
};

TEST_F(ReplayTest, AnEmptyLedgerHasNothingOpen) {
  auto replay = registrar::replay("/nonexistent/ledger");
  ASSERT_TRUE(replay);
  EXPECT_TRUE(replay->open.empty());
  EXPECT_EQ(replay->entries, 0U);
}

TEST_F(ReplayTest, ARunningGuestIsFoundWithEveryHold) {
  std::vector<Hold> holds = started(journal());
  auto replay = ledger.replay();
  ASSERT_TRUE(replay);
  const OpenRun& open = replay->open.at(kUuid);
  EXPECT_TRUE(open.started);
  EXPECT_TRUE(open.pending.empty());
  EXPECT_EQ(open.ref.vm, ref().vm);
  EXPECT_EQ(open.ref.run, 1U);
  EXPECT_GT(open.last_ms, 0);
  EXPECT_EQ(replay->last_run.at(kUuid), 1U);
  ASSERT_EQ(open.holds.size(), holds.size());
  for (size_t i = 0; i < holds.size(); ++i) {
    EXPECT_EQ(open.holds[i].grant, holds[i].grant);
    EXPECT_EQ(key_of(open.holds[i].claim), key_of(holds[i].claim));
    EXPECT_EQ(open.holds[i].claim.rdev, holds[i].claim.rdev);
    EXPECT_EQ(open.holds[i].claim.access, holds[i].claim.access);
  }
}

TEST_F(ReplayTest, EveryPointOfDeathCanBeClosed) {
  live();
  size_t steps = fate.steps();
  expect_all_closed();
  ASSERT_GT(steps, 12U);
  for (size_t step = 0; step < steps; ++step) {
    for (When when : {When::Before, When::After}) {
      SCOPED_TRACE(std::to_string(step) + (when == When::Before ? " before" : " after"));
      reset();
      size_t from = fate.steps();
      fate.crash_at(from + step, when);
      try {
        live();
      } catch (const Crash&) {
      }
      EXPECT_TRUE(fate.dead());
      fate.revive();
      auto replay = ledger.replay();
      ASSERT_TRUE(replay);
      expect_world_is_known(*replay);
      if (auto open = replay->open.find(kUuid); open != replay->open.end())
        close(open->second);
      expect_all_closed();
    }
  }
}

TEST_F(ReplayTest, EveryPointOfDeathOfARollBackCanBeClosed) {
  auto failing = [&] { fate.fail(Step::Apply, EPERM, 3); };
  failing();
  live();
  size_t steps = fate.steps();
  for (size_t step = 0; step < steps; ++step) {
    for (When when : {When::Before, When::After}) {
      SCOPED_TRACE(std::to_string(step) + (when == When::Before ? " before" : " after"));
      reset();
      failing();
      fate.crash_at(fate.steps() + step, when);
      try {
        live();
      } catch (const Crash&) {
      }
      fate.revive();
      auto replay = ledger.replay();
      ASSERT_TRUE(replay);
      expect_world_is_known(*replay);
      if (auto open = replay->open.find(kUuid); open != replay->open.end())
        close(open->second);
      expect_all_closed();
    }
  }
}

// The daemon may die again while it closes what its death had left.
TEST_F(ReplayTest, RecoveryItselfCanBeInterruptedAnywhere) {
  for (size_t step = 0; step < 12; ++step) {
    SCOPED_TRACE(step);
    reset();
    auto op = operation(journal());
    ASSERT_TRUE(intend(*op));
    fate.crash_at(fate.steps() + 5, When::After);  // its acts are done, their results unknown
    EXPECT_THROW(apply(*op), Crash);
    fate.revive();
    fate.crash_at(fate.steps() + step, When::After);
    try {
      close(ledger.replay()->open.at(kUuid));
    } catch (const Crash&) {
    }
    fate.revive();
    auto replay = ledger.replay();
    expect_world_is_known(*replay);
    if (auto open = replay->open.find(kUuid); open != replay->open.end())
      close(open->second);
    expect_all_closed();
  }
}

TEST_F(ReplayTest, WhatTheKernelHasIsGrantedAsRecoveredAndTheRestIsVoid) {
  auto op = operation(journal());
  ASSERT_TRUE(intend(*op));
  fate.crash_at(fate.steps() + 2, When::After);  // group, deny all, one rule
  EXPECT_THROW(apply(*op), Crash);
  fate.revive();
  auto open = ledger.replay()->open.at(kUuid);
  EXPECT_FALSE(open.started);
  EXPECT_EQ(open.pending.size(), 8U);
  close(open);
  EXPECT_EQ(count(EntryState::Void), 5U) << "acl, net, disk, mem, the start";
  std::vector<Line> rules = lines_with("path", "/dev/sdb");
  ASSERT_EQ(rules.size(), 3U);
  EXPECT_EQ(rules[1].get("reason"), "allow");
  EXPECT_EQ(rules[1].get("why"), "recovered");
  EXPECT_EQ(rules[1].get("txn"), "t1") << "the operation that asked for it";
  EXPECT_EQ(rules[1].get("req-uid"), "1000");
  EXPECT_EQ(rules[2].get("reason"), "deny");
}

// An error of the kernel is not an answer: what nobody can tell stays open, and is asked again.
TEST_F(ReplayTest, WhatCannotBeToldStaysPending) {
  auto op = operation(journal());
  ASSERT_TRUE(intend(*op));
  fate.crash_at(fate.steps() + 2, When::After);  // group, deny all, one rule
  EXPECT_THROW(apply(*op), Crash);
  fate.revive();
  auto open = ledger.replay()->open.at(kUuid);
  bool readable = false;
  auto present = [&](uint64_t, const model::Claim& claim) -> Result<bool> {
    if (claim.record.kind == Kind::CgroupPath && !readable)
      return fail_sys("read the rules of", "the fence", EIO);
    return claim.record.kind == Kind::CgroupAll || world.has(claim);
  };
  auto& j = journal();
  ASSERT_TRUE(run(pool, registrar::settle(j, open, present, "recovered")));
  ASSERT_FALSE(open.pending.empty());
  for (const Pending& pending : open.pending) {
    EXPECT_EQ(pending.record.kind, Kind::CgroupPath);
    EXPECT_NE(pending.unknown.find("rules"), std::string::npos);
  }
  ASSERT_TRUE(run(pool, j.commit()));
  auto again = ledger.replay()->open.at(kUuid);
  EXPECT_EQ(again.pending.size(), open.pending.size()) << "the next start finds it open";
  readable = true;
  ASSERT_TRUE(run(pool, registrar::settle(j, again, present, "recovered")));
  EXPECT_TRUE(again.pending.empty());
  ASSERT_TRUE(run(pool, j.commit()));
  auto found = lines_with("path", "/dev/sdb");
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[1].get("why"), "recovered");
}

TEST_F(ReplayTest, ALaterRunDoesNotInheritFromTheLast) {
  auto& j = journal();
  ASSERT_TRUE(release(j, started(j)));
  trail::Record stop = control("stop", "destroyed");
  registrar::stamp(stop, ref(), txn("t2"));
  ASSERT_TRUE(run(pool, j.write({std::move(stop)})));
  EXPECT_TRUE(ledger.replay()->open.empty());
  EXPECT_EQ(ledger.replay()->last_run.at(kUuid), 1U);
  auto op = operation(j, 2);
  ASSERT_TRUE(intend(*op));
  ASSERT_TRUE(apply(*op));
  ASSERT_TRUE(conclude(*op));
  EXPECT_EQ(ledger.replay()->open.at(kUuid).ref.run, 2U);
  EXPECT_EQ(ledger.replay()->open.at(kUuid).holds.size(), 6U);
}

// Of memory a guest has one amount: the new one is all that is open, and none is no tenure.
TEST_F(ReplayTest, AnAmountTakesThePlaceOfTheOneBefore) {
  auto& j = journal();
  std::vector<Hold> holds = started(j);
  for (uint64_t kib : {131072U, 0U}) {
    registrar::Operation op(j, ref(), txn("t3"), world, &holds);
    std::vector<model::Claim> claims{memory_claim(kib)};
    ASSERT_TRUE(run(pool, op.intend(std::move(claims), std::nullopt)));
    ASSERT_TRUE(run(pool, op.conclude(std::nullopt)));
    for (Hold& hold : op.take_holds()) registrar::add_hold(holds, std::move(hold));
    auto open = ledger.replay()->open.at(kUuid);
    std::vector<std::string> amounts;
    for (const Hold& hold : open.holds)
      if (hold.claim.record.kind == Kind::Mem)
        amounts.push_back(hold.claim.id);
    EXPECT_EQ(amounts, kib == 0 ? std::vector<std::string>{} : std::vector<std::string>{"131072"});
    EXPECT_EQ(open.holds.size(), holds.size());
  }
}

// An operation without a record of its own: what QEMU refused is failed, what was granted goes
// back.
TEST_F(ReplayTest, ARefusedChangeIsFailedAndNothingIsHeld) {
  auto& j = journal();
  std::vector<Hold> holds = started(j);
  registrar::Operation op(j, ref(), txn("t3"), world, &holds);
  std::vector<model::Claim> claims{path_claim(kGroup, "/dev/sdz"), disk_claim("/dev/sdz")};
  ASSERT_TRUE(run(pool, op.intend(std::move(claims), std::nullopt)));
  ASSERT_TRUE(apply(op));
  op.refuse_unconfirmed();
  ASSERT_TRUE(run(pool, op.roll_back(std::nullopt, Error{Errc::Io, "QEMU said no"})));
  EXPECT_TRUE(op.take_holds().empty());
  auto disks = lines_with("new-disk", "/dev/sdz");
  ASSERT_EQ(disks.size(), 2U) << "intent and result";
  EXPECT_FALSE(disks[1].record.success);
  EXPECT_EQ(disks[1].get("why"), "QEMU said no");
  auto open = ledger.replay()->open.at(kUuid);
  EXPECT_TRUE(open.pending.empty());
  EXPECT_EQ(open.holds.size(), holds.size());
}

// The guest has not let go: the tenure stays, and its record says why.
TEST_F(ReplayTest, WhatIsStillOpenStaysHeld) {
  auto& j = journal();
  std::vector<Hold> holds = started(j);
  world.still_open.insert("disk /srv/a b.qcow2");
  auto left = release(j, std::move(holds));
  ASSERT_TRUE(left);
  ASSERT_EQ(left->size(), 1U);
  EXPECT_EQ((*left)[0].claim.kind, "disk");
  ASSERT_TRUE(run(pool, j.commit()));
  EXPECT_EQ(ledger.replay()->open.at(kUuid).holds.size(), 1U);
}

TEST_F(ReplayTest, AGapOutlivesTheDaemon) {
  auto& j = journal({.on_audit_loss = registrar::OnAuditLoss::Continue});
  audit.fake.set_mode(kernel::FakeAudit::Mode::Off);
  std::vector<Hold> holds = started(j);
  uint64_t count = j.gap()->count();
  auto replay = ledger.replay();
  ASSERT_TRUE(replay->gap);
  EXPECT_EQ(replay->gap->count(), count);
  EXPECT_GT(replay->gap->from_ms, 0);
  audit.fake.set_mode(kernel::FakeAudit::Mode::Confirm);
  auto& next = journal({.on_audit_loss = registrar::OnAuditLoss::Continue});
  next.resume(replay->gap);
  ASSERT_TRUE(release(next, std::move(holds)));
  ASSERT_TRUE(run(pool, next.commit()));
  std::vector<Line> gaps = lines_with("op", "gap");
  ASSERT_EQ(gaps.size(), 1U);
  EXPECT_EQ(gaps[0].get("count"), std::to_string(count));
  EXPECT_FALSE(ledger.replay()->gap);
}

TEST_F(ReplayTest, WhereTheLedgerIsTheTrailNothingIsLost) {
  registrar::JournalOptions alone{.ledger_only = true};
  audit.fake.set_mode(kernel::FakeAudit::Mode::Off);
  started(journal(alone));
  auto& next = journal(alone);
  next.resume(ledger.replay()->gap);
  EXPECT_FALSE(next.gap());
}

TEST_F(ReplayTest, AnEntryThatIsNoneIsNamed) {
  started(journal());
  ledger.entries[3] = "type=VIRT_CONTROL nonsense";
  auto replay = ledger.replay();
  ASSERT_FALSE(replay);
  EXPECT_EQ(replay.error().code(), Errc::Corrupt);
  EXPECT_NE(replay.error().what().find("entry 3"), std::string::npos);
}

TEST_F(ReplayTest, KindsOfALaterVersionArePassedOver) {
  started(journal());
  trail::Entry later{.state = EntryState::Confirmed, .type = 2501, .time_ms = 1, .serial = 1};
  later.body =
      "virt=kvm resrc=quantum reason=start vm=\"w\" uuid=" + std::string(kUuid) + " grant=0";
  ledger.entries.push_back(trail::encode_entry(later));
  EXPECT_EQ(ledger.replay()->open.at(kUuid).holds.size(), 6U);
}

}  // namespace
}  // namespace tenure::test
