// SPDX-License-Identifier: Apache-2.0
// What the reader makes of a trail as a whole: the corners that concern completeness, order, hosts
// and guests (numbers as in the list of corners); what a single record means is tested with the
// book.
#include <gtest/gtest.h>

#include "reader/select.h"
#include "tests/unit/reader/scratch.h"

namespace tenure::reader {
namespace {

using model::Certainty;

std::vector<model::Tenure> tenures(Reading& reading) {
  std::vector<model::Tenure> out;
  for (Stream& stream : reading.streams) {
    for (const model::Tenure& tenure : stream.book.tenures()) out.push_back(tenure);
  }
  return out;
}

std::string config(int64_t time, int serial, const std::string& what) {
  return "type=CONFIG_CHANGE " + id(time, serial) + "op=set " + what + " auid=0 ses=1 res=1\n";
}
std::string host(const std::string& type, int64_t time, int serial) {
  return "type=" + type + " " + id(time, serial) +
         "op=start ver=3.0.9 auid=4294967295 pid=1 uid=0 res=success\n";
}

Reading read_text(const Scratch& scratch, const std::string& text) {
  return read_logs({scratch.write("audit.log", text)});
}

std::string doubts(const Reading& reading, const TimeRange& range = {}) {
  std::string out;
  for (const std::string& doubt : reading.doubts(range)) out += doubt + "\n";
  return out;
}

// A failed start grants nothing; a stop ends everything, inferred.
TEST(Corner20, FailedStartAndStop) {
  const Scratch scratch;
  Reading reading = read_text(
      scratch, disk(1, 1, "start", "?", "/a") + control(2, 2, "start", "booted", vm(), false) +
                   disk(3, 3, "start", "?", "/b") + control(4, 4, "start", "booted") +
                   control(9, 5, "stop", "destroyed"));
  const auto all = tenures(reading);
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].id.view(), "/b");
  EXPECT_EQ(all[0].until->serial, 5U);
  EXPECT_EQ(all[0].certainty, Certainty::Inferred);
}

// Events of several records are interleaved, PROCTITLE ends one, EOE may be missing or stray; what
// is between the records of an event belongs to others.
TEST(Corner11, InterleavedEventsAreTakenApartBySerial) {
  const Scratch scratch;
  const auto syscall = [](int serial, const std::string& auid) {
    return "type=SYSCALL " + id(98, serial) +
           "arch=c000003e syscall=59 success=yes pid=5 auid=" + auid +
           " uid=0 ses=7 comm=\"virsh\" exe=\"/usr/bin/virsh\"\n";
  };
  const auto execve = [](int serial, const std::string& guest) {
    return "type=EXECVE " + id(98, serial) + "argc=3 a0=\"virsh\" a1=\"start\" a2=\"" + guest +
           "\"\n";
  };
  const std::string eoe = "type=EOE " + id(98, 4) + "\n";
  Reading reading =
      read_text(scratch, eoe + syscall(5, "1001") + syscall(6, "1002") + "type=CWD " + id(98, 5) +
                             "cwd=\"/\"\n" + execve(5, "web") + control(99, 9, "start", "booted") +
                             eoe + execve(6, "other") + "type=PROCTITLE " + id(98, 5) +
                             "proctitle=7669727368\n" + disk(100, 10, "attach", "?", "/a"));
  const auto all = tenures(reading);
  ASSERT_EQ(all.size(), 1U);
  const Stream& stream = reading.streams[0];
  const auto guess = stream.guesses.find(all[0].from->order);
  ASSERT_NE(guess, stream.guesses.end());
  EXPECT_EQ(guess->second.command, "virsh start web");
  EXPECT_EQ(guess->second.auid, 1001U) << "taken from the SYSCALL of another event";
  EXPECT_EQ(guess->second.evidence, std::vector<std::string>{"audit(98.000:5)"});
  EXPECT_TRUE(reading.damage.empty());
}

// A host crash is a bound, between the last sign of life and the boot, and that sign may be any
// record.
TEST(Corner25, AHostCrashBoundsTheEnd) {
  const Scratch scratch;
  Reading reading =
      read_text(scratch, disk(10, 501, "start", "?", "/a") + control(11, 502, "start", "booted") +
                             "type=PATH " + id(40, 777) + "item=0\n" +
                             host("DAEMON_START", 90, 9000) + host("SYSTEM_BOOT", 91, 3) +
                             control(95, 9, "start", "booted", vm("b", std::string(36, '1'))));
  const auto all = tenures(reading);
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].certainty, Certainty::Bounded);
  ASSERT_TRUE(all[0].until_after && all[0].until);
  EXPECT_EQ(all[0].until_after->time_ms, 40000);
  EXPECT_GE(all[0].until->time_ms, 90000);
  EXPECT_EQ(all[0].until_reason.view(), "host-crash");
}

// What the trail says of its own holes.
TEST(Corner26, LostRecordsAndDisabledPeriodsAreDoubts) {
  const Scratch scratch;
  Reading reading = read_text(
      scratch, control(1, 1, "start", "booted") + config(100, 2, "audit_enabled=0 old=1") +
                   config(200, 3, "audit_enabled=1 old=0") + config(300, 4, "lost=0 old=17") +
                   host("DAEMON_END", 400, 7000) + host("DAEMON_START", 500, 7001) +
                   host("DAEMON_ABORT", 600, 7002));
  ASSERT_EQ(reading.gaps.size(), 4U);
  EXPECT_EQ(reading.gaps[0].from_ms, 100000);
  EXPECT_EQ(reading.gaps[0].until_ms, 200000);
  EXPECT_EQ(reading.gaps[1].lost, 17U);
  EXPECT_EQ(reading.gaps[2].from_ms, 400000);
  EXPECT_EQ(reading.gaps[2].until_ms, 500000);
  EXPECT_NE(doubts(reading).find("switched off"), std::string::npos);
  EXPECT_NE(doubts(reading).find("17 records"), std::string::npos);
  // Outside of the time that is asked for they do not matter.
  EXPECT_EQ(doubts(reading, {.since = 700000}), "");
  EXPECT_NE(doubts(reading, {.since = 150000, .until = 160000}), "");
}

TEST(Corner26, AnOrderlyRebootIsNoGap) {
  const Scratch scratch;
  const Reading reading =
      read_text(scratch, host("SYSTEM_SHUTDOWN", 100, 900) + host("DAEMON_END", 101, 7000) +
                             host("DAEMON_START", 160, 8000) +
                             config(160, 1, "audit_enabled=1 old=1") + host("SYSTEM_BOOT", 161, 5));
  EXPECT_TRUE(reading.gaps.empty()) << doubts(reading);
}

TEST(Corner26, DisabledToTheEndIsAnOpenGap) {
  const Scratch scratch;
  const Reading reading = read_text(scratch, config(100, 2, "audit_enabled=0 old=1"));
  ASSERT_EQ(reading.gaps.size(), 1U);
  EXPECT_FALSE(reading.gaps[0].until_ms);
  EXPECT_NE(doubts(reading).find("to the end of the trail"), std::string::npos);
}

// The stream's order counts, not the clock's.
TEST(Corner27, AClockThatStepsBackKeepsTheOrder) {
  const Scratch scratch;
  Reading reading =
      read_text(scratch, control(100, 1, "start", "booted") + disk(110, 2, "attach", "?", "/a") +
                             disk(60, 3, "detach", "/a", "?"));
  const auto all = tenures(reading);
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].from->serial, 2U);
  EXPECT_EQ(all[0].until->serial, 3U);
}

// A tenure spans files; a log that begins in the middle has ends without beginnings.
TEST(Corner28, RotationAndABeginningInTheMiddle) {
  const Scratch scratch;
  scratch.write("audit.log.1", control(1, 1, "start", "booted") + disk(2, 2, "attach", "?", "/a"));
  scratch.write("audit.log", disk(3, 3, "detach", "/a", "?"));
  Reading whole = read_logs({scratch.path("")});
  ASSERT_EQ(tenures(whole).size(), 1U);
  EXPECT_EQ(tenures(whole)[0].certainty, Certainty::Exact);
  Reading half = read_logs({scratch.path("audit.log")});
  ASSERT_EQ(tenures(half).size(), 1U);
  EXPECT_EQ(tenures(half)[0].certainty, Certainty::UnknownStart);
  EXPECT_FALSE(tenures(half)[0].from);
}

// The same uuid on two nodes is two guests; a stop on one leaves the other.
TEST(Corner29, NodesAreKeptApart) {
  const Scratch scratch;
  const auto on = [](const std::string& node, const std::string& line) {
    return "node=" + node + " " + line;
  };
  Reading reading = read_text(scratch, on("a", disk(1, 1, "start", "?", "/x")) +
                                           on("a", control(2, 2, "start", "booted")) +
                                           on("b", disk(3, 1, "start", "?", "/x")) +
                                           on("b", control(4, 2, "start", "migrated")) +
                                           on("a", control(5, 3, "stop", "migrated")));
  const auto all = tenures(reading);
  ASSERT_EQ(all.size(), 2U);
  EXPECT_TRUE(all[0].until);
  EXPECT_EQ(all[0].node.view(), "a");
  EXPECT_FALSE(all[1].until);
  EXPECT_EQ(all[1].node.view(), "b");
}

// Names are exact, uuids are compared without case and by unique prefix.
TEST(Corner30, GuestsAreFoundByNameUuidAndUniquePrefix) {
  const Scratch scratch;
  const std::string other = "6fe7ffff-0000-4000-8000-000000000000";
  Reading reading = read_text(scratch, control(1, 1, "start", "booted") +
                                           control(2, 2, "start", "booted", vm("web-1", other)));
  const auto find = [&](const std::string& text, bool glob = false) {
    return GuestSelector::find(reading, text, glob);
  };
  EXPECT_TRUE(find("web")->matches("web", kUuid));
  EXPECT_FALSE(find("web")->matches("web-1", other));
  EXPECT_TRUE(find("6FE7FC")->matches("", kUuid));
  EXPECT_TRUE(find("web*", true)->matches("web-1", other));
  EXPECT_EQ(find("6fe7f").error().code(), Errc::NotFound);
  EXPECT_NE(find("6fe7f").error().what().find("2 uuids"), std::string::npos);
  EXPECT_EQ(find("we").error().code(), Errc::NotFound);
  EXPECT_TRUE(GuestSelector().matches("anything", ""));
}

TEST(Resources, AreFoundInTheWaysPeopleNameThem) {
  using Thing = ResourceSelector::Thing;
  const Thing rule{.kind = "cgroup", .id = "/dev/sdb", .rdev = "08:10", .devtype = 'b'};
  const Thing major{.kind = "cgroup", .id = "pty", .rdev = "88:*"};
  const Thing net{.kind = "net", .id = "52:54:00:AA:bb:01"};
  const Thing opened{.kind = "net-open", .id = "/dev/net/tun", .holder = "52:54:00:aa:bb:01"};
  const Thing pci{.kind = "dev", .id = "0000:05:00.0", .category = "pci"};
  const Thing usb{.kind = "dev", .id = "001.002", .category = "usb"};
  const Thing mem{.kind = "mem", .id = "65536"};
  const auto is = [](const std::string& text, const Thing& thing) {
    return ResourceSelector(text).matches(thing);
  };
  EXPECT_TRUE(is("/dev/sdb", rule));
  EXPECT_FALSE(is("/dev/sd", rule));
  EXPECT_TRUE(is("8:16", rule));
  EXPECT_TRUE(is("b 8:16", rule));
  EXPECT_FALSE(is("c 8:16", rule));
  EXPECT_FALSE(is("8:10", rule));
  EXPECT_TRUE(is("c 136:7", major));
  EXPECT_TRUE(is("52:54:00:aa:BB:01", net));
  EXPECT_TRUE(is("52:54:00:aa:bb:01", opened));
  EXPECT_TRUE(is("0000:05:00.0", pci));
  EXPECT_TRUE(is("5:0.0", pci));
  EXPECT_FALSE(is("05:00.1", pci));
  EXPECT_TRUE(is("1.2", usb));
  EXPECT_TRUE(is("mem", mem));
  EXPECT_FALSE(is("vcpu", mem));
  EXPECT_TRUE(ResourceSelector().matches(mem));
}

TEST(TimeRange, AtIsInsideAndOpenEndsReachFar) {
  const TimeRange at{.since = 50, .until = 50};
  EXPECT_TRUE(at.meets(40, 60));
  EXPECT_TRUE(at.meets(50, 50));
  EXPECT_TRUE(at.meets(std::nullopt, std::nullopt));
  EXPECT_TRUE(at.meets(40, std::nullopt));
  EXPECT_FALSE(at.meets(51, std::nullopt));
  EXPECT_FALSE(at.meets(std::nullopt, 49));
}

std::string virsh(int64_t time, int serial, const std::string& verb, const std::string& guest) {
  return "type=SYSCALL " + id(time, serial) +
         "arch=c000003e syscall=59 success=yes pid=5 auid=1001 uid=0 ses=7 comm=\"virsh\" "
         "exe=\"/usr/bin/virsh\"\ntype=EXECVE " +
         id(time, serial) + "argc=3 a0=\"virsh\" a1=\"" + verb + "\" a2=\"" + guest + "\"\n";
}

TEST(Guesses, NameTheNearestCommandWithItsEvidence) {
  const Scratch scratch;
  Reading reading =
      read_text(scratch, virsh(98, 5, "start", "web") + virsh(99, 6, "list", "--all") +
                             disk(100, 7, "start", "?", "/a") + control(101, 8, "start", "booted"));
  const Stream& stream = reading.streams[0];
  ASSERT_EQ(tenures(reading).size(), 1U);
  const auto found = stream.guesses.find(tenures(reading)[0].from->order);
  ASSERT_NE(found, stream.guesses.end());
  const Guess& guess = found->second;
  EXPECT_EQ(guess.auid, 1001U);
  EXPECT_EQ(guess.ses, 7U);
  EXPECT_EQ(guess.exe, "/usr/bin/virsh");
  EXPECT_EQ(guess.command, "virsh start web");
  EXPECT_TRUE(guess.names_guest);
  EXPECT_EQ(guess.before_ms, 2000);
  EXPECT_EQ(guess.evidence, std::vector<std::string>{"audit(98.000:5)"});
  EXPECT_EQ(tenures(reading)[0].requester, nullptr);
}

TEST(Guesses, SudoCountsAndDistanceEndsThem) {
  const Scratch scratch;
  const std::string sudo = "type=USER_CMD " + id(100, 5) +
                           "pid=5 uid=1000 auid=1000 ses=3 msg='cwd=\"/\" "
                           "cmd=7669727368207374617274207765623032 exe=\"/usr/bin/sudo\" "
                           "terminal=pts/0 res=success'\n";
  Reading reading = read_text(
      scratch, sudo + disk(104, 6, "attach", "?", "/a") + disk(106, 7, "attach", "?", "/b"));
  const Stream& stream = reading.streams[0];
  EXPECT_EQ(stream.guesses.size(), 1U);
  EXPECT_EQ(stream.guesses.begin()->second.auid, 1000U);
  EXPECT_FALSE(stream.guesses.begin()->second.names_guest);
}

TEST(Guesses, AreNotMadeForRecordsThatNameTheRequester) {
  const Scratch scratch;
  const std::string ours = virt("RESOURCE", 100, 6,
                                "resrc=disk reason=attach " + vm() +
                                    " old-disk=\"?\" new-disk=\"/a\" req-auid=1002 req-uid=1002");
  const Reading reading = read_text(scratch, virsh(99, 5, "start", "web") + ours);
  EXPECT_TRUE(reading.streams[0].guesses.empty());
}

// Everything that libvirt really wrote is understood.
TEST(RealLogs, HaveNoUnexplainedRecord) {
  const char* folder = std::getenv("TENURE_LIBVIRT_LOGS");
  const std::string path = folder != nullptr ? folder : TENURE_SOURCE_DIR "/../shared/libvirt-logs";
  if (!std::filesystem::exists(path))
    GTEST_SKIP() << "no logs of libvirt at " << path;
  Reading reading = read_logs({path});
  EXPECT_TRUE(reading.damage.empty());
  uint64_t records = 0;
  for (const Stream& stream : reading.streams) {
    records += stream.book.counts().records;
    EXPECT_EQ(stream.book.counts().unknown, 0U);
    EXPECT_EQ(stream.book.counts().damaged, 0U);
  }
  EXPECT_GT(records, 150U);
}

}  // namespace
}  // namespace tenure::reader
