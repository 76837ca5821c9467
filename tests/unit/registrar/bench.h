// SPDX-License-Identifier: Apache-2.0
// One daemon over the host in memory, for the tests of the registrar.
#pragma once

#include <gtest/gtest.h>

#include "tests/unit/registrar/lines.h"
#include "tests/unit/registrar/world.h"

namespace tenure::test {

class RegistrarTest : public testing::Test {
 protected:
  static constexpr char kGroup[] = "/sys/fs/cgroup/tenure-web";

  registrar::Journal& journal(registrar::JournalOptions options = {}) {
    journal_ = std::make_unique<registrar::Journal>(ledger, audit, pool, clock, options);
    return *journal_;
  }
  registrar::RunRef ref(uint64_t number = 1) const {
    return {.virt = "kvm", .vm = "web \"1\" res=success", .uuid = kUuid, .run = number};
  }
  registrar::Txn txn(std::string id = "t1") const {
    return {.id = std::move(id), .who = {.auid = 1000, .ses = 3, .uid = 1000, .pid = 99}};
  }
  std::unique_ptr<registrar::Operation> operation(registrar::Journal& j, uint64_t number = 1) {
    return std::make_unique<registrar::Operation>(j, ref(number), txn(), world);
  }
  // Everything that a start claims, those with an act first.
  static std::vector<model::Claim> start_claims() {
    return {
        group_claim(kGroup),         deny_all_claim(kGroup),         path_claim(kGroup, "/dev/sdb"),
        acl_claim("/srv/a b.qcow2"), net_open_claim("/dev/net/tun"), disk_claim("/srv/a b.qcow2"),
        memory_claim(65536)};
  }
  Result<> intend(registrar::Operation& op) {
    return run(pool, op.intend(start_claims(), control("start", "booted")));
  }
  Result<> apply(registrar::Operation& op) { return run(pool, op.apply()); }
  Result<> conclude(registrar::Operation& op) {
    return run(pool, op.conclude(control("start", "booted")));
  }
  Result<> roll_back(registrar::Operation& op, const Error& why) {
    trail::Record record = control("start", "booted");
    record.success = false;
    return run(pool, op.roll_back(std::move(record), why));
  }
  Result<std::vector<registrar::Hold>> release(registrar::Journal& j,
                                               std::vector<registrar::Hold> holds,
                                               std::string why = "") {
    registrar::Ending ending{
        .reason = "stop", .why = std::move(why), .bounds = {}, .staying = nullptr};
    return run(pool,
               registrar::release(j, ref(), txn("t2"), world, std::move(holds), std::move(ending)));
  }
  // The whole of a start that goes well.
  std::vector<registrar::Hold> started(registrar::Journal& j) {
    auto op = operation(j);
    EXPECT_TRUE(intend(*op));
    EXPECT_TRUE(apply(*op));
    EXPECT_TRUE(conclude(*op));
    return op->take_holds();
  }
  std::vector<Line> lines_with(std::string_view key, std::string_view value) const {
    std::vector<Line> found;
    for (Line& line : lines(ledger))
      if (line.get(key) == value)
        found.push_back(std::move(line));
    return found;
  }
  size_t count(trail::EntryState state) const {
    size_t n = 0;
    for (const Line& line : lines(ledger)) n += line.state == state ? 1 : 0;
    return n;
  }

  // The system's, set ahead by a test.
  struct AheadClock final : Clock {
    int64_t realtime_ns() const override {
      return system_clock().realtime_ns() + ahead_ms * 1'000'000;
    }
    int64_t boottime_ns() const override { return system_clock().boottime_ns(); }
    int64_t ahead_ms = 0;
  };

  AheadClock clock;
  Fate fate;
  MemoryLedger ledger{fate};
  SteppedAudit audit{fate};
  World world{fate};
  asio::thread_pool pool{1};

 private:
  std::unique_ptr<registrar::Journal> journal_;
};

}  // namespace tenure::test
