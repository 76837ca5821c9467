// SPDX-License-Identifier: Apache-2.0
// The ledger's write pattern is recorded and cut after every operation; of what was not synced, an
// arbitrary part is on the disk, torn and out of order. Opening what is left must give a valid
// ledger with every entry that was reported durable. TENURE_FULL=1 tries many more disks a cut.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "ledger/note.h"
#include "ledger/verify.h"
#include "ledger/writer.h"
#include "tests/unit/ledger/memory_disk.h"

namespace tenure::ledger {
namespace {

Signer owner() {
  return *Signer::from_seed("tenure/test", std::string(32, 's'));
}

std::string entry_text(uint64_t i) {
  return "entry " + std::to_string(i) + std::string(i % 50, '.');
}

std::vector<std::string> entries(uint64_t from, uint64_t count) {
  std::vector<std::string> all;
  for (uint64_t i = from; i < from + count; ++i) all.push_back(entry_text(i));
  return all;
}

VerifyReport verify(MemoryDisk& disk) {
  VerifyOptions options{.vkey = owner().verifier().vkey()};
  options.check_entry = [](uint64_t i, std::string_view entry) -> Result<> {
    if (entry == entry_text(i))
      return {};
    return fail(Errc::Corrupt, "not the entry that was appended");
  };
  return *verify_on(*disk.storage(), options);
}

// How many entries had been reported durable when so many operations had been issued.
struct Mark {
  size_t ops;
  uint64_t durable;
};

// A life with batches, single entries, publishes that fill tiles and ones that do not, and a
// restart.
std::vector<Mark> live(MemoryDisk& disk) {
  std::vector<Mark> marks{{0, 0}};
  auto ledger = open_on(disk.storage(), owner(), true);
  EXPECT_TRUE(ledger);
  auto append = [&](uint64_t count) {
    EXPECT_TRUE((*ledger)->append(entries((*ledger)->size(), count)));
    marks.push_back({disk.ops().size(), (*ledger)->size()});
  };
  for (uint64_t count : {1U, 3U, 100U}) append(count);
  EXPECT_TRUE((*ledger)->publish());
  append(2);
  append(160);
  EXPECT_TRUE((*ledger)->publish());
  append(1);
  ledger->reset();
  ledger = open_on(disk.storage(), owner(), true);
  EXPECT_TRUE(ledger);
  append(5);
  EXPECT_TRUE((*ledger)->publish());
  append(300);
  EXPECT_TRUE((*ledger)->publish());
  append(1);
  return marks;
}

uint64_t durable_at(const std::vector<Mark>& marks, size_t ops) {
  uint64_t durable = 0;
  for (const Mark& mark : marks)
    if (mark.ops <= ops)
      durable = mark.durable;
  return durable;
}

// Opens what a power cut left and checks it; the opening itself is cut and repeated as well.
void check_disk(const Image& image, uint64_t durable, std::mt19937& random) {
  MemoryDisk first(image);
  ASSERT_TRUE(open_on(first.storage(), owner(), true));
  std::vector<Op> ops = first.ops();
  ops.resize(random() % (ops.size() + 1));
  MemoryDisk disk(MemoryDisk::after_power_cut(image, ops, random));
  auto ledger = open_on(disk.storage(), owner(), true);
  ASSERT_TRUE(ledger) << ledger.error().what();
  uint64_t size = (*ledger)->size();
  ASSERT_GE(size, durable);
  VerifyReport report = verify(disk);
  ASSERT_TRUE(report.ok()) << to_text(report);
  ASSERT_EQ(report.size, size);
  ASSERT_TRUE((*ledger)->append(entries(size, 3)));
  ASSERT_TRUE((*ledger)->publish());
  report = verify(disk);
  ASSERT_TRUE(report.ok()) << to_text(report);
  ASSERT_EQ(report.published, size + 3);
}

TEST(LedgerPowerCut, EveryDurableEntrySurvivesEveryCut) {
  MemoryDisk disk;
  std::vector<Mark> marks = live(disk);
  const std::vector<Op>& all = disk.ops();
  int disks = getenv("TENURE_FULL") != nullptr ? 60 : 2;
  std::mt19937 random(7);
  int checked = 0;
  for (size_t cut = 0; cut <= all.size(); ++cut) {
    std::vector<Op> ops(all.begin(), all.begin() + static_cast<ptrdiff_t>(cut));
    for (int i = 0; i < disks; ++i, ++checked) {
      Image image = MemoryDisk::after_power_cut({}, ops, random);
      ASSERT_NO_FATAL_FAILURE(check_disk(image, durable_at(marks, cut), random))
          << "cut after " << cut;
    }
  }
  printf("%zu cuts, %d disks\n", all.size() + 1, checked);
}

// Also before anything mends it, a ledger is valid but for an unfinished append at its end.
TEST(LedgerPowerCut, UnmendedLedgerShowsNothingButATornTail) {
  MemoryDisk disk;
  std::vector<Mark> marks = live(disk);
  const std::vector<Op>& all = disk.ops();
  std::mt19937 random(11);
  int torn = 0;
  constexpr size_t kDisks = 8;  // at each cut
  for (size_t i = 0; i < kDisks * (all.size() + 1); ++i) {
    const size_t cut = i / kDisks;
    std::vector<Op> ops(all.begin(), all.begin() + static_cast<ptrdiff_t>(cut));
    MemoryDisk after(MemoryDisk::after_power_cut({}, ops, random));
    if (!after.image().files.contains("checkpoint"))
      continue;
    VerifyReport report = verify(after);
    ASSERT_TRUE(report.ok() || report.only_torn()) << cut << "\n" << to_text(report);
    torn += report.only_torn() ? 1 : 0;
    ASSERT_GE(report.size, durable_at(marks, cut));
  }
  printf("%zu disks, %d of them end in an unfinished write\n", kDisks * (all.size() + 1), torn);
  EXPECT_GT(torn, 0);
}

// A process that dies without a power cut, and then the power.
TEST(LedgerPowerCut, KillAndThenPowerCut) {
  MemoryDisk recorded;
  std::vector<Mark> marks = live(recorded);
  std::mt19937 random(13);
  for (size_t kill = 0; kill <= recorded.ops().size(); kill += 2) {
    MemoryDisk disk;
    uint64_t seen = 0;
    disk.fault = [&](uint64_t, const Op&) { return seen++ >= kill ? EIO : 0; };
    {
      auto ledger = open_on(disk.storage(), owner(), true);
      for (uint64_t i = 0; ledger && i < 8; ++i) {
        if (!(*ledger)->append(entries((*ledger)->size(), i % 2 == 0 ? 2 : 130)))
          break;
        if (!(*ledger)->publish())
          break;
      }
    }
    disk.fault = nullptr;
    auto ledger = open_on(disk.storage(), owner(), true);
    ASSERT_TRUE(ledger) << kill << " " << ledger.error().what();
    uint64_t durable = (*ledger)->size();
    ASSERT_NO_FATAL_FAILURE(
        check_disk(MemoryDisk::after_power_cut({}, disk.ops(), random), durable, random))
        << kill;
  }
}

}  // namespace
}  // namespace tenure::ledger
