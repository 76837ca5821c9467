// SPDX-License-Identifier: Apache-2.0
#include "ledger/verify.h"

#include <gtest/gtest.h>

#include "ledger/note.h"
#include "ledger/pending.h"
#include "ledger/proof.h"
#include "ledger/tile.h"
#include "ledger/writer.h"
#include "tests/unit/ledger/memory_disk.h"
#include "tests/unit/ledger/test_signer.h"

namespace tenure::ledger {
namespace {

std::string entry_text(uint64_t i) {
  return "entry " + std::to_string(i);
}

void append(Ledger& ledger, uint64_t count) {
  std::vector<std::string> entries;
  for (uint64_t i = 0; i < count; ++i) entries.push_back(entry_text(ledger.size() + i));
  ASSERT_TRUE(ledger.append(entries));
}

// A storage in which one file goes between its folder's listing and its opening.
class Vanishing final : public Storage {
 public:
  Vanishing(std::unique_ptr<Storage> real, std::string path)
      : real_(std::move(real)), path_(std::move(path)) {}
  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) const override {
    if (path == path_)
      return fail_sys("open", path, ENOENT);
    return real_->open(path, mode);
  }
  Result<> rename(const std::string& from, const std::string& to) override {
    return real_->rename(from, to);
  }
  Result<> remove(const std::string& path) override { return real_->remove(path); }
  Result<> make_dir(const std::string& path) override { return real_->make_dir(path); }
  Result<> sync_dir(const std::string& path) override { return real_->sync_dir(path); }
  Result<std::vector<DirEntry>> list(const std::string& path) const override {
    if (path == path_)
      return fail_sys("list", path, ENOENT);
    return real_->list(path);
  }

 private:
  std::unique_ptr<Storage> real_;
  std::string path_;
};

// 600 entries published in three steps, 7 pending in two frames.
class LedgerVerify : public testing::Test {
 protected:
  void SetUp() override {
    MemoryDisk disk;
    auto ledger = open_on(disk.storage(), test_signer(), true);
    ASSERT_TRUE(ledger);
    for (uint64_t count : {100U, 400U, 100U}) {
      append(**ledger, count);
      ASSERT_TRUE((*ledger)->publish());
      old_checkpoints_.push_back(disk.image().files["checkpoint"]);
    }
    append(**ledger, 4);
    append(**ledger, 3);
    image_ = disk.image();
    options_.vkey = test_signer().verifier().vkey();
  }

  VerifyReport verify() const {
    MemoryDisk disk(image_);
    auto report = verify_on(*disk.storage(), options_);
    EXPECT_TRUE(report);
    return *report;
  }
  std::string& file(const std::string& path) {
    EXPECT_TRUE(image_.files.contains(path)) << path;
    return image_.files[path];
  }
  std::string& pending() {
    return image_.files[image_.files["pending.0"].size() > kPendingHeader.size() ? "pending.0"
                                                                                 : "pending.1"];
  }
  // Publishes the rest, so that no pending entries are left.
  void publish_all() {
    MemoryDisk disk(image_);
    auto ledger = open_on(disk.storage(), test_signer(), false);
    ASSERT_TRUE(ledger);
    ASSERT_TRUE((*ledger)->publish());
    image_ = disk.image();
  }

  Image image_;
  std::vector<std::string> old_checkpoints_;
  VerifyOptions options_;
};

TEST_F(LedgerVerify, AWholeLedgerIsAccepted) {
  VerifyReport report = verify();
  EXPECT_TRUE(report.ok()) << to_text(report);
  EXPECT_EQ(report.published, 600U);
  EXPECT_EQ(report.size, 607U);
  EXPECT_EQ(report.checkpoints, 3U);  // of 256, 512 and 600 entries
  EXPECT_TRUE(report.notes.empty());
  EXPECT_NE(to_text(report).find("the ledger is whole"), std::string::npos);
}

// A writer removes partial tiles of a full one at any time; the checkpoint does not tell.
TEST_F(LedgerVerify, APartialTileMayGoOnceTheTileIsFull) {
  const std::string kept = "tile/entries/000.p/100", needed = "tile/entries/002.p/88";
  image_.files[kept] = "is read by nobody";
  image_.dirs["tile/entries/000.p"] = true;
  EXPECT_FALSE(verify().ok()) << "as long as it is there it must be right";
  const std::string folder = "tile/entries/000.p";
  for (const auto& [path, ok] :
       {std::pair(kept, true), std::pair(folder, true), std::pair(needed, false)}) {
    MemoryDisk disk(image_);
    auto report = verify_on(Vanishing(disk.storage(), path), options_);
    ASSERT_TRUE(report);
    EXPECT_EQ(report->ok(), ok) << to_text(*report);
    if (path == folder)
      image_.files.erase(kept);
  }
}

// A power cut leaves the beginning of a frame at the end of the newest pending file.
TEST_F(LedgerVerify, AnUnfinishedWriteAtTheEndIsNoTampering) {
  std::string& pending = this->pending();
  const std::string whole = pending;
  pending += std::string("\0\0\1\0half a frame", 16);
  VerifyReport report = verify();
  EXPECT_FALSE(report.ok());
  EXPECT_TRUE(report.only_torn()) << to_text(report);
  EXPECT_EQ(report.torn_bytes, 16U);
  EXPECT_EQ(report.size, 607U);
  EXPECT_NE(to_text(report).find("whole but for an unfinished write at its end"),
            std::string::npos);
  // The last frame cut in two is the same to a verifier of this copy alone.
  pending = whole.substr(0, whole.size() - 1);
  EXPECT_TRUE(verify().only_torn());
}

TEST_F(LedgerVerify, DamageBeforeAWholeFrameIsTampering) {
  std::string& pending = this->pending();
  const std::string frame = pending.substr(kPendingHeader.size());
  pending += "damage" + frame;
  VerifyReport report = verify();
  EXPECT_FALSE(report.only_torn()) << to_text(report);
  EXPECT_GT(report.problem_count, 0U);
}

TEST_F(LedgerVerify, TheRootIsThatOfAllEntries) {
  VerifyReport before = verify();
  publish_all();
  EXPECT_EQ(verify().root, before.root);
}

TEST_F(LedgerVerify, AChangedEntryIsNamed) {
  std::string& bundle = file("tile/entries/001");
  size_t at = bundle.find("entry 300");
  ASSERT_NE(at, bundle.npos);
  bundle[at] = 'E';
  VerifyReport report = verify();
  EXPECT_FALSE(report.ok());
  EXPECT_EQ(report.first_bad_entry, 300U);
  EXPECT_NE(to_text(report).find("first bad entry: 300"), std::string::npos) << to_text(report);
}

TEST_F(LedgerVerify, AChangedEntryOfTheLastBundleIsNamed) {
  std::string& bundle = file("tile/entries/002.p/88");
  bundle[bundle.find("entry 590")] = 'E';
  EXPECT_EQ(verify().first_bad_entry, 590U);
}

TEST_F(LedgerVerify, ChangedEntryWithForgedTilesIsBoundedByTheKeptCheckpoints) {
  std::string& bundle = file("tile/entries/001");
  bundle[bundle.find("entry 300")] = 'E';
  std::vector<Hash> hashes;
  auto entries = split_bundle(bundle, 256);
  ASSERT_TRUE(entries);
  for (std::string_view entry : *entries) hashes.push_back(leaf_hash(entry));
  std::string& leaves = file("tile/0/001");
  leaves.clear();
  for (const Hash& hash : hashes) leaves += bytes_of(hash);
  file("tile/1/000.p/2").replace(32, 32, bytes_of(root_of(hashes.data(), hashes.size())));
  VerifyReport report = verify();
  EXPECT_FALSE(report.ok());
  EXPECT_EQ(report.first_bad_entry, 256U) << to_text(report);
}

TEST_F(LedgerVerify, AChangedPendingEntryIsNamedEvenWithARightChecksum) {
  MemoryDisk disk(image_);
  auto file = disk.storage()->open(
      &pending() == &image_.files["pending.0"] ? "pending.0" : "pending.1", OpenMode::Read);
  FrameReader reader = *FrameReader::begin(**file);
  auto frame = *reader.next();
  ASSERT_EQ(frame->first, 600U);
  std::string payload;
  for (std::string_view entry : frame->entries) add_to_bundle(payload, entry);
  payload[4] ^= 1;
  std::string forged = encode_frame(600, 4, payload, frame->signature);
  pending().replace(kPendingHeader.size(), forged.size(), forged);
  VerifyReport report = verify();
  EXPECT_FALSE(report.ok());
  EXPECT_EQ(report.first_bad_entry, 600U) << to_text(report);
  MemoryDisk broken(image_);
  EXPECT_FALSE(open_on(broken.storage(), test_signer(), false));
}

TEST_F(LedgerVerify, ReplayedCheckpointIsFound) {
  publish_all();
  for (const std::string& old : old_checkpoints_) {
    file("checkpoint") = old;
    EXPECT_FALSE(verify().ok());
  }
}

TEST_F(LedgerVerify, RolledBackCopyIsFoundByAKnownCheckpoint) {
  std::string known = image_.files["checkpoint"];
  MemoryDisk disk;
  auto ledger = open_on(disk.storage(), test_signer(), true);
  append(**ledger, 100);
  ASSERT_TRUE((*ledger)->publish());
  image_ = disk.image();
  EXPECT_TRUE(verify().ok());
  options_.known_checkpoints = {old_checkpoints_[0]};
  EXPECT_TRUE(verify().ok());
  options_.known_checkpoints = {known};
  VerifyReport report = verify();
  EXPECT_EQ(report.first_bad_entry, 100U) << to_text(report);
}

TEST_F(LedgerVerify, MissingFilesAreFound) {
  Image whole = image_;
  for (const char* path :
       {"checkpoint", "checkpoints", "pending.0", "pending.1", "tile/0/000", "tile/0/002.p/88",
        "tile/1/000.p/2", "tile/entries/000", "tile/entries/002.p/88"}) {
    image_ = whole;
    ASSERT_EQ(image_.files.erase(path), 1U) << path;
    EXPECT_FALSE(verify().ok()) << path;
  }
}

TEST_F(LedgerVerify, FilesThatDoNotBelongAreFound) {
  Image whole = image_;
  for (const char* path : {"tile/0/003", "tile/0/002.p/200", "tile/entries/002.p/96",
                           "tile/2/000.p/1", "tile/0/zzz", "tile/x"}) {
    image_ = whole;
    image_.files[path] = std::string(32, 'x');
    image_.dirs["tile/2"] = image_.dirs["tile/2/000.p"] = true;
    EXPECT_FALSE(verify().ok()) << path;
  }
  image_ = whole;
  image_.files["tile/0/003.tmp"] = "torn";
  image_.files["notes.txt"] = "unread";
  EXPECT_TRUE(verify().ok());
  EXPECT_EQ(verify().notes.size(), 2U);
}

TEST_F(LedgerVerify, TornTailIsNotAccepted) {
  pending().pop_back();
  VerifyReport report = verify();
  EXPECT_FALSE(report.ok());
  EXPECT_EQ(report.size, 604U);
}

TEST_F(LedgerVerify, AnotherKeyIsNotAccepted) {
  options_.vkey = Signer::from_seed("tenure/test", std::string(32, 't'))->verifier().vkey();
  EXPECT_FALSE(verify().ok());
  options_.vkey = "rubbish";
  MemoryDisk disk(image_);
  auto report = verify_on(*disk.storage(), options_);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code(), Errc::Invalid);
}

TEST_F(LedgerVerify, AsksTheCallerAboutEveryEntry) {
  uint64_t next = 0;
  options_.check_entry = [&](uint64_t index, std::string_view entry) -> Result<> {
    EXPECT_EQ(index, next++);
    EXPECT_EQ(entry, entry_text(index));
    if (index == 42 || index == 605)
      return fail(Errc::Corrupt, "not to my taste");
    return {};
  };
  VerifyReport report = verify();
  EXPECT_EQ(next, 607U);
  EXPECT_EQ(report.first_bad_entry, 42U);
  EXPECT_EQ(report.problem_count, 2U);
}

// After the checkpoint, before the pending file is emptied: entries stand in both places.
TEST_F(LedgerVerify, InterruptedPublishIsAccepted) {
  for (uint64_t stop = 1;; ++stop) {
    MemoryDisk disk(image_);
    auto ledger = open_on(disk.storage(), test_signer(), false);
    uint64_t seen = 0;
    disk.fault = [&](uint64_t, const Op&) { return ++seen >= stop ? EIO : 0; };
    bool done = (*ledger)->publish().has_value();
    auto report = verify_on(*disk.storage(), options_);
    EXPECT_TRUE(report->ok()) << stop << "\n" << to_text(*report);
    EXPECT_EQ(report->size, 607U);
    if (done)
      break;
    ASSERT_LT(stop, 100U);
  }
}

TEST_F(LedgerVerify, ProofsOfEveryPublishedEntry) {
  MemoryDisk disk(image_);
  auto storage = disk.storage();
  for (uint64_t i = 0; i < 600; i += 7) {
    auto proof = make_proof_on(*storage, i);
    ASSERT_TRUE(proof) << proof.error().what();
    auto proved = check_proof(*proof, options_.vkey);
    ASSERT_TRUE(proved) << proved.error().what();
    EXPECT_EQ(proved->index, i);
    EXPECT_EQ(proved->entry, entry_text(i));
    EXPECT_EQ(proved->size, 600U);
  }
  EXPECT_EQ(make_proof_on(*storage, 600).error().code(), Errc::NotFound);
}

TEST_F(LedgerVerify, EveryBitOfAProofCounts) {
  MemoryDisk disk(image_);
  std::string proof = *make_proof_on(*disk.storage(), 300);
  for (size_t bit = 0; bit < proof.size() * 8; ++bit) {
    std::string changed = proof;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << bit % 8));
    EXPECT_FALSE(check_proof(changed, options_.vkey)) << bit;
  }
  for (size_t size = 0; size < proof.size(); ++size)
    EXPECT_FALSE(check_proof(proof.substr(0, size), options_.vkey));
}

TEST_F(LedgerVerify, ConsistencyOfEverySizeWithTheNewest) {
  MemoryDisk disk(image_);
  auto storage = disk.storage();
  Frontier tree;
  std::vector<Hash> roots{tree.root()};
  for (uint64_t i = 0; i < 600; ++i) {
    tree.add(leaf_hash(entry_text(i)));
    roots.push_back(tree.root());
  }
  for (uint64_t old_size = 1; old_size <= 600; old_size += 13) {
    auto path = prove_consistency(*storage, old_size, 600);
    ASSERT_TRUE(path) << path.error().what();
    EXPECT_TRUE(check_consistency(old_size, roots[old_size], 600, roots[600], *path)) << old_size;
  }
  EXPECT_FALSE(prove_consistency(*storage, 0, 600));
  EXPECT_FALSE(prove_consistency(*storage, 1, 601));
}

}  // namespace
}  // namespace tenure::ledger
