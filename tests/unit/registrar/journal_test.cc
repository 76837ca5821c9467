// SPDX-License-Identifier: Apache-2.0
// The trail's writer when audit or the disk fails it (DESIGN law 3).
#include <algorithm>
#include <asio/post.hpp>

#include "tests/unit/registrar/bench.h"

namespace tenure::test {
namespace {

using registrar::Hold;
using registrar::JournalOptions;
using registrar::OnAuditLoss;
using trail::EntryState;
using Mode = kernel::FakeAudit::Mode;

asio::awaitable<Result<>> ended(registrar::Journal& journal, kernel::AuditLogTail log) {
  co_await journal.stored_again(std::move(log));
  co_return Result<>{};
}

asio::awaitable<Result<>> looked(registrar::Journal& journal, kernel::AuditLogTail log) {
  co_await journal.stored_in(std::move(log));
  co_return Result<>{};
}

asio::awaitable<Result<>> back(registrar::Journal& journal, int64_t idle_since_ms) {
  co_await journal.audit_is_back(idle_since_ms);
  co_return Result<>{};
}

trail::Record pause_record() {
  return control("pause", "paused").set("virt", "kvm").set("vm", "w").set("uuid", kUuid);
}

// The kernel drops what does not fit into the socket of an auditd that stands still for a moment.
TEST_F(RegistrarTest, ARecordThatOthersHavePassedAndThatDoesNotFollowIsMissed) {
  auto& j = journal();
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(run(pool, j.write({pause_record()})));
  std::vector<uint64_t> serials;
  for (const kernel::AuditReceipt& receipt : audit.fake.emitted())
    serials.push_back(receipt.serial);
  ASSERT_EQ(serials.size(), 4U);
  kernel::AuditLogTail log{.last_serial = serials[2], .serials = {serials[0], serials[2]}};
  ASSERT_TRUE(run(pool, looked(j, log)));
  EXPECT_FALSE(j.gap()) << "it may be late";
  clock.ahead_ms += 3000;
  ASSERT_TRUE(run(pool, looked(j, log)));
  EXPECT_FALSE(j.gap())
      << "nothing newer is stored, before which the kernel would have tried again";
  log = {.last_serial = serials[3], .serials = {serials[0], serials[2], serials[3]}};
  ASSERT_TRUE(run(pool, looked(j, log)));
  EXPECT_FALSE(j.gap()) << "it is over with its record";
  std::vector<Line> gaps = lines_with("op", "gap");
  ASSERT_EQ(gaps.size(), 1U);
  EXPECT_EQ(gaps[0].get("count"), "1");
  EXPECT_TRUE(gaps[0].get("cause").starts_with("not stored: "));
}

TEST_F(RegistrarTest, ARecordThatIsLateInTheLogIsNotMissed) {
  auto& j = journal();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(run(pool, j.write({pause_record()})));
  const std::vector<kernel::AuditReceipt> emitted = audit.fake.emitted();
  kernel::AuditLogTail log{.last_serial = emitted[1].serial, .serials = {emitted[1].serial}};
  ASSERT_TRUE(run(pool, looked(j, log)));
  clock.ahead_ms += 60'000;
  log.serials = {emitted[0].serial, emitted[1].serial, emitted[2].serial};
  log.last_serial = emitted[2].serial;
  ASSERT_TRUE(run(pool, looked(j, log)));
  EXPECT_FALSE(j.first_unstored());
  // A log that was cut meanwhile says nothing of what was before it.
  ASSERT_TRUE(run(pool, j.write({pause_record()})));
  log = {.last_serial = audit.fake.emitted().back().serial + 9, .from_ms = INT64_MAX};
  ASSERT_TRUE(run(pool, looked(j, log)));
  EXPECT_FALSE(j.first_unstored());
  EXPECT_TRUE(lines_with("op", "gap").empty());
}

TEST_F(RegistrarTest, WithoutAuditNothingIsGrantedAndEverythingGoesBack) {
  auto& j = journal();
  auto op = operation(j);
  audit.fake.set_mode(Mode::Off);
  ASSERT_TRUE(intend(*op));
  Result<> applied = apply(*op);
  ASSERT_FALSE(applied);
  EXPECT_EQ(applied.error().code(), Errc::Lost);
  EXPECT_FALSE(world.present.empty());
  Result<> undone = roll_back(*op, applied.error());
  ASSERT_FALSE(undone);
  EXPECT_EQ(undone.error().code(), Errc::Lost) << "its own record is lost as well";
  EXPECT_TRUE(world.present.empty());
  EXPECT_TRUE(ledger.replay()->open.empty());
  EXPECT_EQ(count(EntryState::Confirmed), 0U);
  EXPECT_EQ(count(EntryState::Unsent), 10U) << "5 grants, 4 releases, the start";
}

TEST_F(RegistrarTest, OneRecordLostInTheMiddleIsEnoughToRefuse) {
  auto op = operation(journal());
  ASSERT_TRUE(intend(*op));
  audit.fake.set_mode(Mode::Drop, 2);
  Result<> applied = apply(*op);
  ASSERT_FALSE(applied);
  EXPECT_EQ(applied.error().code(), Errc::Lost);
}

// The kernel confirms, and auditd's log ends before it: a gap like any other, with its policy.
TEST_F(RegistrarTest, WhatAuditdDoesNotStoreIsAGap) {
  auto& j = journal();
  std::vector<Hold> holds = started(j);
  auto mark = j.first_unstored();
  ASSERT_TRUE(mark);
  const uint64_t before = audit.fake.emitted().size();
  j.stored_through(mark->serial + 2);  // three of them
  j.not_stored("auditd-suspended: no room");
  ASSERT_TRUE(j.gap());
  EXPECT_EQ(j.gap()->count(), before - 3);
  auto second = std::make_unique<registrar::Operation>(j, ref(2), txn("t9"), world);
  ASSERT_TRUE(intend(*second));
  Result<> refused = apply(*second);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Errc::Lost);
  EXPECT_NE(refused.error().what().find("not stored"), std::string::npos);
  ASSERT_FALSE(roll_back(*second, refused.error()));
  ASSERT_TRUE(j.gap()) << "confirmed by the kernel does not end it";
  // It stores again; one of the records in between did reach the log.
  const std::vector<kernel::AuditReceipt> emitted = audit.fake.emitted();
  kernel::AuditLogTail log{.last_serial = emitted.back().serial,
                           .serials = {emitted.back().serial}};
  const uint64_t missing = emitted.size() - 3 - 1;
  EXPECT_TRUE(run(pool, ended(j, log)));
  EXPECT_TRUE(j.gap()) << "the others may follow";
  EXPECT_TRUE(run(pool, j.write({pause_record()}))) << "and gains go on: it stores";
  clock.ahead_ms += 3000;
  EXPECT_TRUE(run(pool, ended(j, log)));
  EXPECT_TRUE(j.gap()) << "nothing newer is stored, that would come behind them";
  log.last_serial = audit.fake.emitted().back().serial;
  log.serials.insert(log.last_serial);
  EXPECT_TRUE(run(pool, ended(j, log)));
  EXPECT_FALSE(j.gap());
  std::vector<Line> gaps = lines_with("op", "gap");
  ASSERT_EQ(gaps.size(), 1U);
  EXPECT_EQ(gaps[0].get("count"), std::to_string(missing));
  EXPECT_EQ(gaps[0].get("cause"), "auditd-suspended: no room");
  ASSERT_TRUE(release(j, std::move(holds)));
}

// The kernel had them in its queues when the log was seen to go on: they are in no log yet, and not
// lost.
TEST_F(RegistrarTest, WhatFollowsIntoTheLogIsNotCountedAsLost) {
  auto& j = journal();
  started(j);
  j.not_stored("no-auditd: it ended");
  const std::vector<kernel::AuditReceipt> emitted = audit.fake.emitted();
  const kernel::AuditReceipt& last = emitted.back();
  kernel::AuditLogTail log{
      .resumed_ms = last.time_ms + 1, .restarted = true, .serials = {last.serial}};
  log.last_serial = last.serial;
  EXPECT_TRUE(run(pool, ended(j, log)));
  ASSERT_TRUE(j.gap());
  EXPECT_EQ(j.gap()->count(), emitted.size() - 1) << "so far";
  clock.ahead_ms += 3000;
  for (const kernel::AuditReceipt& receipt : emitted) log.serials.insert(receipt.serial);
  ++log.last_serial;
  EXPECT_TRUE(run(pool, ended(j, log)));
  EXPECT_FALSE(j.gap());
  std::vector<Line> gaps = lines_with("op", "gap");
  ASSERT_EQ(gaps.size(), 1U);
  EXPECT_EQ(gaps[0].get("count"), "0");
}

// What was stored before the oldest record that could be read of the log is not counted as missing.
TEST_F(RegistrarTest, WhatTheLogDoesNotReachBackToIsNotCountedAsLost) {
  auto& j = journal();
  started(j);
  j.not_stored("auditd-stuck: stopped");
  kernel::AuditLogTail log{.last_serial = audit.fake.emitted().back().serial + 1};
  log.last_ms = log.from_ms = audit.fake.emitted().back().time_ms + 1;
  EXPECT_TRUE(run(pool, ended(j, log)));
  EXPECT_FALSE(j.gap());
  ASSERT_EQ(lines_with("op", "gap").size(), 1U);
  EXPECT_EQ(lines_with("op", "gap")[0].get("count"), "0");
}

TEST_F(RegistrarTest, LostAndNotStoredAreBothCounted) {
  auto& j = journal({.on_audit_loss = OnAuditLoss::Continue});
  ASSERT_TRUE(run(pool, j.write({pause_record(), pause_record()})));
  j.not_stored("auditd-suspended: no room");
  audit.fake.set_mode(Mode::Drop);
  ASSERT_TRUE(run(pool, j.write({pause_record()})));
  audit.fake.set_mode(Mode::Confirm);
  ASSERT_TRUE(run(pool, j.write({pause_record()})));
  EXPECT_EQ(j.gap()->count(), 4U);
  const std::vector<kernel::AuditReceipt> emitted = audit.fake.emitted();
  kernel::AuditLogTail log{.last_serial = emitted.back().serial,
                           .resumed_ms = emitted.back().time_ms + 1};
  EXPECT_TRUE(run(pool, ended(j, log)));
  clock.ahead_ms += 3000;
  EXPECT_TRUE(run(pool, ended(j, log)));
  ASSERT_EQ(lines_with("op", "gap").size(), 1U);
  EXPECT_EQ(lines_with("op", "gap")[0].get("count"), "4");
}

// The kernel is not stuck any more, but has not got rid of what it held.
TEST_F(RegistrarTest, AGapIsNotClosedWhileItsRecordsMayComeBack) {
  auto& j = journal({.on_audit_loss = OnAuditLoss::Continue});
  audit.fake.set_mode(Mode::Delay);
  started(j);
  EXPECT_EQ(j.gap()->count(), 8U);
  EXPECT_TRUE(run(pool, back(j, 0)));
  EXPECT_TRUE(run(pool, back(j, j.gap()->last_ms))) << "idle before they were given up";
  ASSERT_TRUE(j.gap());
  audit.fake.set_mode(Mode::Confirm);
  EXPECT_TRUE(run(pool, back(j, 0)));
  EXPECT_FALSE(j.gap());
  ASSERT_EQ(lines_with("op", "gap").size(), 1U);
  EXPECT_EQ(lines_with("op", "gap")[0].get("count"), "0");
  ASSERT_TRUE(j.first_unstored());
  EXPECT_EQ(j.first_unstored()->serial, audit.fake.emitted().front().serial)
      << "auditd is to store the late ones, too";
}

TEST_F(RegistrarTest, AnIdleKernelHasNothingThatMayComeBack) {
  auto& j = journal({.on_audit_loss = OnAuditLoss::Continue});
  audit.fake.set_mode(Mode::Drop);
  started(j);
  audit.fake.set_mode(Mode::Confirm);
  EXPECT_TRUE(run(pool, back(j, 0)));
  ASSERT_TRUE(j.gap());
  EXPECT_TRUE(run(pool, back(j, j.gap()->last_ms + 1)));
  EXPECT_FALSE(j.gap());
  ASSERT_EQ(lines_with("op", "gap").size(), 1U);
  EXPECT_EQ(lines_with("op", "gap")[0].get("count"), "8");
}

TEST_F(RegistrarTest, ContinueGoesOnAndTheGapFollows) {
  auto& j = journal({.on_audit_loss = OnAuditLoss::Continue});
  audit.fake.set_mode(Mode::Drop);
  std::vector<Hold> holds = started(j);
  ASSERT_TRUE(j.gap());
  EXPECT_EQ(j.gap()->count(), 8U) << "7 grants and the start";
  int64_t from = j.gap()->from_ms;
  audit.fake.set_mode(Mode::Confirm);
  ASSERT_TRUE(release(j, std::move(holds)));
  EXPECT_FALSE(j.gap());
  ASSERT_TRUE(run(pool, j.commit()));
  std::vector<Line> gaps = lines_with("op", "gap");
  ASSERT_EQ(gaps.size(), 1U);
  EXPECT_EQ(gaps[0].get("count"), "8");
  EXPECT_EQ(gaps[0].get("from"), std::to_string(from));
  EXPECT_EQ(gaps[0].get("cause"), "not seen in time");
  EXPECT_EQ(gaps[0].state, EntryState::Confirmed);
  EXPECT_EQ(count(EntryState::Unconfirmed), 8U) << "the ledger has them all";
}

TEST_F(RegistrarTest, RecordsThatOnlyCameLateAreNotCountedAsLost) {
  auto& j = journal({.on_audit_loss = OnAuditLoss::Continue});
  audit.fake.set_mode(Mode::Delay);
  std::vector<Hold> holds = started(j);
  EXPECT_EQ(j.gap()->count(), 8U);
  audit.fake.set_mode(Mode::Confirm);
  ASSERT_TRUE(release(j, std::move(holds)));
  ASSERT_TRUE(run(pool, j.commit()));
  std::vector<Line> gaps = lines_with("op", "gap");
  ASSERT_EQ(gaps.size(), 1U);
  EXPECT_EQ(gaps[0].get("count"), "0");
}

TEST_F(RegistrarTest, LossThatGoesOnIsOneGap) {
  auto& j = journal({.on_audit_loss = OnAuditLoss::Continue});
  audit.fake.set_mode(Mode::Off);
  std::vector<Hold> holds = started(j);
  ASSERT_TRUE(release(j, std::move(holds)));
  EXPECT_EQ(j.gap()->count(), 14U);
  audit.fake.set_mode(Mode::Confirm);
  ASSERT_TRUE(run(
      pool,
      j.write({control("pause", "paused").set("virt", "kvm").set("vm", "w").set("uuid", kUuid)})));
  EXPECT_EQ(lines_with("op", "gap").size(), 1U);
}

TEST_F(RegistrarTest, ReleaseNeverWaitsForAudit) {
  auto& j = journal();
  std::vector<Hold> holds = started(j);
  audit.fake.set_mode(Mode::Off);
  auto left = release(j, std::move(holds));
  ASSERT_TRUE(left) << left.error().what();
  EXPECT_TRUE(left->empty());
  EXPECT_TRUE(world.present.empty());
  ASSERT_TRUE(run(pool, j.commit()));
  EXPECT_TRUE(ledger.replay()->open.at(kUuid).holds.empty());
}

TEST_F(RegistrarTest, ReleaseNeverWaitsForTheLedger) {
  auto& j = journal();
  std::vector<Hold> holds = started(j);
  fate.fail(Step::Append, ENOSPC, 0, 1);
  ASSERT_TRUE(release(j, std::move(holds)));
  EXPECT_TRUE(world.present.empty());
  size_t before = ledger.size();
  EXPECT_FALSE(run(pool, j.commit()));
  EXPECT_FALSE(run(pool, j.commit()));
  EXPECT_EQ(j.waiting(), 6U);
  EXPECT_EQ(ledger.size(), before);
  ASSERT_TRUE(run(pool, j.commit())) << "the disk has room again";
  EXPECT_EQ(j.waiting(), 0U);
  EXPECT_TRUE(ledger.replay()->open.at(kUuid).holds.empty());
}

// The releases of the last life stand before the intents of the next, whatever the disk did.
TEST_F(RegistrarTest, WaitingEntriesGoWithTheNextIntents) {
  auto& j = journal();
  std::vector<Hold> holds = started(j);
  fate.fail(Step::Append, ENOSPC);
  ASSERT_TRUE(release(j, std::move(holds)));
  ASSERT_FALSE(run(pool, j.commit()));
  auto op = operation(j, 2);
  ASSERT_TRUE(intend(*op));
  EXPECT_EQ(j.waiting(), 0U);
  auto replayed = ledger.replay();
  EXPECT_TRUE(replayed->open.at(kUuid).holds.empty());
  EXPECT_EQ(replayed->open.at(kUuid).pending.size(), 8U);
  ASSERT_TRUE(apply(*op));
  ASSERT_TRUE(conclude(*op));
  for (const Hold& hold : op->take_holds()) {
    Line intent = decode(hold.grant, ledger.entries[hold.grant]);
    EXPECT_EQ(intent.state, EntryState::Intent);
    EXPECT_EQ(intent.record.kind, hold.claim.record.kind);
    EXPECT_EQ(intent.get("run"), "2");
  }
}

TEST_F(RegistrarTest, WaitingEntriesSurviveIntentsThatFail) {
  auto& j = journal();
  std::vector<Hold> holds = started(j);
  ASSERT_TRUE(release(j, std::move(holds)));
  size_t waiting = j.waiting();
  fate.fail(Step::Append, ENOSPC);
  auto op = operation(j, 2);
  ASSERT_FALSE(intend(*op));
  EXPECT_EQ(j.waiting(), waiting);
}

TEST_F(RegistrarTest, EntriesOfAFailedCommitKeepTheirOrder) {
  auto& j = journal();
  auto record = [](int n) {
    return control("pause", "paused")
        .set("virt", "kvm")
        .set("vm", "w")
        .set("uuid", kUuid)
        .set("txn", std::to_string(n));
  };
  fate.fail(Step::Append, ENOSPC);
  ASSERT_FALSE(run(pool, j.write({record(1), record(2)})));
  ASSERT_TRUE(run(pool, j.write({record(3)})));
  std::vector<Line> all = lines(ledger);
  ASSERT_EQ(all.size(), 3U);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(all[i].get("txn"), std::to_string(i + 1));
}

// Two operations side by side: the entries of the one whose write fails are not overtaken by the
// other's, which may speak of the same tenure.
TEST_F(RegistrarTest, AFailedWriteIsNotOvertaken) {
  auto& j = journal();
  auto write = [&](std::string txn) -> asio::awaitable<void> {
    trail::Record record = control("pause", "paused");
    record.set("virt", "kvm").set("vm", "w").set("uuid", kUuid).set("txn", txn);
    std::vector<trail::Record> records{std::move(record)};
    co_await j.write(std::move(records));
  };
  fate.fail(Step::Append, ENOSPC);
  std::future<void> first, second;
  asio::post(pool, [&] {
    first = asio::co_spawn(pool, write("1"), asio::use_future);
    second = asio::co_spawn(pool, write("2"), asio::use_future);
  });
  pool.wait();
  first.get();
  second.get();
  std::vector<Line> all = lines(ledger);
  ASSERT_EQ(all.size(), 2U) << "the second turn takes both";
  EXPECT_EQ(all[0].get("txn"), "1");
  EXPECT_EQ(all[1].get("txn"), "2");
}

TEST_F(RegistrarTest, ACheckpointThatFailsIsMadeLater) {
  auto& j = journal();
  fate.fail(Step::Publish, ENOSPC);
  started(j);
  EXPECT_EQ(j.waiting(), 0U) << "durable is enough";
  EXPECT_EQ(ledger.size(), 16U);
  EXPECT_EQ(ledger.published(), 0U);
  j.publish_soon();
  drain(pool);
  EXPECT_EQ(ledger.published(), 16U);
}

TEST_F(RegistrarTest, NothingNewNeedsNoCheckpoint) {
  auto& j = journal();
  started(j);
  auto publishes = std::ranges::count(fate.history(), Step::Publish);
  j.publish_soon();
  drain(pool);
  EXPECT_EQ(std::ranges::count(fate.history(), Step::Publish), publishes);
}

TEST_F(RegistrarTest, ARecordThatCannotBeWrittenDoesNotTakeOthersWithIt) {
  auto& j = journal();
  trail::Record good =
      control("pause", "paused").set("virt", "kvm").set("vm", "w").set("uuid", kUuid);
  trail::Record bad = good;
  bad.set("uuid", "not a word");
  Result<> emitted = run(pool, j.emit({bad, good}));
  ASSERT_FALSE(emitted);
  EXPECT_EQ(emitted.error().code(), Errc::Invalid);
  EXPECT_EQ(audit.fake.emitted().size(), 1U);
  EXPECT_EQ(j.waiting(), 1U);
}

TEST_F(RegistrarTest, TheLedgerAloneIsATrailByConfiguration) {
  auto& j = journal({.ledger_only = true});
  audit.fake.set_mode(Mode::Off);
  std::vector<Hold> holds = started(j);
  EXPECT_EQ(holds.size(), 6U);
  EXPECT_FALSE(j.gap());
  EXPECT_EQ(count(EntryState::Unsent), 8U);
}

TEST(OnAuditLossTest, WordsGoBothWays) {
  for (auto policy : {OnAuditLoss::Refuse, OnAuditLoss::Continue, OnAuditLoss::PauseGuests,
                      OnAuditLoss::StopGuests})
    EXPECT_EQ(registrar::parse_on_audit_loss(registrar::to_string(policy)), policy);
  auto wrong = registrar::parse_on_audit_loss("ignore");
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().what().find("pause-guests"), std::string::npos);
}

}  // namespace
}  // namespace tenure::test
