// SPDX-License-Identifier: Apache-2.0
// Which lines of a block are found, with every code path and at every alignment.
#include "reader/scan.h"

#include <gtest/gtest.h>

#include <random>

namespace tenure::reader {
namespace {

std::vector<std::string> found_by(const ScanPath& path, std::string_view block) {
  ScanResult result;
  path.scan(block, result);
  std::vector<std::string> lines;
  for (const LineSpan& span : result.lines)
    lines.push_back(std::to_string(span.offset) + ":" +
                    std::string(block.substr(span.offset, span.size)));
  return lines;
}

// What scan_block() finds; every code path has to find the same.
std::vector<std::string> found(std::string_view block) {
  const std::vector<std::string> portable = found_by(scan_paths().back(), block);
  for (const ScanPath& path : scan_paths()) EXPECT_EQ(found_by(path, block), portable) << path.name;
  ScanResult result;
  scan_block(block, result);
  std::vector<std::string> lines;
  for (const LineSpan& span : result.lines)
    lines.emplace_back(block.substr(span.offset, span.size));
  return lines;
}

TEST(Scan, TakesVirtRecordsInEveryForm) {
  for (const std::string line :
       {"type=VIRT_CONTROL msg=audit(1.000:1): a",
        "node=h type=VIRT_RESOURCE msg=audit(1.000:1): a",
        "type=UNKNOWN[2500] msg=audit(1.000:1): a", "audit: type=2500 audit(1.000:1): a",
        "Jul 01 00:00:00 host audit[900]: VIRT_CONTROL pid=1", "type=VIRT_X"}) {
    EXPECT_EQ(found(line), std::vector<std::string>{line});
    EXPECT_EQ(found("x\n" + line + "\ny\n"), std::vector<std::string>{line});
  }
}

TEST(Scan, TakesContextRecords) {
  for (const std::string type : {"SYSTEM_BOOT", "SYSTEM_SHUTDOWN", "DAEMON_START", "DAEMON_ABORT",
                                 "CONFIG_CHANGE", "ANOM_ABEND", "USER_LOGIN"}) {
    const std::string line = "type=" + type + " msg=audit(1.000:1): pid=1";
    EXPECT_EQ(found(line + "\ntype=PATH msg=audit(1.000:1): x\n"), std::vector<std::string>{line});
  }
}

TEST(Scan, ABootBringsTheLineBeforeIt) {
  const std::string path = "type=PATH msg=audit(1.000:1): x";
  const std::string virt = "type=VIRT_CONTROL msg=audit(1.000:2): x";
  const std::string start = "type=DAEMON_START msg=audit(9.000:1): x";
  const std::string boot = "type=SYSTEM_BOOT msg=audit(9.000:3): x";
  EXPECT_EQ(found("a\n" + path + "\n" + start + "\n" + boot + "\n"),
            (std::vector<std::string>{path, start, boot}));
  EXPECT_EQ(found(virt + "\n" + boot + "\n"), (std::vector<std::string>{virt, boot}));
}

TEST(Scan, LeavesTheRest) {
  for (const std::string line :
       {"type=SYSCALL msg=audit(1.000:1): exe=\"/usr/bin/virsh\"", "type=PATH nametype=NORMAL",
        "type=USER_START msg=audit(1.000:1): x", "type=EXECVE msg=audit(1.000:1): a0=\"ls\"",
        "type=AVC msg=audit(1.000:1): avc: denied comm=\"httpd\"", "VIR VIRTUE pe= =VIRT",
        "pe=", "VI", "type=USER_CMD msg=audit(1.000:1): cmd=\"ls\"", "", "\n\n\n"}) {
    EXPECT_EQ(found(line + "\n"), std::vector<std::string>{}) << line;
  }
}

TEST(Scan, ToolsBringTheSyscallOfTheSameEvent) {
  const std::string syscall = "type=SYSCALL msg=audit(1.000:7): auid=1000 ses=3 comm=\"virsh\"";
  const std::string execve = "type=EXECVE msg=audit(1.000:7): argc=3 a0=\"virsh\" a1=\"start\"";
  const std::string other = "type=SYSCALL msg=audit(1.000:8): auid=0";
  EXPECT_EQ(found(syscall + "\n" + other + "\n" + execve + "\n"),
            (std::vector<std::string>{syscall, execve}));
  EXPECT_EQ(found(other + "\n" + execve + "\n"), std::vector<std::string>{execve});
  const std::string sudo = "type=USER_CMD msg=audit(1.000:9): cmd=7669727368207374617274";
  EXPECT_EQ(found(sudo), std::vector<std::string>{sudo});
}

TEST(Scan, ALineWithSeveralTypesIsTakenOnce) {
  const std::string glued =
      "type=VIRT_CONTROL msg=audit(1.000:1): auid=4type=VIRT_CONTROL msg=audit(1.000:2): x";
  EXPECT_EQ(found(glued + "\n"), std::vector<std::string>{glued});
  const std::string behind =
      "type=AVC msg=audit(1.000:1): xtype=VIRT_CONTROL msg=audit(1.000:2): x";
  EXPECT_EQ(found(behind + "\n"), std::vector<std::string>{behind});
}

// Looked at once for each filter, not at each of its words: a megabyte would take minutes.
TEST(Scan, ALineOfNothingButTypesIsRefusedAsAWhole) {
  std::string line;
  while (line.size() < 1 << 20) line += "type=AVC type=EXECVE type=USER_CMD ";
  EXPECT_EQ(found(line + "\ntype=VIRT_X\n"), std::vector<std::string>{"type=VIRT_X"});
}

TEST(Scan, NulsInFrontAreCutAndCounted) {
  const std::string line = "type=VIRT_CONTROL msg=audit(1.000:1): x";
  ScanResult out;
  const std::string block = std::string(64, '\0') + line + "\n";
  scan_block(block, out);
  ASSERT_EQ(out.lines.size(), 1U);
  EXPECT_EQ(block.substr(out.lines[0].offset, out.lines[0].size), line);
  EXPECT_EQ(out.nul_blocks, 1U);
}

TEST(Scan, AnEndlessLineIsCut) {
  ScanResult out;
  scan_block("type=VIRT_CONTROL " + std::string(3 * kMaxLine, 'x'), out);
  ASSERT_EQ(out.lines.size(), 1U);
  EXPECT_EQ(out.lines[0].size, kMaxLine);
  EXPECT_EQ(out.overlong, 1U);
}

// The truth is a plain loop over lines; blocks are random mixtures at random alignment.
TEST(Scan, AgreesWithALineLoopOnRandomText) {
  std::mt19937 random(4);
  static const char* const kPieces[] = {
      "type=", "VIRT_CONTROL ",   "VIRT_", "pe=VI",         "type=PATH ", "\n",  "x",       " ",
      "VIR",   "nametype=NORMAL", "pe=",   "type=SYSCALL ", "V",          "typ", "=DAEMON_"};
  for (int round = 0; round < 2000; ++round) {
    std::string block;
    for (int i = 0; i < 60; ++i) block += kPieces[random() % std::size(kPieces)];
    std::vector<std::string> expected;
    for (size_t at = 0; at < block.size();) {
      const size_t end = std::min(block.find('\n', at), block.size());
      const std::string line = block.substr(at, end - at);
      if (line.find("VIRT_") != std::string::npos ||
          line.find("type=DAEMON_") != std::string::npos) {
        expected.push_back(line);
      }
      at = end + 1;
    }
    EXPECT_EQ(found(block), expected) << block;
  }
}

}  // namespace
}  // namespace tenure::reader
