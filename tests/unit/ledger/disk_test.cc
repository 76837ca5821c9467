// SPDX-License-Identifier: Apache-2.0
// Ledger::open() and read_entries() on a real folder.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/file.h"
#include "ledger/ledger.h"
#include "ledger/note.h"

namespace tenure::ledger {
namespace {

class LedgerDisk : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::UnitTest::GetInstance()->current_test_info()->name();
    top_ = std::filesystem::temp_directory_path() / ("ledger-" + name + std::to_string(getpid()));
    std::filesystem::create_directories(top_);
    options_ = {(top_ / "log").string(), (top_ / "keys/ledger.key").string(), "tenure/test"};
  }
  void TearDown() override { std::filesystem::remove_all(top_); }

  std::unique_ptr<Ledger> open() {
    auto ledger = Ledger::open(options_);
    EXPECT_TRUE(ledger) << ledger.error().what();
    return ledger ? std::move(*ledger) : nullptr;
  }
  Errc refusal() {
    auto ledger = Ledger::open(options_);
    EXPECT_FALSE(ledger);
    return ledger ? Errc::Internal : ledger.error().code();
  }
  std::vector<std::string> read(uint64_t from) {
    std::vector<std::string> all;
    auto done = read_entries(options_.dir, from, [&](uint64_t index, std::string_view entry) {
      EXPECT_EQ(index, from + all.size());
      all.emplace_back(entry);
      return true;
    });
    EXPECT_TRUE(done) << done.error().what();
    return all;
  }
  static unsigned mode_of(const std::string& path) {
    struct stat st{};
    EXPECT_EQ(stat(path.c_str(), &st), 0) << path;
    return st.st_mode & 07777;
  }

  std::filesystem::path top_;
  LedgerOptions options_;
};

TEST_F(LedgerDisk, MakesKeyAndFolderForTheOwnerOnly) {
  open();
  EXPECT_EQ(mode_of(options_.dir), 0700U);
  EXPECT_EQ(mode_of(options_.key_path), 0600U);
  EXPECT_EQ(mode_of(options_.key_path + ".pub"), 0644U);
  EXPECT_FALSE(std::filesystem::exists(options_.key_path + ".new"));
  std::string vkey = *read_file(options_.key_path + ".pub", 1000);
  ASSERT_TRUE(vkey.ends_with('\n'));
  vkey.pop_back();
  auto verifier = Verifier::from_vkey(vkey);
  ASSERT_TRUE(verifier);
  EXPECT_TRUE(open_checkpoint(*verifier, *read_file(options_.dir + "/checkpoint", 1000)));
}

TEST_F(LedgerDisk, OneWriterAtATime) {
  auto ledger = open();
  EXPECT_EQ(refusal(), Errc::Busy);
  ledger.reset();
  open();
}

TEST_F(LedgerDisk, KeyThatOthersCanReadIsRefused) {
  open();
  ASSERT_EQ(chmod(options_.key_path.c_str(), 0640), 0);
  EXPECT_EQ(refusal(), Errc::Denied);
}

TEST_F(LedgerDisk, MissingLedgerWithAKeyIsNotBegunAnew) {
  open();
  std::filesystem::remove_all(options_.dir);
  EXPECT_EQ(refusal(), Errc::Corrupt);
}

TEST_F(LedgerDisk, ForeignPublicKeyOrOriginIsRefused) {
  open();
  std::string path = options_.key_path + ".pub";
  std::string good = *read_file(path, 1000);
  ASSERT_TRUE(write_file_atomic(path, Signer::generate("tenure/test")->verifier().vkey() + "\n"));
  EXPECT_EQ(refusal(), Errc::Corrupt);
  ASSERT_TRUE(write_file_atomic(path, good));
  options_.origin = "tenure/other";
  EXPECT_EQ(refusal(), Errc::Corrupt);
  options_.origin = "two words";
  EXPECT_EQ(refusal(), Errc::Invalid);
}

TEST_F(LedgerDisk, TornKeyOfAFirstStartIsMadeAnew) {
  std::filesystem::create_directories(top_ / "keys");
  std::ofstream(options_.key_path + ".new") << "-----BEGIN PRIVATE KEY-----\nMC4CAQA";
  chmod((options_.key_path + ".new").c_str(), 0600);
  open();
  open();
}

TEST_F(LedgerDisk, MissingPublicKeyIsWrittenAgain) {
  open();
  std::filesystem::remove(options_.key_path + ".pub");
  open();
  EXPECT_TRUE(std::filesystem::exists(options_.key_path + ".pub"));
}

TEST_F(LedgerDisk, ReadsPublishedAndPendingEntriesFromAnywhere) {
  auto ledger = open();
  std::vector<std::string> all;
  for (size_t i = 0; i < 700; ++i) all.push_back(std::to_string(i) + std::string(i % 7, '\n'));
  ASSERT_TRUE(ledger->append({all.begin(), all.begin() + 600}));
  ASSERT_TRUE(ledger->publish());
  ASSERT_TRUE(ledger->append({all.begin() + 600, all.begin() + 650}));
  ASSERT_TRUE(ledger->append({all.begin() + 650, all.end()}));
  for (size_t from : {0U, 1U, 255U, 256U, 599U, 600U, 625U, 650U, 699U, 700U}) {
    std::vector<std::string> rest(all.begin() + static_cast<ptrdiff_t>(from), all.end());
    EXPECT_EQ(read(from), rest) << from;
  }
  EXPECT_TRUE(read(900).empty());
  int seen = 0;
  ASSERT_TRUE(
      read_entries(options_.dir, 590, [&](uint64_t, std::string_view) { return ++seen < 20; }));
  EXPECT_EQ(seen, 20);
}

TEST_F(LedgerDisk, NothingToReadIsNotFound) {
  auto done = read_entries(options_.dir, 0, [](uint64_t, std::string_view) { return true; });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code(), Errc::NotFound);
  std::filesystem::create_directories(options_.dir);
  done = read_entries(options_.dir, 0, [](uint64_t, std::string_view) { return true; });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code(), Errc::NotFound);
}

// A reader beside a writer that appends and publishes: never a hole, and all that was durable
// before.
TEST_F(LedgerDisk, ReaderBesideTheWriter) {
  auto ledger = open();
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    for (uint64_t i = 0; i < 400; ++i) {
      ASSERT_TRUE(ledger->append({std::to_string(2 * i), std::to_string(2 * i + 1)}));
      if (i % 3 == 0) {
        ASSERT_TRUE(ledger->publish());
      }
    }
    stop = true;
  });
  while (!stop) {
    uint64_t durable = ledger->size();
    std::vector<std::string> seen = read(0);
    ASSERT_GE(seen.size(), durable);
    for (size_t i = 0; i < seen.size(); ++i) ASSERT_EQ(seen[i], std::to_string(i));
  }
  writer.join();
  EXPECT_EQ(read(0).size(), 800U);
}

}  // namespace
}  // namespace tenure::ledger
