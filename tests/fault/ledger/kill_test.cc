// SPDX-License-Identifier: Apache-2.0
// A writer on a real folder is killed by SIGKILL at random moments, again and again on one ledger;
// whatever it had reported is there afterwards.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "base/file.h"
#include "ledger/ledger.h"
#include "ledger/verify.h"

namespace tenure::ledger {
namespace {

// Appends and publishes for ever; tells each durable size through the pipe.
[[noreturn]] void write_for_ever(const LedgerOptions& options, int pipe) {
  auto ledger = Ledger::open(options);
  if (!ledger)
    _exit(1);
  for (uint64_t i = 0;; ++i) {
    std::vector<std::string> entries;
    for (uint64_t k = 0; k <= i % 40; ++k)
      entries.push_back("entry " + std::to_string((*ledger)->size() + k));
    if (!(*ledger)->append(entries))
      _exit(2);
    uint64_t size = (*ledger)->size();
    if (write(pipe, &size, sizeof size) != sizeof size)
      _exit(3);
    if (i % 3 == 0 && !(*ledger)->publish())
      _exit(4);
  }
}

// The last size that a writer told before it was killed, somewhere after `messages` of them.
uint64_t run_and_kill(const LedgerOptions& options, uint64_t messages, uint64_t spin) {
  int ends[2];
  EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
  pid_t child = fork();
  if (child == 0)
    write_for_ever(options, ends[1]);
  UniqueFd reading(ends[0]);
  close(ends[1]);
  uint64_t told = 0;
  uint64_t size = 0;
  for (uint64_t i = 0; i < messages && read(reading.get(), &size, sizeof size) == sizeof size; ++i)
    told = size;
  std::atomic<uint64_t> spun = 0;  // a moment between two messages
  while (spun < spin) ++spun;
  kill(child, SIGKILL);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status)) << "the writer stopped by itself: " << WEXITSTATUS(status);
  while (read(reading.get(), &size, sizeof size) == sizeof size) told = size;
  return told;
}

TEST(LedgerKill, WhatWasReportedSurvives) {
  auto top = std::filesystem::temp_directory_path() / ("ledger-kill-" + std::to_string(getpid()));
  LedgerOptions options{(top / "log").string(), (top / "key").string(), "tenure/test"};
  std::mt19937 random(3);
  int rounds = getenv("TENURE_FULL") != nullptr ? 500 : 10;
  for (int round = 0; round < rounds; ++round) {
    uint64_t told = run_and_kill(options, random() % 12, random() % 400'000);
    auto ledger = Ledger::open(options);
    ASSERT_TRUE(ledger) << ledger.error().what();
    ASSERT_GE((*ledger)->size(), told);
    uint64_t next = 0;
    ASSERT_TRUE(read_entries(options.dir, 0, [&](uint64_t index, std::string_view entry) {
      EXPECT_EQ(index, next++);
      EXPECT_EQ(entry, "entry " + std::to_string(index));
      return true;
    }));
    ASSERT_EQ(next, (*ledger)->size());
    std::string vkey = *read_file(options.key_path + ".pub", 1000);
    vkey.pop_back();
    auto report = verify(options.dir, {.vkey = vkey});
    ASSERT_TRUE(report && report->ok()) << to_text(*report);
  }
  std::filesystem::remove_all(top);
}

}  // namespace
}  // namespace tenure::ledger
