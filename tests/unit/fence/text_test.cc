// SPDX-License-Identifier: Apache-2.0
// The texts that the fence reads and writes: rules, devices.list, mountinfo, cgroup names.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>

#include "kernel/cgroup.h"
#include "kernel/fence.h"
#include "kernel/fence_v1.h"

namespace tenure::kernel {
namespace {

TEST(AclRuleText, IsTheFormOfDevicesList) {
  EXPECT_EQ(to_string(AclRule{DeviceType::Char, 136, std::nullopt, kReadWrite}), "c 136:* rw");
  EXPECT_EQ(to_string(AclRule{DeviceType::Block, 8, 16, kReadOnly}), "b 8:16 r");
  EXPECT_EQ(to_string(AclRule{DeviceType::Block, 8, 16, {}}), "b 8:16 -");
}

TEST(DevicesList, IsReadAndSorted) {
  auto rules = parse_devices_list("c 136:* rw\nc 1:3 rwm\nb 7:0 r\n");
  ASSERT_TRUE(rules) << rules.error().what();
  ASSERT_EQ(rules->size(), 3U);
  EXPECT_EQ(to_string((*rules)[0]), "b 7:0 r");
  EXPECT_EQ(to_string((*rules)[1]), "c 1:3 rwm");
  EXPECT_EQ(to_string((*rules)[2]), "c 136:* rw");
  EXPECT_TRUE(parse_devices_list("").value().empty());
}

TEST(DevicesList, ThatAllowsMoreThanAnyGuestGetsIsLost) {
  for (const char* line : {"a *:* rwm", "c *:* m", "b *:5 r", "a 1:3 r"}) {
    auto rules = parse_devices_list(std::string("c 1:3 r\n") + line + "\n");
    ASSERT_FALSE(rules) << line;
    EXPECT_EQ(rules.error().code(), Errc::Lost) << line;
    EXPECT_NE(rules.error().what().find(line), std::string::npos);
  }
}

TEST(DevicesList, OfUnknownFormIsCorrupt) {
  for (const char* line : {"c 1:3", "c 1:3 x", "d 1:3 r", "c 1 r", "c 1:3:4 r", "c -1:3 r", " ",
                           "c 1:3 r r", "c 99999999999:1 r", "c 1: r", "c :1 r", "cc 1:3 r"}) {
    auto rules = parse_devices_list(line);
    ASSERT_FALSE(rules) << line;
    EXPECT_EQ(rules.error().code(), Errc::Corrupt) << line;
  }
  EXPECT_EQ(parse_devices_list("c 1:3 \x1b[2J").error().what().find('\x1b'), std::string::npos);
}

TEST(DevicesList, ReadsBackEveryRule) {
  EXPECT_TRUE(rc::check([] {
    auto count = *rc::gen::inRange(0, 20);
    std::vector<AclRule> rules;
    std::string text;
    for (int i = 0; i < count; ++i) {
      int bits = *rc::gen::inRange(1, 8);
      AclRule rule{.type = *rc::gen::element(DeviceType::Block, DeviceType::Char),
                   .major = *rc::gen::inRange<uint32_t>(0, 4096),
                   .minor = std::nullopt,
                   .access = {(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0}};
      if (*rc::gen::arbitrary<bool>())
        rule.minor = *rc::gen::inRange<uint32_t>(0, 1U << 20);
      rules.push_back(rule);
      text += to_string(rule) + "\n";
    }
    std::ranges::sort(rules);
    RC_ASSERT(parse_devices_list(text).value() == rules);
  }));
}

TEST(DevicesList, SurvivesAnything) {
  EXPECT_TRUE(rc::check([](const std::string& text) { (void)parse_devices_list(text); }));
}

constexpr const char* kHybrid =
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "36 31 0:33 / /sys/fs/cgroup/devices rw,relatime shared:7 - cgroup cgroup rw,devices\n"
    "40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

TEST(CgroupMounts, OfAHybridHostAreBoth) {
  auto mounts = parse_cgroup_mounts(kHybrid);
  EXPECT_EQ(mounts.v2, "/sys/fs/cgroup/unified");
  EXPECT_EQ(mounts.v1_devices, "/sys/fs/cgroup/devices");
}

TEST(CgroupMounts, OfAUnifiedHostAreV2Alone) {
  auto mounts = parse_cgroup_mounts(
      "30 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 "
      "rw,nsdelegate,memory_recursiveprot\n");
  EXPECT_EQ(mounts.v2, "/sys/fs/cgroup");
  EXPECT_EQ(mounts.v1_devices, "");
}

TEST(CgroupMounts, FindsTheDevicesControllerAmongCoMounted) {
  auto mounts =
      parse_cgroup_mounts("36 31 0:33 / /cg/a\\040b rw - cgroup cgroup rw,freezer,devices\n");
  EXPECT_EQ(mounts.v2, "");
  EXPECT_EQ(mounts.v1_devices, "/cg/a b");
  EXPECT_EQ(parse_cgroup_mounts("36 31 0:33 / /cg rw - cgroup cgroup rw,name=devices\n").v1_devices,
            "");
}

TEST(CgroupMounts, PreferWhatIsWritable) {
  auto mounts = parse_cgroup_mounts(
      "1 1 0:1 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw\n"
      "2 1 0:1 / /run/cgroup2 rw,nosuid - cgroup2 cgroup2 rw\n"
      "3 1 0:1 / /else rw,nosuid - cgroup2 cgroup2 ro\n");
  EXPECT_EQ(mounts.v2, "/run/cgroup2");
  EXPECT_EQ(parse_cgroup_mounts("1 1 0:1 / /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n").v2,
            "/sys/fs/cgroup");
}

TEST(CgroupMounts, AreEmptyWhereThereAreNone) {
  for (const char* text :
       {"", "\n\n", "1 2 3", " - ", "a b c d e f - ", "1 1 0:1 / /x rw - cgroup2"}) {
    auto mounts = parse_cgroup_mounts(text);
    EXPECT_EQ(mounts.v2, "") << text;
    EXPECT_EQ(mounts.v1_devices, "") << text;
  }
}

TEST(CgroupMounts, SurviveAnything) {
  EXPECT_TRUE(rc::check([](const std::string& text) { (void)parse_cgroup_mounts(text); }));
  for (const char* path : {"\\", "\\0", "\\04", "\\999", "\\1234"})
    (void)parse_cgroup_mounts(std::string("1 1 0:1 / ") + path + " rw - cgroup2 c rw\n");
}

TEST(CgroupMounts, OfThisMachineCanBeRead) {
  EXPECT_TRUE(find_cgroup_mounts());
}

TEST(CgroupNames, ThatWouldLeaveTheParentAreRefused) {
  std::string long_name(256, 'x');
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("a/b"), std::string("a\nb"),
        std::string("a\0b", 3), long_name})
    EXPECT_EQ(Cgroup::create(CgroupVersion::V2, "/nonexistent", "", name).error().code(),
              Errc::Invalid);
  for (const char* parent : {"..", "a/../b", "/a/.", "a\nb"})
    EXPECT_EQ(Cgroup::create(CgroupVersion::V2, "/nonexistent", parent, "x").error().code(),
              Errc::Invalid);
  EXPECT_EQ(Cgroup::create(CgroupVersion::V2, "", "", "x").error().code(), Errc::Unsupported);
}

TEST(CgroupOnAPlainFolder, IsMadeOpenedAndRemoved) {
  char mount[] = "/tmp/tenure-cgroup-XXXXXX";
  ASSERT_NE(mkdtemp(mount), nullptr);
  auto made = Cgroup::create(CgroupVersion::V2, mount, "/slice/sub/", "guest");
  ASSERT_TRUE(made) << made.error().what();
  EXPECT_EQ(made->path(), std::string(mount) + "/slice/sub/guest");
  EXPECT_EQ(made->processes().error().code(), Errc::NotFound);
  EXPECT_TRUE(made->remove());
  EXPECT_EQ(made->remove().error().code(), Errc::NotFound);
  std::filesystem::remove_all(mount);
}

TEST(FenceProbes, SayWhatIsNotMounted) {
  EXPECT_EQ(probe_fence_v2({}).error().what(), "cgroup v2 is not mounted");
  EXPECT_EQ(probe_fence_v1({}).error().what(),
            "the devices controller of cgroup v1 is not mounted");
}

}  // namespace
}  // namespace tenure::kernel
