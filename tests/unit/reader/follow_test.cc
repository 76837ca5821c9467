// SPDX-License-Identifier: Apache-2.0
// Following a log through appends, half lines, rotation and truncation; following a ledger; the
// cursor.
#include "reader/follow.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "ledger/ledger.h"
#include "reader/cursor.h"
#include "tests/unit/reader/scratch.h"

namespace tenure::reader {
namespace {

std::string line(int serial) {
  return disk(serial, serial, "attach", "?", "/a");
}

SourceSet open_logs(const std::vector<std::string>& paths) {
  auto set = open_sources({.logs = paths});
  EXPECT_TRUE(set) << set.error().what();
  return std::move(*set);
}

// Serials of what comes within two seconds; stops at `count` of them.
std::vector<uint64_t> next(Follower& follower, size_t count) {
  std::vector<uint64_t> out;
  constexpr int kTimeoutMs = 2000;
  while (out.size() < count) {
    const auto more = follower.poll(kTimeoutMs, [&](const Batch& batch) {
      for (const Event& event : batch.events)
        out.push_back(event.view.state ? event.offset : event.view.serial);
    });
    EXPECT_TRUE(more);
    if (!more || !*more)
      break;
  }
  return out;
}

using Serials = std::vector<uint64_t>;

TEST(Follow, NewLinesAndHalfLines) {
  const Scratch scratch;
  const std::string path = scratch.write("audit.log", line(1) + line(2).substr(0, 40));
  const SourceSet set = open_logs({path});
  auto follower = Follower::start(set);
  ASSERT_TRUE(follower);
  EXPECT_EQ(*follower->poll(0, [](const Batch&) { FAIL(); }), false);
  scratch.append("audit.log", line(2).substr(40));
  EXPECT_EQ(next(*follower, 1), Serials{2});
  scratch.append("audit.log", line(3) + line(4));
  EXPECT_EQ(next(*follower, 2), (Serials{3, 4}));
}

TEST(Follow, WhatCameDuringTheFirstReadingIsNotLost) {
  const Scratch scratch;
  const std::string path = scratch.write("audit.log", line(1));
  const SourceSet set = open_logs({path});
  scratch.append("audit.log", line(2));
  auto follower = Follower::start(set);
  ASSERT_TRUE(follower);
  EXPECT_EQ(next(*follower, 1), Serials{2});
}

TEST(Follow, Rotation) {
  const Scratch scratch;
  const std::string path = scratch.write("audit.log", line(1));
  const SourceSet set = open_logs({path});
  auto follower = Follower::start(set);
  ASSERT_TRUE(follower);
  scratch.append("audit.log", line(2));
  std::filesystem::rename(path, scratch.path("audit.log.1"));
  scratch.append("audit.log.1", line(3));
  scratch.write("audit.log", line(4));
  EXPECT_EQ(next(*follower, 3), (Serials{2, 3, 4}));
  scratch.append("audit.log", line(5));
  EXPECT_EQ(next(*follower, 1), Serials{5});
}

TEST(Follow, TruncationInPlace) {
  const Scratch scratch;
  const std::string path = scratch.write("audit.log", line(1) + line(2));
  const SourceSet set = open_logs({path});
  auto follower = Follower::start(set);
  ASSERT_TRUE(follower);
  std::filesystem::resize_file(path, 0);
  (void)follower->poll(0, [](const Batch&) {});
  scratch.append("audit.log", line(3));
  EXPECT_EQ(next(*follower, 1), Serials{3});
}

std::string entry(int serial) {
  trail::Entry entry;
  entry.state = trail::EntryState::Confirmed;
  entry.type = trail::kVirtControl;
  entry.time_ms = serial * 1000;
  entry.serial = static_cast<uint64_t>(serial);
  entry.body = "virt=kvm op=start reason=booted " + vm() + " vm-pid=1 res=success";
  return trail::encode_entry(entry);
}

std::unique_ptr<ledger::Ledger> make_ledger(const Scratch& scratch) {
  auto made = ledger::Ledger::open(
      {.dir = scratch.path("ledger"), .key_path = scratch.path("key"), .origin = "tenure/test"});
  EXPECT_TRUE(made) << made.error().what();
  return std::move(*made);
}

TEST(Follow, ALedger) {
  const Scratch scratch;
  const auto ledger = make_ledger(scratch);
  ASSERT_TRUE(ledger->append({entry(1), entry(2)}));
  const SourceSet set = open_logs({scratch.path("ledger")});
  ASSERT_EQ(set.sources[0].kind, SourceKind::Ledger);
  auto follower = Follower::start(set);
  ASSERT_TRUE(follower);
  follower->ledger_read_up_to(0, 1);
  EXPECT_EQ(next(*follower, 1), Serials{1});
  ASSERT_TRUE(ledger->append({entry(3)}));
  EXPECT_EQ(next(*follower, 1), Serials{2});
}

TEST(Follow, NothingToFollowIsAnError) {
  const Scratch scratch;
  const SourceSet set = open_logs({scratch.write("a.log.1", line(1))});
  EXPECT_EQ(Follower::start(set).error().code(), Errc::Unsupported);
}

// What stands in the ledger and in audit.log is one event.
TEST(Reading, RecordsInLedgerAndLogAreCountedOnce) {
  const Scratch scratch;
  const auto ledger = make_ledger(scratch);
  ASSERT_TRUE(ledger->append({entry(1), entry(2)}));
  std::string log;
  for (const int serial : {1, 2, 3}) {
    const auto decoded = trail::decode_entry(entry(serial));
    log += "type=VIRT_CONTROL " + id(serial, serial) + "pid=1 uid=0 auid=0 ses=1 msg='" +
           decoded->body + "'\n";
  }
  SourceRequest request;
  request.logs = {scratch.write("audit.log", log), scratch.path("ledger")};
  auto set = open_sources(request);
  ASSERT_TRUE(set);
  const auto reading = read_everything(std::move(*set), {});
  ASSERT_TRUE(reading);
  EXPECT_EQ(reading->events, 3U);
}

Serials read_with(Cursor& cursor, const std::vector<std::string>& paths) {
  SourceSet set = open_logs(paths);
  cursor.attach(set);
  Serials out;
  EXPECT_TRUE(read_sources(set, {}, [&](Batch batch) {
    for (const Event& event : batch.events) {
      if (!cursor.passed(event))
        out.push_back(event.view.serial);
    }
    return true;
  }));
  return out;
}

TEST(CursorFile, GoesOnWhereItEndedAlsoAfterRotationAndCompression) {
  const Scratch scratch;
  const std::string file = scratch.path("cursor");
  const std::string path = scratch.write("audit.log", line(1) + line(2));
  const auto read = [&] {
    auto cursor = Cursor::load(file);
    EXPECT_TRUE(cursor);
    const Serials out = read_with(*cursor, {scratch.path("audit.log"), scratch.path("audit.log.1"),
                                            scratch.path("audit.log.2.gz")});
    EXPECT_TRUE(cursor->store(file));
    return out;
  };
  scratch.write("audit.log.1", "");
  scratch.write("audit.log.2.gz", gzip(""));
  EXPECT_EQ(read(), (Serials{1, 2}));
  EXPECT_EQ(read(), Serials{});
  scratch.append("audit.log", line(3));
  EXPECT_EQ(read(), Serials{3});
  scratch.append("audit.log", line(4));
  std::filesystem::rename(path, scratch.path("audit.log.1"));
  scratch.write("audit.log", line(5));
  EXPECT_EQ(read(), (Serials{4, 5}));
  scratch.write("audit.log.2.gz", gzip(line(1) + line(2) + line(3) + line(4)));
  scratch.write("audit.log.1", line(5) + line(6));
  std::filesystem::remove(path);
  scratch.write("audit.log", line(7));
  std::filesystem::copy_file(scratch.path("audit.log.1"), scratch.path("other"));
  EXPECT_EQ(read(), (Serials{6, 7}));
}

TEST(CursorFile, GarbageIsRefused) {
  const Scratch scratch;
  for (const char* text : {"", "x", "tenure-cursor 1\nlog 1 2\n", "tenure-cursor 1\nledger x y\n",
                           "tenure-cursor 1\nlog a b c d\n"}) {
    EXPECT_EQ(Cursor::load(scratch.write("c", text)).error().code(), Errc::Corrupt) << text;
  }
}

}  // namespace
}  // namespace tenure::reader
