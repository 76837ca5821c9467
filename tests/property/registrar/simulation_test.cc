// SPDX-License-Identifier: Apache-2.0
// Random histories for some seconds, for a minute with TENURE_FULL=1, or the one of TENURE_SEED.
// A seed that failed once is kept below.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <random>

#include "base/text.h"
#include "tests/property/registrar/simulation.h"

namespace tenure::test {
namespace {

using std::chrono::duration;
using std::chrono::steady_clock;

constexpr size_t kRounds = 12;
constexpr uint64_t kKept[] = {
    112,  // a commit that failed found a later one written before it
};

class SimulationTest : public testing::Test {
 protected:
  bool holds(uint64_t seed) {
    Simulation simulation(seed, pool);
    std::string wrong = simulation.run(kRounds);
    steps += simulation.steps();
    crashes += simulation.crashes();
    ++histories;
    if (!wrong.empty())
      ADD_FAILURE() << "TENURE_SEED=" << seed << " breaks a law:\n" << wrong;
    return wrong.empty();
  }
  asio::thread_pool pool{1};
  size_t steps = 0;
  size_t crashes = 0;
  size_t histories = 0;
};

TEST_F(SimulationTest, SeedsThatOnceFailed) {
  for (uint64_t seed : kKept) EXPECT_TRUE(holds(seed));
}

TEST_F(SimulationTest, TheLawsHoldInRandomHistories) {
  if (const char* seed = std::getenv("TENURE_SEED")) {
    EXPECT_TRUE(holds(parse_int<uint64_t>(seed).value_or(0)));
    return;
  }
  bool full = std::getenv("TENURE_FULL") != nullptr;
  uint64_t first = full ? std::random_device{}() : 1;
  auto begin = steady_clock::now();
  auto seconds = [&] { return duration<double>(steady_clock::now() - begin).count(); };
  for (uint64_t seed = first; seconds() < (full ? 60 : 3) && holds(seed); ++seed) {
  }
  std::cout << histories << " histories from seed " << first << ", " << crashes << " deaths, "
            << steps << " steps, "
            << static_cast<uint64_t>(static_cast<double>(steps) * 60 / seconds())
            << " steps a minute\n";
}

// A test that cannot fail proves nothing: without the laws' own proof of an act, they complain.
TEST_F(SimulationTest, ALieIsFound) {
  std::set<std::string> nothing;
  Laws laws([&](const std::string&) { return Laws::Truth{nothing, nothing, nothing}; });
  Fate fate;
  MemoryLedger ledger(fate);
  SteppedAudit audit(fate);
  World world(fate);
  registrar::Journal journal(ledger, audit, pool, system_clock(), {});
  registrar::RunRef ref{.virt = "kvm", .vm = "w", .uuid = kUuid, .run = 1};
  registrar::Operation operation(journal, ref, {.id = "t", .who = {}}, world);
  std::vector<model::Claim> claims{group_claim("/cg")};
  ASSERT_TRUE(run(pool, operation.intend(std::move(claims), control("start", "booted"))));
  ASSERT_TRUE(run(pool, operation.apply()));
  ASSERT_TRUE(run(pool, operation.conclude(control("start", "booted"))));
  laws.read(ledger.entries);
  ASSERT_EQ(laws.violations().size(), 1U);
  laws.expect_closed();
  EXPECT_EQ(laws.violations().size(), 2U) << "never released";
}

}  // namespace
}  // namespace tenure::test
