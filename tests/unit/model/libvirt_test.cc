// SPDX-License-Identifier: Apache-2.0
// What follows from libvirt's records (rules of meaning; corners 16-31 of the list of corners).
#include "tests/unit/model/feed.h"

namespace tenure::model {
namespace {

using Lines = std::vector<std::string>;

constexpr std::string_view kCgroup =
    "cgroup=\"/sys/fs/cgroup/devices/machine/qemu-2-anchor.libvirt-qemu/\" ";

std::string rule(std::string_view rest) {
  return std::string(kCgroup).append(rest);
}

TEST(Libvirt, AStartGrantsAndAStopEndsEverything) {
  Feed feed;
  feed.machine_id();                                             // 1
  feed.resource("resrc=cgroup reason=deny", rule("class=all"));  // 2
  feed.resource("resrc=cgroup reason=allow",
                rule("class=path path=\"/dev/null\" rdev=01:03 acl=rw"));            // 3
  feed.resource("resrc=disk reason=start", "old-disk=\"?\" new-disk=\"/dev/sdb\"");  // 4
  feed.resource("resrc=mem reason=start", "old-mem=0 new-mem=524288");               // 5
  feed.control("op=start reason=booted");                                            // 6
  EXPECT_EQ(feed.runs(), Lines{"1 booted 6-"});
  EXPECT_EQ(feed.tenures(),
            (Lines{"cgroup /dev/null 3- open", "disk /dev/sdb 4- open", "mem 524288 5- open"}));
  EXPECT_EQ(feed.book.open_tenures(kAnchor).size(), 3U);
  feed.control("op=stop reason=destroyed");  // 7
  EXPECT_EQ(feed.runs(), Lines{"1 booted 6-7 destroyed"});
  EXPECT_EQ(feed.tenures(),
            (Lines{"cgroup /dev/null 3-7 stop inferred", "disk /dev/sdb 4-7 stop inferred",
                   "mem 524288 5-7 stop inferred"}));
  EXPECT_TRUE(feed.book.open_tenures(kAnchor).empty());
}

TEST(Libvirt, AFailedStartGrantsNothing) {
  Feed feed;
  feed.machine_id();
  feed.resource("resrc=cgroup reason=allow",
                rule("class=path path=\"/dev/kvm\" rdev=0A:E8 acl=rw"));
  feed.resource("resrc=disk reason=start", "old-disk=\"?\" new-disk=\"/dev/loop99\"");
  feed.control("op=start reason=booted", "failed");  // 4
  EXPECT_EQ(feed.tenures(), Lines{});
  EXPECT_EQ(feed.runs(), Lines{"1 booted 4-4 failed (failed)"});
  feed.resource("resrc=disk reason=start", "old-disk=\"?\" new-disk=\"/dev/sdb\"");
  feed.control("op=start reason=booted");
  EXPECT_EQ(feed.tenures(), Lines{"disk /dev/sdb 5- open"});
  EXPECT_EQ(feed.runs().back(), "2 booted 6-");
}

TEST(Libvirt, ANewStartOfARunningGuestSupersedesTheOldRun) {
  Feed feed;
  feed.resource("resrc=disk reason=start", "old-disk=\"?\" new-disk=\"/dev/sdb\"");  // 1
  feed.control("op=start reason=booted");                                            // 2
  feed.machine_id();                                                                 // 3
  feed.resource("resrc=disk reason=start", "old-disk=\"?\" new-disk=\"/dev/sdb\"");  // 4
  feed.control("op=start reason=booted");                                            // 5
  EXPECT_EQ(feed.runs(), (Lines{"1 booted 2-3 superseded", "2 booted 5-"}));
  EXPECT_EQ(feed.tenures(),
            (Lines{"disk /dev/sdb 1-3 superseded inferred", "disk /dev/sdb 4- open"}));
}

TEST(Libvirt, AStartWithoutAnyOfItsDevicesSupersedesAsWell) {
  Feed feed;
  feed.control("op=start reason=booted");
  feed.control("op=start reason=restored");
  EXPECT_EQ(feed.runs(), (Lines{"1 booted 1-2 superseded", "2 restored 2-"}));
}

TEST(Libvirt, SeveralSecurityModelsAreOneStart) {
  Feed feed;
  feed.machine_id();
  feed.machine_id();
  feed.resource("resrc=disk reason=start", "old-disk=\"?\" new-disk=\"/dev/sdb\"");
  feed.control("op=start reason=booted");
  EXPECT_EQ(feed.runs(), Lines{"1 booted 4-"});
}

TEST(Libvirt, AnInterruptedStartGivesWayToTheNext) {
  Feed feed;
  feed.machine_id();
  feed.resource("resrc=disk reason=start", "old-disk=\"?\" new-disk=\"/dev/sdb\"");  // 2
  feed.machine_id();                                                                 // 3
  feed.control("op=start reason=booted");
  EXPECT_EQ(feed.tenures(), Lines{"disk /dev/sdb 2-3 superseded inferred"});
  EXPECT_EQ(feed.runs(), (Lines{"1 ? ?-3 superseded", "2 booted 4-"}));
}

TEST(Libvirt, AttachAndDetach) {
  Feed feed;
  feed.control("op=start reason=booted");
  feed.resource("resrc=disk reason=attach", "old-disk=\"?\" new-disk=\"/dev/sdb\"");  // 2
  feed.resource("resrc=disk reason=detach", "old-disk=\"/dev/sdb\" new-disk=\"?\"", "failed");
  EXPECT_EQ(feed.tenures(), Lines{"disk /dev/sdb 2- open"});
  feed.resource("resrc=disk reason=detach", "old-disk=\"/dev/sdb\" new-disk=\"?\"");  // 4
  EXPECT_EQ(feed.tenures(), Lines{"disk /dev/sdb 2-4 detach exact"});
}

TEST(Libvirt, OfTwoEqualResourcesOneUnplugEndsOne) {
  Feed feed;
  feed.resource("resrc=rng reason=start", "old-rng=\"?\" new-rng=\"/dev/urandom\"");   // 1
  feed.resource("resrc=rng reason=attach", "old-rng=\"?\" new-rng=\"/dev/urandom\"");  // 2
  feed.resource("resrc=rng reason=detach", "old-rng=\"/dev/urandom\" new-rng=\"?\"");  // 3
  EXPECT_EQ(feed.tenures(),
            (Lines{"rng /dev/urandom 1- open", "rng /dev/urandom 2-3 detach exact"}));
}

TEST(Corner16, AMediaChangeReplaces) {
  Feed feed;
  feed.resource("resrc=disk reason=start", "old-disk=\"?\" new-disk=\"/cd1.iso\"");          // 1
  feed.resource("resrc=disk reason=update", "old-disk=\"/cd1.iso\" new-disk=\"/cd2.iso\"");  // 2
  feed.resource("resrc=disk reason=update", "old-disk=\"/cd2.iso\" new-disk=\"?\"");         // 3
  EXPECT_EQ(feed.tenures(),
            (Lines{"disk /cd1.iso 1-2 update exact", "disk /cd2.iso 2-3 update exact"}));
}

TEST(Corner16, MemoryAndCpusReplaceWhateverTheOldValueSays) {
  Feed feed;
  feed.resource("resrc=vcpu reason=start", "old-vcpu=0 new-vcpu=2");          // 1
  feed.resource("resrc=mem reason=start", "old-mem=0 new-mem=524288");        // 2
  feed.resource("resrc=mem reason=update", "old-mem=262144 new-mem=131072");  // 3
  feed.resource("resrc=vcpu reason=update", "old-vcpu=2 new-vcpu=1", "failed");
  EXPECT_EQ(feed.tenures(),
            (Lines{"vcpu 2 1- open", "mem 524288 2-3 update exact", "mem 131072 3- open"}));
}

TEST(Corner17, KindsWithoutOldAndNew) {
  Feed feed;
  feed.resource("resrc=dev reason=attach", "bus=usb device=\"001.002\"");           // 1
  feed.resource("resrc=hostdev reason=attach", "disk=\"/dev/sdc\"");                // 2
  feed.resource("resrc=tpm-emulator reason=attach", "device=\"/run/swtpm.sock\"");  // 3
  feed.resource("resrc=shmem reason=attach", "size=4096 path=/dev/shm/my mem");     // 4
  feed.resource("resrc=evdev reason=attach", "path=/dev/input/event3");             // 5
  feed.resource("resrc=dev reason=detach", "bus=usb device=\"001.002\"");           // 6
  feed.resource("resrc=shmem reason=detach", "size=4096 path=/dev/shm/my mem");     // 7
  EXPECT_EQ(feed.tenures(),
            (Lines{"dev 001.002 1-6 detach exact", "hostdev /dev/sdc 2- open",
                   "tpm-emulator /run/swtpm.sock 3- open", "shmem /dev/shm/my mem 4-7 detach exact",
                   "evdev /dev/input/event3 5- open"}));
}

TEST(Corner18, AnUnknownResourceIsKept) {
  Feed feed;
  feed.resource("resrc=flux reason=attach", "old-flux=\"?\" new-flux=12");  // 1
  feed.resource("resrc=warp reason=attach", "device=\"/dev/warp0\"");       // 2
  feed.resource("resrc=warp reason=some-new-word",
                "device=\"/dev/warp0\"");                                   // 3: direction unknown
  feed.resource("resrc=flux reason=detach", "old-flux=12 new-flux=\"?\"");  // 4
  EXPECT_EQ(feed.tenures(), (Lines{"flux 12 1-4 detach exact", "warp /dev/warp0 2- open"}));
  EXPECT_EQ(feed.book.counts().unknown, 5U);
}

TEST(Corner19, AUuidInAnyCaseIsOneGuest) {
  Feed feed;
  feed.resource("resrc=disk reason=attach", "old-disk=\"?\" new-disk=\"/dev/sdb\"");
  for (char& c : feed.uuid) c = static_cast<char>(toupper(c));
  feed.control("op=stop reason=destroyed");
  EXPECT_EQ(feed.tenures(), Lines{"disk /dev/sdb 1-2 stop inferred"});
  EXPECT_EQ(feed.tenure(0).uuid.view(), kAnchor);
}

TEST(Corner20, InTheOrderOfARealStart) {
  Feed feed;
  feed.machine_id();
  feed.resource("resrc=net reason=open", "net=52:54:00:00:00:01 path=\"/dev/net/tun\" rdev=0A:C8");
  feed.resource("resrc=cgroup reason=deny", rule("class=all"));
  feed.resource("resrc=net reason=start", "old-net=\"?\" new-net=\"52:54:00:00:00:01\"");
  feed.control("op=start reason=booted");
  EXPECT_EQ(feed.tenures(),
            (Lines{"net-open /dev/net/tun 2- open", "net 52:54:00:00:00:01 4- open"}));
  EXPECT_EQ(feed.tenure(0).holder.view(), "52:54:00:00:00:01");
  EXPECT_EQ(feed.tenure(0).rdev.view(), "0A:C8");
}

TEST(Corner21, AStopIsJoinedByUuidNotByPid) {
  Feed feed;
  feed.control("op=start reason=booted");
  feed.virt("VIRT_CONTROL", "op=stop reason=shutdown", "vm-pid=-1", "success");
  EXPECT_EQ(feed.runs(), Lines{"1 booted 1-2 shutdown"});
  EXPECT_EQ(feed.book.runs()[0].pid, 27158U);
}

TEST(Corner22, WhatWasOpenedForAnInterfaceGoesWithIt) {
  Feed feed;
  feed.control("op=start reason=booted");
  std::string open = "net=52:54:00:00:00:11 path=\"/dev/net/tun\" rdev=0A:C8";
  feed.resource("resrc=net reason=open", open);                                             // 2
  feed.resource("resrc=net reason=attach", "old-net=\"?\" new-net=\"52:54:00:00:00:11\"");  // 3
  feed.resource("resrc=net reason=detach", "old-net=\"52:54:00:00:00:11\" new-net=\"?\"");  // 4
  EXPECT_EQ(feed.tenures(), (Lines{"net-open /dev/net/tun 2-4 detach inferred",
                                   "net 52:54:00:00:00:11 3-4 detach exact"}));
  feed.resource("resrc=net reason=open", open);  // 5
  feed.resource("resrc=net reason=attach", "old-net=\"?\" new-net=\"52:54:00:00:00:11\"", "failed");
  EXPECT_EQ(feed.tenures().back(), "net-open /dev/net/tun 5-6 attach inferred");
}

TEST(Corner23, ADenyEndsTheRuleOfThatDeviceWhateverItsAccess) {
  Feed feed;
  feed.resource("resrc=cgroup reason=allow",
                rule("class=path path=\"/dev/loop1\" rdev=07:01 acl=rw"));  // 1
  feed.resource("resrc=cgroup reason=allow",
                rule("class=path path=\"/dev/loop2\" rdev=07:02 acl=rw"), "failed");
  feed.resource("resrc=cgroup reason=deny",
                rule("class=path path=\"/dev/loop1\" rdev=07:01 acl=rwm"));  // 3
  EXPECT_EQ(feed.tenures(), Lines{"cgroup /dev/loop1 1-3 deny exact"});
}

TEST(Corner23, DenyAllEndsAllRulesAndNothingElse) {
  Feed feed;
  feed.resource("resrc=cgroup reason=allow", rule("class=major category=pty maj=88 acl=rw"));
  feed.resource("resrc=disk reason=attach", "old-disk=\"?\" new-disk=\"/dev/sdb\"");
  // A second deny all of a running guest would be a new start; while it is unsure it is not.
  Feed early;
  early.resource("resrc=cgroup reason=allow", rule("class=major category=pty maj=88 acl=rw"));
  early.resource("resrc=cgroup reason=deny", rule("class=all"));
  EXPECT_EQ(early.tenures(), Lines{"cgroup pty 1-2 deny exact"});
  EXPECT_EQ(early.tenure(0).rdev.view(), "88:*");
}

// Records A3 and A4: the kernel has one rule a device, known by its number.
TEST(Corner23, ADenyOfAnotherNumberLeavesTheRuleAndOneDenyEndsBothUsers) {
  Feed feed;
  auto allow = [&](std::string_view path, std::string_view rdev) {
    feed.resource("resrc=cgroup reason=allow", rule("class=path path=\"" + std::string(path) +
                                                    "\" rdev=" + std::string(rdev) + " acl=rw"));
  };
  feed.resource("resrc=cgroup reason=deny", rule("class=all"));  // 1
  allow("/dev/lvlink", "07:01");                                 // 2
  feed.resource("resrc=cgroup reason=deny",
                rule("class=path path=\"/dev/lvlink\" rdev=07:02 acl=rwm"));  // 3
  EXPECT_EQ(feed.tenures(), Lines{"cgroup /dev/lvlink 2- open"});
  EXPECT_EQ(feed.book.counts().unmatched, 1U);
  allow("/dev/loop1", "07:01");  // 4
  feed.resource("resrc=cgroup reason=deny",
                rule("class=path path=\"/dev/loop1\" rdev=07:01 acl=rwm"));  // 5
  EXPECT_EQ(feed.tenures(),
            (Lines{"cgroup /dev/lvlink 2-5 deny exact", "cgroup /dev/loop1 4-5 deny exact"}));
}

TEST(Corner23, APartialDenyNarrows) {
  Feed feed;
  feed.resource("resrc=cgroup reason=allow",
                rule("class=path path=\"/dev/loop1\" rdev=07:01 acl=rw"));
  feed.resource("resrc=cgroup reason=deny",
                rule("class=path path=\"/dev/loop1\" rdev=07:01 acl=w"));
  EXPECT_EQ(feed.tenures(),
            (Lines{"cgroup /dev/loop1 1-2 deny exact", "cgroup /dev/loop1 2- open"}));
  EXPECT_EQ(feed.tenure(1).access.view(), "r");
}

TEST(Corner28, ALogThatBeginsInTheMiddle) {
  Feed feed;
  feed.resource("resrc=disk reason=detach", "old-disk=\"/dev/sdb\" new-disk=\"?\"");
  feed.resource("resrc=disk reason=update", "old-disk=\"/cd1.iso\" new-disk=\"/cd2.iso\"");
  feed.control("op=stop reason=shutdown");
  EXPECT_EQ(feed.tenures(),
            (Lines{"disk /dev/sdb ?-1 detach unknown-start",
                   "disk /cd1.iso ?-2 update unknown-start", "disk /cd2.iso 2-3 stop inferred"}));
  EXPECT_EQ(feed.runs(), Lines{"1 ? ?-3 shutdown"});
  EXPECT_EQ(feed.book.runs()[0].certainty, Certainty::UnknownStart);
}

TEST(Corner28, AGuestFirstSeenAtItsStop) {
  Feed feed;
  feed.control("op=stop reason=shutdown");
  EXPECT_EQ(feed.runs(), Lines{"1 ? ?-1 shutdown"});
}

TEST(Corner29, TheSameUuidOnTwoNodesIsTwoGuests) {
  Feed feed;
  feed.node = "h1";
  feed.resource("resrc=disk reason=start", "old-disk=\"?\" new-disk=\"/dev/sdb\"");  // 1
  feed.control("op=start reason=booted");
  feed.node = "h2";
  feed.resource("resrc=disk reason=start", "old-disk=\"?\" new-disk=\"/dev/sdb\"");  // 3
  feed.control("op=start reason=migrated");
  feed.node = "h1";
  feed.control("op=stop reason=migrated");  // 5
  EXPECT_EQ(feed.tenures(), (Lines{"disk /dev/sdb 1-5 stop inferred", "disk /dev/sdb 3- open"}));
  EXPECT_EQ(feed.book.open_tenures(kAnchor, "h2").size(), 1U);
  EXPECT_TRUE(feed.book.open_tenures(kAnchor, "h1").empty());
}

TEST(Corner30, RenamedRedefinedAndSharedAreKeptApartByUuid) {
  Feed feed;
  feed.control("op=start reason=booted");
  feed.resource("resrc=disk reason=attach", "old-disk=\"?\" new-disk=\"/iso\"");  // 2
  feed.guest = "renamed";
  feed.resource("resrc=net reason=attach", "old-net=\"?\" new-net=\"m\"");  // 3
  feed.uuid = "11111111-2222-3333-4444-555555555555";
  feed.resource("resrc=disk reason=attach", "old-disk=\"?\" new-disk=\"/iso\"");  // 4
  feed.resource("resrc=disk reason=detach", "old-disk=\"/iso\" new-disk=\"?\"");  // 5
  EXPECT_EQ(feed.tenures(),
            (Lines{"disk /iso 2- open", "net m 3- open", "disk /iso 4-5 detach exact"}));
  EXPECT_EQ(feed.tenure(0).guest.view(), "anchor");
  EXPECT_EQ(feed.tenure(1).guest.view(), "renamed");
}

TEST(Corner31, OthersWithoutUuidGoByName) {
  Feed feed;
  feed.line("VIRT_CONTROL", "pid=1 msg='op=start reason=api vm=c1 vm-pid=12 res=success'");
  feed.line("VIRT_CONTROL", "pid=1 msg='op=stop reason=api vm=c2 vm-pid=12 res=success'");
  EXPECT_EQ(feed.runs(), (Lines{"1 api 1-", "1 ? ?-2 api"}));
  EXPECT_EQ(feed.book.runs()[0].guest.view(), "c1");
}

TEST(Libvirt, ARecordThatWasCutBeforeItsResultIsNotApplied) {
  Feed feed;
  feed.apply(
      "type=VIRT_RESOURCE msg=audit(1.000:1): pid=1 msg='virt=kvm resrc=disk reason=attach "
      "vm=\"a\" uuid=6fe7fc2a-cc7c-4d6c-bb44-e1c7d275e875 old-disk=\"?\" new-disk=\"/dev/s");
  EXPECT_EQ(feed.tenures(), Lines{});
  EXPECT_EQ(feed.book.counts().damaged, 1U);
}

class Crash : public testing::Test {
 protected:
  void SetUp() override {
    feed.resource("resrc=disk reason=start", "old-disk=\"?\" new-disk=\"/dev/sdb\"");  // 1
    feed.control("op=start reason=booted");                                            // 2
    feed.line("USER_START", "pid=1 uid=0");                                            // 3
  }
  void expect_bounded(std::string_view reason, int64_t after, int64_t until) {
    const Tenure& tenure = feed.tenure(0);
    ASSERT_TRUE(tenure.until);
    EXPECT_EQ(tenure.until_reason.view(), reason);
    EXPECT_EQ(tenure.certainty, Certainty::Bounded);
    EXPECT_EQ(tenure.until_after->time_ms, after * 1000);
    EXPECT_EQ(tenure.until->time_ms, until * 1000);
    EXPECT_EQ(feed.book.runs()[0].end_reason.view(), reason);
    EXPECT_EQ(feed.book.runs()[0].certainty, Certainty::Bounded);
  }
  void restart_at(int64_t second) {
    feed.second = second;
    feed.serial = 5;
  }
  Feed feed;
};

TEST_F(Crash, Corner25BySystemBoot) {
  restart_at(500);
  feed.line("SYSTEM_BOOT", "pid=1 uid=0");
  expect_bounded("host-crash", 3, 500);
}

TEST_F(Crash, Corner25BySerialsThatBeginAnew) {
  restart_at(500);
  feed.line("CONFIG_CHANGE", "op=set audit_enabled=1");
  expect_bounded("host-crash", 3, 500);
}

TEST_F(Crash, Corner25AuditdStartedWithoutHavingEndedAndSerialsBeginAnew) {
  restart_at(500);
  feed.line("DAEMON_START", "op=start ver=3.0.9");
  EXPECT_TRUE(feed.tenure(0).open());
  feed.line("SERVICE_START", "pid=1 uid=0");
  expect_bounded("host-crash", 3, 500);
}

TEST_F(Crash, Corner25AuditdAloneDied) {
  feed.second = 500;
  feed.line("DAEMON_START", "op=start ver=3.0.9");
  feed.line("USER_START", "pid=1 uid=0");
  EXPECT_TRUE(feed.tenure(0).open());
}

TEST_F(Crash, ACleanRebootHasItsOwnReason) {
  feed.line("SYSTEM_SHUTDOWN", "pid=1 uid=0");  // 4
  feed.line("DAEMON_END", "op=terminate");      // 5
  restart_at(500);
  feed.line("DAEMON_START", "op=start ver=3.0.9");
  feed.line("SYSTEM_BOOT", "pid=1 uid=0");
  expect_bounded("reboot", 5, 501);
}

TEST_F(Crash, AnotherRecordOfTheHostNarrowsTheBound) {
  feed.book.seen("", {.order = 99, .time_ms = 400'000, .serial = 104});
  restart_at(500);
  feed.line("SYSTEM_BOOT", "pid=1 uid=0");
  expect_bounded("host-crash", 400, 500);
}

TEST_F(Crash, OfOneHostLeavesTheOthers) {
  feed.node = "other";
  restart_at(500);
  feed.line("SYSTEM_BOOT", "pid=1 uid=0");
  EXPECT_TRUE(feed.tenure(0).open());
}

TEST_F(Crash, Corner27AClockThatStepsBackIsNoCrash) {
  feed.second = 1;
  feed.resource("resrc=disk reason=detach", "old-disk=\"/dev/sdb\" new-disk=\"?\"");
  EXPECT_EQ(feed.tenures(), Lines{"disk /dev/sdb 1-1 detach exact"});
}

TEST_F(Crash, RecordsThatOvertakeEachOtherAreNoCrash) {
  feed.serial = 101;
  feed.line("USER_START", "pid=1 uid=0");
  EXPECT_TRUE(feed.tenure(0).open());
}

}  // namespace
}  // namespace tenure::model
