// SPDX-License-Identifier: Apache-2.0
#include "ledger/writer.h"

#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "ledger/archive.h"
#include "ledger/pending.h"
#include "ledger/tile.h"
#include "tests/unit/ledger/memory_disk.h"
#include "tests/unit/ledger/test_signer.h"

namespace tenure::ledger {
namespace {

std::unique_ptr<Ledger> open(MemoryDisk& disk) {
  auto ledger = open_on(disk.storage(), test_signer(), true);
  EXPECT_TRUE(ledger) << ledger.error().what();
  return ledger ? std::move(*ledger) : nullptr;
}

std::vector<std::string> entries(uint64_t from, uint64_t count) {
  std::vector<std::string> all;
  for (uint64_t i = from; i < from + count; ++i) all.push_back("entry " + std::to_string(i));
  return all;
}

Checkpoint checkpoint_on(const MemoryDisk& disk) {
  auto opened = open_checkpoint(test_signer().verifier(), disk.image().files.at("checkpoint"));
  EXPECT_TRUE(opened) << opened.error().what();
  return *opened;
}

Hash root_of_entries(uint64_t count) {
  Frontier tree;
  for (const std::string& entry : entries(0, count)) tree.add(leaf_hash(entry));
  return tree.root();
}

TEST(LedgerWriter, NewLedgerHasTheEmptyCheckpoint) {
  MemoryDisk disk;
  auto ledger = open(disk);
  EXPECT_EQ(ledger->size(), 0U);
  EXPECT_EQ(checkpoint_on(disk).size, 0U);
  EXPECT_EQ(checkpoint_on(disk).root, empty_root());
}

TEST(LedgerWriter, IndicesAreConsecutive) {
  MemoryDisk disk;
  auto ledger = open(disk);
  EXPECT_EQ(*ledger->append(entries(0, 3)), 0U);
  EXPECT_EQ(*ledger->append(entries(3, 1)), 3U);
  EXPECT_EQ(*ledger->append({}), 4U);
  EXPECT_EQ(ledger->size(), 4U);
  EXPECT_EQ(ledger->published(), 0U);
}

TEST(LedgerWriter, AppendCostsOneSync) {
  MemoryDisk disk;
  auto ledger = open(disk);
  uint64_t before = disk.count(OpKind::SyncFile);
  uint64_t dirs = disk.count(OpKind::SyncDir);
  ASSERT_TRUE(ledger->append(entries(0, 20)));
  EXPECT_EQ(disk.count(OpKind::SyncFile), before + 1);
  EXPECT_EQ(disk.count(OpKind::SyncDir), dirs);
}

TEST(LedgerWriter, PublishesTilesOfTheStandard) {
  MemoryDisk disk;
  auto ledger = open(disk);
  ASSERT_TRUE(ledger->append(entries(0, 600)));
  ASSERT_TRUE(ledger->publish());
  EXPECT_EQ(ledger->published(), 600U);
  EXPECT_EQ(checkpoint_on(disk).size, 600U);
  EXPECT_EQ(checkpoint_on(disk).root, root_of_entries(600));
  Image image = disk.image();
  EXPECT_EQ(image.files.at("tile/0/000").size(), 8192U);
  EXPECT_EQ(image.files.at("tile/0/001").size(), 8192U);
  EXPECT_EQ(image.files.at("tile/0/002.p/88").size(), 88U * 32);
  EXPECT_EQ(image.files.at("tile/1/000.p/2").size(), 64U);
  EXPECT_EQ(split_bundle(image.files.at("tile/entries/002.p/88"), 88)->at(87), "entry 599");
  EXPECT_EQ(image.files.at("pending.0"), kPendingHeader);
  EXPECT_EQ(image.files.at("pending.1"), kPendingHeader);
  EXPECT_EQ(image.files.at("checkpoints").size(), archive_offset("tenure/test", 2));
}

TEST(LedgerWriter, PublishingNothingNewTouchesNothing) {
  MemoryDisk disk;
  auto ledger = open(disk);
  ASSERT_TRUE(ledger->append(entries(0, 5)));
  ASSERT_TRUE(ledger->publish());
  size_t before = disk.ops().size();
  ASSERT_TRUE(ledger->publish());
  EXPECT_EQ(disk.ops().size(), before);
}

TEST(LedgerWriter, PartialTilesGoWhenTheFullOneIsThere) {
  MemoryDisk disk;
  auto ledger = open(disk);
  for (uint64_t at = 0; at < 255; at += 5) {
    ASSERT_TRUE(ledger->append(entries(at, 5)));
    ASSERT_TRUE(ledger->publish());
  }
  EXPECT_TRUE(disk.image().files.contains("tile/0/000.p/5"));
  ASSERT_TRUE(ledger->append(entries(255, 5)));
  ASSERT_TRUE(ledger->publish());
  EXPECT_FALSE(disk.image().files.contains("tile/0/000.p/5"));
  EXPECT_FALSE(disk.image().dirs.contains("tile/entries/000.p"));
  EXPECT_TRUE(disk.image().files.contains("tile/0/000"));
  EXPECT_TRUE(disk.image().files.contains("tile/0/001.p/4"));
}

TEST(LedgerWriter, ReopensWhereItStopped) {
  MemoryDisk disk;
  for (uint64_t round = 0; round < 12; ++round) {
    auto ledger = open(disk);
    ASSERT_EQ(ledger->size(), round * 70);
    ASSERT_EQ(*ledger->append(entries(round * 70, 60)), round * 70);
    if (round % 3 == 1) {
      ASSERT_TRUE(ledger->publish());
    }
    ASSERT_TRUE(ledger->append(entries(round * 70 + 60, 10)));
    ASSERT_EQ(ledger->torn_bytes(), 0U);
  }
  auto ledger = open(disk);
  ASSERT_TRUE(ledger->publish());
  EXPECT_EQ(checkpoint_on(disk).root, root_of_entries(840));
}

TEST(LedgerWriter, RefusesWhatDoesNotFit) {
  MemoryDisk disk;
  auto ledger = open(disk);
  auto huge = ledger->append({std::string(kMaxEntry + 1, 'x')});
  ASSERT_FALSE(huge);
  EXPECT_EQ(huge.error().code(), Errc::Invalid);
  EXPECT_TRUE(ledger->append({std::string(kMaxEntry, 'x'), ""}));
  auto too_many = ledger->append(std::vector<std::string>(300, std::string(kMaxEntry, 'x')));
  ASSERT_FALSE(too_many);
  EXPECT_EQ(too_many.error().code(), Errc::Invalid);
  EXPECT_EQ(ledger->size(), 2U);
}

TEST(LedgerWriter, FullDiskLeavesItAsItWas) {
  MemoryDisk disk;
  auto ledger = open(disk);
  ASSERT_TRUE(ledger->append(entries(0, 3)));
  Image before = disk.image();
  disk.fault = [](uint64_t, const Op& op) { return op.kind == OpKind::Write ? ENOSPC : 0; };
  auto refused = ledger->append(entries(3, 3));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().sys_errno(), ENOSPC);
  EXPECT_EQ(disk.image().files, before.files);
  EXPECT_FALSE(ledger->publish());
  EXPECT_EQ(ledger->published(), 0U);
  disk.fault = nullptr;
  EXPECT_EQ(*ledger->append(entries(3, 3)), 3U);
  ASSERT_TRUE(ledger->publish());
  EXPECT_EQ(checkpoint_on(disk).root, root_of_entries(6));
}

TEST(LedgerWriter, AfterAFailedSyncTheEntryIsWrittenAnew) {
  MemoryDisk disk;
  auto ledger = open(disk);
  disk.fault = [](uint64_t, const Op& op) { return op.kind == OpKind::SyncFile ? EIO : 0; };
  ASSERT_FALSE(ledger->append(entries(0, 1)));
  disk.fault = nullptr;
  size_t from = disk.ops().size();
  ASSERT_TRUE(ledger->append(entries(0, 1)));
  std::vector<OpKind> kinds;
  for (size_t i = from; i < disk.ops().size(); ++i) kinds.push_back(disk.ops()[i].kind);
  EXPECT_EQ(kinds,
            (std::vector{OpKind::Truncate, OpKind::SyncFile, OpKind::Write, OpKind::SyncFile}));
}

// Every operation fails once, the call is repeated, and nothing is lost or doubled.
TEST(LedgerWriter, EveryOperationMayFailOnce) {
  for (uint64_t fail_at = 0;; ++fail_at) {
    MemoryDisk disk;
    auto ledger = open(disk);
    uint64_t seen = 0;
    bool failed = false;
    disk.fault = [&](uint64_t, const Op&) {
      if (seen++ != fail_at)
        return 0;
      failed = true;
      return EIO;
    };
    for (uint64_t at = 0; at < 540; at += 90) {
      for (int tries = 0; !ledger->append(entries(at, 90)); ++tries) ASSERT_LT(tries, 2);
      for (int tries = 0; !ledger->publish(); ++tries) ASSERT_LT(tries, 2);
    }
    EXPECT_EQ(ledger->published(), 540U);
    EXPECT_EQ(checkpoint_on(disk).root, root_of_entries(540));
    ledger.reset();
    disk.fault = nullptr;
    EXPECT_EQ(open(disk)->size(), 540U);
    if (!failed)
      break;
    ASSERT_LT(fail_at, 1000U);
  }
}

TEST(LedgerWriter, DamageIsRefusedAtOpen) {
  MemoryDisk disk;
  auto ledger = open(disk);
  ASSERT_TRUE(ledger->append(entries(0, 300)));
  ASSERT_TRUE(ledger->publish());
  ASSERT_TRUE(ledger->append(entries(300, 2)));
  ASSERT_TRUE(ledger->append(entries(302, 2)));
  ledger.reset();
  Image good = disk.image();
  auto refused = [&](const std::function<void(Image&)>& damage) {
    Image image = good;
    damage(image);
    MemoryDisk broken(image);
    auto opened = open_on(broken.storage(), test_signer(), true);
    return !opened && opened.error().code() == Errc::Corrupt;
  };
  std::string pending =
      good.files["pending.0"].size() > kPendingHeader.size() ? "pending.0" : "pending.1";
  EXPECT_TRUE(refused([](Image& i) { i.files.erase("checkpoint"); }));
  EXPECT_TRUE(refused([](Image& i) { i.files["checkpoint"][20] ^= 1; }));
  EXPECT_TRUE(refused([](Image& i) { i.files["tile/0/001.p/44"][7] ^= 1; }));
  EXPECT_TRUE(refused([](Image& i) { i.files["tile/1/000.p/1"][7] ^= 1; }));
  EXPECT_TRUE(refused([](Image& i) { i.files["tile/entries/001.p/44"][7] ^= 1; }));
  EXPECT_TRUE(refused([](Image& i) { i.files["checkpoints"].pop_back(); }));
  EXPECT_TRUE(refused([&](Image& i) { i.files[pending][3] ^= 1; }));
  // The first of two frames: not torn, as the second was written after it was durable.
  auto opened = [&] {
    Image image = good;
    image.files[pending][kPendingHeader.size() + 25] ^= 1;
    MemoryDisk broken(image);
    return open_on(broken.storage(), test_signer(), true);
  }();
  EXPECT_FALSE(opened && (*opened)->torn_bytes() == 0);
}

TEST(LedgerWriter, ALedgerThatWasTakenAwayIsNotBegunAnew) {
  MemoryDisk disk;
  auto opened = open_on(disk.storage(), test_signer(), false);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code(), Errc::Corrupt);
}

TEST(LedgerWriter, AnotherKeyIsRefused) {
  MemoryDisk disk;
  open(disk);
  auto opened =
      open_on(disk.storage(), *Signer::from_seed("tenure/test", std::string(32, 't')), true);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code(), Errc::Corrupt);
}

TEST(LedgerWriter, ThreadsShareSyncs) {
  MemoryDisk disk;
  auto ledger = open(disk);
  std::vector<std::thread> threads;
  std::vector<std::vector<uint64_t>> given(8);
  for (size_t t = 0; t < given.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        auto first = ledger->append({std::string(1, static_cast<char>('a' + t)), "second"});
        ASSERT_TRUE(first);
        given[t].push_back(*first);
        if (t == 0 && i % 10 == 0) {
          ASSERT_TRUE(ledger->publish());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<uint64_t> all;
  for (const auto& indices : given) {
    EXPECT_TRUE(std::is_sorted(indices.begin(), indices.end()));
    all.insert(indices.begin(), indices.end());
  }
  EXPECT_EQ(all.size(), 400U);
  EXPECT_EQ(ledger->size(), 800U);
  ASSERT_TRUE(ledger->publish());
  ledger.reset();
  EXPECT_EQ(open(disk)->published(), 800U);
}

TEST(LedgerArchive, PlacesAreThoseOfRealNotes) {
  for (const char* origin : {"a", "tenure/0123456789abcdef0123456789abcdef"}) {
    Signer signer = *Signer::from_seed(origin, std::string(32, 's'));
    uint64_t offset = 0;
    for (uint64_t i = 0; i < 500; ++i) {
      ASSERT_EQ(archive_offset(origin, i), offset) << i;
      uint64_t size = (i + 1) * kArchiveStep;
      ASSERT_EQ(sign_checkpoint(signer, {origin, size, {}})->size(),
                checkpoint_note_size(origin, size));
      offset += checkpoint_note_size(origin, size);
    }
  }
}

TEST(LedgerTile, PathsHaveOneSpelling) {
  EXPECT_EQ(tile_path({0, 1234067}), "tile/0/x001/x234/067");
  EXPECT_EQ(tile_path({kEntriesLevel, 5, 17}), "tile/entries/005.p/17");
  for (const TileRef& ref : {TileRef{0, 0}, TileRef{7, 999}, TileRef{1, 1000, 255},
                             TileRef{kEntriesLevel, 1234567890123ULL, 1}})
    EXPECT_EQ(parse_tile_path(tile_path(ref)), ref) << tile_path(ref);
  for (const char* bad :
       {"tile/0/0", "tile/00/000", "tile/0/x000/001", "tile/0/1000", "tile/0/000.p/256",
        "tile/0/000.p/0", "tile/0/000.p/01", "tile/8/000", "tile/-1/000", "tile/0/000/", "tile/0/",
        "tile", "tile/0/001/002", "tile/entries/000.tmp", "tile/0/x99999999999999999999/000"})
    EXPECT_FALSE(parse_tile_path(bad)) << bad;
}

}  // namespace
}  // namespace tenure::ledger
