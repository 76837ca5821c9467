// SPDX-License-Identifier: Apache-2.0
// How a virtiofsd is called, and what QEMU is told of it.
#include "qemu/helper.h"

#include <gtest/gtest.h>
#include <linux/capability.h>

#include <algorithm>
#include <string>
#include <vector>

#include "domain/change.h"
#include "domain/domain.h"
#include "qemu/command_line.h"
#include "qemu/hotplug.h"

namespace tenure::qemu {
namespace {

using Argv = std::vector<std::string>;

domain::Domain served_guest() {
  auto d = domain::parse_complete(
      "<domain type='qemu'><name>g</name><memory>65536</memory><memoryBacking><access "
      "mode='shared'/></memoryBacking><os><type machine='q35'>hvm</type></os><devices>"
      "<filesystem type='mount'><driver type='virtiofs' queue='64'/><source dir='/srv/a'/>"
      "<target dir='a'/></filesystem></devices></domain>",
      "g.xml");
  EXPECT_TRUE(d) << d.error().what();
  return d ? std::move(*d) : domain::Domain{};
}

TEST(Helper, IsCalledByOptionsOfBothDaemons) {
  domain::Filesystem fs;
  fs.dir = "/srv/a,b";
  EXPECT_EQ(virtiofsd_command(fs, "/v", 7, "/dev/folder"),
            (Argv{"/v", "--fd=7", "-o", "source=/dev/folder,modcaps=-mknod", "--rlimit-nofile=0"}));
  fs.cache = "none";
  fs.sandbox = "chroot";
  fs.xattr = true;
  fs.posix_lock = false;
  fs.flock = true;
  fs.threads = 8;
  EXPECT_EQ(virtiofsd_command(fs, "/v", 7, "/dev/folder"),
            (Argv{"/v", "--fd=7", "-o",
                  "source=/dev/folder,modcaps=-mknod,cache=none,sandbox=chroot,xattr,no_posix_lock,"
                  "flock",
                  "--rlimit-nofile=0", "--thread-pool-size=8"}));
}

TEST(Helper, ServesWithLessThanItStartsWith) {
  const uint64_t admin = uint64_t{1} << CAP_SYS_ADMIN, mknod = uint64_t{1} << CAP_MKNOD;
  EXPECT_EQ(kVirtiofsd.serve_capabilities & ~kVirtiofsd.start_capabilities, 0U);
  EXPECT_NE(kVirtiofsd.start_capabilities & admin, 0U);
  EXPECT_EQ(kVirtiofsd.serve_capabilities & (admin | mknod), 0U);
  EXPECT_EQ(kVirtiofsd.start_capabilities & mknod, 0U);
}

TEST(Helper, QemuGetsTheConnectionAlone) {
  const domain::Domain d = served_guest();
  auto argv = command_line(d, {.socket_fds = {{"fs0", "9"}}});
  ASSERT_TRUE(argv) << argv.error().what();
  EXPECT_NE(std::ranges::find(*argv, "socket,id=charfs0,fd=9"), argv->end());
  auto has_folder = [](const std::string& word) { return word.find("/srv/a") != word.npos; };
  EXPECT_TRUE(std::ranges::none_of(*argv, has_folder));
  EXPECT_FALSE(command_line(d, {})) << "nobody serves it";
  EXPECT_TRUE(command_line(d, {.preview = true}));
}

TEST(Helper, ARunningQemuGetsItByName) {
  const domain::Domain d = served_guest();
  const domain::Domain device = domain::only_device(d, "fs0");
  auto commands = plug_commands(device, d, {.socket_fds = {{"fs0", "socket-fs0-0"}}});
  ASSERT_TRUE(commands) << commands.error().what();
  ASSERT_EQ(commands->size(), 2U);
  EXPECT_EQ(commands->front().name, "chardev-add");
  const auto& data = commands->front().arguments.at("backend").at("data");
  EXPECT_EQ(data.at("addr").at("type"), "fd");
  EXPECT_EQ(data.at("addr").at("data").at("str"), "socket-fs0-0");
  EXPECT_EQ(data.at("server"), false);
}

}  // namespace
}  // namespace tenure::qemu
