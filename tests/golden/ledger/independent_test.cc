// SPDX-License-Identifier: Apache-2.0
// Our ledgers and proofs before a verifier in another language that was written from the
// specifications alone (verify_ledger.py), and its judgement of forgeries.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "base/text.h"
#include "ledger/ledger.h"
#include "ledger/proof.h"

namespace tenure::ledger {
namespace {

class LedgerIndependent : public testing::Test {
 protected:
  void SetUp() override {
    if (system("python3 -c pass 2>/dev/null") != 0)
      GTEST_SKIP() << "there is no python3 to run the other verifier";
    std::string name = testing::UnitTest::GetInstance()->current_test_info()->name();
    top_ = std::filesystem::temp_directory_path() / ("ledger-" + name + std::to_string(getpid()));
    std::filesystem::create_directories(top_);
    options_ = {(top_ / "log").string(), (top_ / "key").string(), "tenure/test"};
  }
  void TearDown() override { std::filesystem::remove_all(top_); }

  // Whether the other verifier is content.
  bool judge(const std::string& arguments) {
    std::string command = "python3 " TENURE_SOURCE_DIR "/tests/golden/ledger/verify_ledger.py " +
                          arguments + " >" + (top_ / "out").string() + " 2>&1";
    int status = system(command.c_str());
    said_ = read_file((top_ / "out").string(), 1 << 20).value_or("");
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  bool judge_ledger() { return judge("ledger " + options_.dir + " " + options_.key_path + ".pub"); }

  // `published` entries in several steps, and then `pending` more.
  void make(uint64_t published, uint64_t pending) {
    auto ledger = Ledger::open(options_);
    ASSERT_TRUE(ledger) << ledger.error().what();
    auto append = [&](uint64_t count) {
      std::vector<std::string> entries;
      for (uint64_t i = 0; i < count; ++i)
        entries.push_back("entry " + std::to_string((*ledger)->size() + i));
      ASSERT_TRUE((*ledger)->append(entries));
    };
    for (uint64_t part : {published / 3, published - published / 3}) {
      append(part);
      ASSERT_TRUE((*ledger)->publish());
    }
    for (uint64_t i = 0; i < pending; ++i) append(1 + i);
  }

  std::filesystem::path top_;
  LedgerOptions options_;
  std::string said_;
};

TEST_F(LedgerIndependent, AgreesOnLedgersOfManySizes) {
  for (uint64_t size : {0U, 1U, 2U, 255U, 256U, 257U, 700U, 1025U}) {
    std::filesystem::remove_all(top_);
    std::filesystem::create_directories(top_);
    ASSERT_NO_FATAL_FAILURE(make(size, size % 3));
    EXPECT_TRUE(judge_ledger()) << size << ": " << said_;
  }
}

TEST_F(LedgerIndependent, AgreesOnATreeOfThreeLevels) {
  ASSERT_NO_FATAL_FAILURE(make(66'000, 1));
  EXPECT_TRUE(judge_ledger()) << said_;
  EXPECT_TRUE(std::filesystem::exists(options_.dir + "/tile/2/000.p/1"));
}

TEST_F(LedgerIndependent, AgreesOnForgeries) {
  ASSERT_NO_FATAL_FAILURE(make(300, 2));
  std::string pending = options_.dir + "/pending.0";
  if (std::filesystem::file_size(pending) < 50)
    pending = options_.dir + "/pending.1";
  for (const std::string& path :
       {options_.dir + "/checkpoint", options_.dir + "/checkpoints", options_.dir + "/tile/0/000",
        options_.dir + "/tile/0/001.p/44", options_.dir + "/tile/1/000.p/1",
        options_.dir + "/tile/entries/000", pending}) {
    std::string good = *read_file(path, 1 << 20);
    std::string bad = good;
    bad[bad.size() / 2] = static_cast<char>(bad[bad.size() / 2] ^ 1);
    std::ofstream(path) << bad;
    EXPECT_FALSE(judge_ledger()) << path;
    std::ofstream(path) << good;
  }
  EXPECT_TRUE(judge_ledger()) << said_;
}

TEST_F(LedgerIndependent, AgreesOnProofs) {
  ASSERT_NO_FATAL_FAILURE(make(700, 0));
  std::string file = (top_ / "entry.tlog-proof").string();
  for (uint64_t index : {0U, 255U, 256U, 511U, 698U, 699U}) {
    auto proof = make_proof(options_.dir, index);
    ASSERT_TRUE(proof);
    std::ofstream(file) << *proof;
    EXPECT_TRUE(judge("proof " + file + " " + options_.key_path + ".pub")) << said_;
    EXPECT_NE(said_.find("'entry " + std::to_string(index) + "'"), said_.npos) << said_;
  }
  std::string proof = *make_proof(options_.dir, 3);
  size_t at = proof.find("index 3");
  proof[at + 6] = '2';
  std::ofstream(file) << proof;
  EXPECT_FALSE(judge("proof " + file + " " + options_.key_path + ".pub"));
}

TEST_F(LedgerIndependent, AgreesOnConsistency) {
  ASSERT_NO_FATAL_FAILURE(make(700, 0));
  auto storage = open_storage(options_.dir);
  ASSERT_TRUE(storage);
  std::vector<Hash> roots;
  Frontier tree;
  roots.push_back(tree.root());
  for (uint64_t i = 0; i < 700; ++i) {
    tree.add(leaf_hash("entry " + std::to_string(i)));
    roots.push_back(tree.root());
  }
  auto hex = [](const Hash& hash) { return " " + to_hex(bytes_of(hash)); };
  for (uint64_t old_size : {1U, 2U, 255U, 256U, 300U, 512U, 699U, 700U}) {
    auto path = prove_consistency(**storage, old_size, 700);
    ASSERT_TRUE(path);
    std::string rest = " 700" + hex(roots[700]);
    for (const Hash& hash : *path) rest += hex(hash);
    EXPECT_TRUE(judge("consistency " + std::to_string(old_size) + hex(roots[old_size]) + rest))
        << said_;
    EXPECT_FALSE(judge("consistency " + std::to_string(old_size) + hex(roots[old_size - 1]) + rest))
        << said_;
  }
}

}  // namespace
}  // namespace tenure::ledger
