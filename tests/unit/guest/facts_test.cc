// SPDX-License-Identifier: Apache-2.0
// What is looked up of the host, and the sockets that are made for a guest.
#include "guest/plan/facts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/unix_socket.h"
#include "guest/plan/plan.h"
#include "guest/run/wiring.h"
#include "kernel/file_acl.h"
#include "tests/unit/guest/folder.h"

namespace tenure::guest {
namespace {

class FactsTest : public test::FolderTest {
 protected:
  domain::Disk disk(const std::string& path) {
    domain::Disk disk;
    disk.info.alias = "virtio-disk0";
    disk.target = "vda";
    disk.path = path;
    return disk;
  }
  domain::Chardev channel(const std::string& path) {
    domain::Chardev chardev;
    chardev.kind = domain::ChardevKind::Unix;
    chardev.info.alias = "channel0";
    chardev.listen = true;
    chardev.path = path;
    return chardev;
  }
  domain::Domain domain;
  HostOptions options;
};

TEST_F(FactsTest, ABaseDeviceThatTheHostLacksIsLeftOut) {
  options.base_devices = {"/dev/null", "/dev/no-such-node"};
  auto facts = look_up(domain, options, Missing::Refuse);
  ASSERT_TRUE(facts);
  ASSERT_NE(facts->node("/dev/null"), nullptr);
  EXPECT_EQ(facts->node("/dev/null")->rdev, (DeviceNumber{DeviceType::Char, 1, 3}));
  EXPECT_EQ(facts->node("/dev/no-such-node"), nullptr);
  EXPECT_TRUE(facts->notes.empty());
}

TEST_F(FactsTest, AMissingImageRefusesAStartAndIsANoteOfADryRun) {
  domain.disks = {disk(folder + "/gone.img")};
  auto refused = look_up(domain, options, Missing::Refuse);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().what().find("disk vda"), std::string::npos) << refused.error().what();
  EXPECT_NE(refused.error().what().find("gone.img"), std::string::npos);
  auto noted = look_up(domain, options, Missing::Note);
  ASSERT_TRUE(noted);
  ASSERT_EQ(noted->notes.size(), 1U);
  EXPECT_NE(noted->notes[0].find("gone.img"), std::string::npos);
}

TEST_F(FactsTest, AFileIsNoBlockDevice) {
  put(folder + "/a.img", "x");
  domain.disks = {disk(folder + "/a.img")};
  domain.disks[0].kind = domain::SourceKind::Block;
  auto facts = look_up(domain, options, Missing::Refuse);
  ASSERT_FALSE(facts);
  EXPECT_EQ(facts.error().code(), Errc::Invalid);
}

TEST_F(FactsTest, FoldersThatOthersMayNotSearchAreNamedOutermostFirst) {
  put(folder + "/closed/open/inner/a.img", "x");
  chmod((folder + "/closed").c_str(), 0700);
  chmod((folder + "/closed/open").c_str(), 0755);
  chmod((folder + "/closed/open/inner").c_str(), 0750);
  std::string path = folder + "/closed/open/inner/a.img";
  domain.disks = {disk(path)};
  options.uid = 70000;
  auto facts = look_up(domain, options, Missing::Refuse);
  ASSERT_TRUE(facts) << facts.error().what();
  std::vector<std::string> closed = facts->closed_folders[path];
  std::erase_if(closed, [&](const std::string& f) { return !f.starts_with(folder); });
  EXPECT_EQ(closed, (std::vector<std::string>{folder + "/closed", folder + "/closed/open/inner"}));
}

TEST_F(FactsTest, TheWayBehindASymlinkIsWalkedToo) {
  put(folder + "/secret/a.img", "x");
  chmod((folder + "/secret").c_str(), 0700);
  std::filesystem::create_symlink(folder + "/secret/a.img", folder + "/link.img");
  domain.disks = {disk(folder + "/link.img")};
  options.uid = 70000;
  auto facts = look_up(domain, options, Missing::Refuse);
  ASSERT_TRUE(facts) << facts.error().what();
  const auto& closed = facts->closed_folders[folder + "/link.img"];
  std::string real = std::filesystem::canonical(folder + "/secret").string();
  EXPECT_NE(std::ranges::find(closed, real), closed.end());
}

// The uid of the guest may search a folder by an entry of its own, which another device was given
// and which this one shares; and may be kept out by one where everybody else gets in; a mask counts
// as well. acl(5).
TEST_F(FactsTest, AclEntriesDecideOverModeBits) {
  constexpr uint32_t kUid = 70000;
  put(folder + "/let-in/shut-out/masked/a.img", "x");
  auto set = [&](const std::string& name, mode_t mode) {
    chmod(name.c_str(), mode);
    auto fd = open_file(name, O_PATH);
    return fd ? kernel::set_search_acl(fd->get(), kUid) : Result<kernel::Outcome>(fail(fd.error()));
  };
  if (auto done = set(folder + "/let-in", 0700); !done)
    GTEST_SKIP() << done.error().what();
  ASSERT_TRUE(set(folder + "/let-in/shut-out", 0755));
  std::string text = "setfacl -m u:70000:--- " + folder + "/let-in/shut-out";
  if (system(text.c_str()) != 0)
    GTEST_SKIP() << "no setfacl";
  ASSERT_TRUE(set(folder + "/let-in/shut-out/masked", 0755));
  // With an ACL the group bits of the mode are the mask.
  chmod((folder + "/let-in/shut-out/masked").c_str(), 0705);
  std::string path = folder + "/let-in/shut-out/masked/a.img";
  domain.disks = {disk(path)};
  options.uid = kUid;
  auto facts = look_up(domain, options, Missing::Refuse);
  ASSERT_TRUE(facts) << facts.error().what();
  std::vector<std::string> closed = facts->closed_folders[path];
  std::erase_if(closed, [&](const std::string& f) { return !f.starts_with(folder); });
  EXPECT_EQ(closed, (std::vector<std::string>{folder + "/let-in", folder + "/let-in/shut-out",
                                              folder + "/let-in/shut-out/masked"}));
}

TEST_F(FactsTest, ADeviceBehindASymlinkIsInTheGuestsDevWhereQemuLooks) {
  std::filesystem::create_symlink("/dev/zero", folder + "/zero");
  std::filesystem::create_symlink("zero", folder + "/again");
  std::filesystem::create_directory_symlink("/dev", folder + "/devices");
  options.uid = 70000;
  for (const char* name : {"/zero", "/again", "/devices/zero"}) {
    domain::Chardev serial;
    serial.kind = domain::ChardevKind::Dev;
    serial.info.alias = "serial0";
    serial.path = folder + name;
    domain.chardevs = {serial};
    auto facts = look_up(domain, options, Missing::Refuse);
    ASSERT_TRUE(facts) << facts.error().what();
    EXPECT_EQ(facts->dev_name(serial.path), "/dev/zero");
    Plan plan = make_plan(domain, *facts, options);
    EXPECT_TRUE(std::ranges::any_of(plan.nodes, [](auto& n) { return n.path == "/dev/zero"; }));
    EXPECT_TRUE(std::ranges::none_of(plan.nodes, [&](auto& n) { return n.path == serial.path; }));
  }
}

TEST_F(FactsTest, ADeviceNodeOutsideOfDevIsRefusedAtOnce) {
  std::string node = folder + "/node";
  if (mknod(node.c_str(), S_IFCHR | 0600, makedev(1, 5)) < 0)
    GTEST_SKIP() << "mknod: " << strerror(errno);
  domain::Rng rng;
  rng.info.alias = "rng0";
  rng.backend = "random";
  rng.path = node;
  domain.rngs = {rng};
  options.uid = 70000;
  auto facts = look_up(domain, options, Missing::Refuse);
  ASSERT_FALSE(facts);
  EXPECT_EQ(facts.error().code(), Errc::Unsupported);
  EXPECT_NE(facts.error().what().find("below /dev"), std::string::npos) << facts.error().what();
}

TEST_F(FactsTest, WithoutAUidOfItsOwnNoFolderIsClosed) {
  put(folder + "/secret/a.img", "x");
  chmod((folder + "/secret").c_str(), 0700);
  domain.disks = {disk(folder + "/secret/a.img")};
  auto facts = look_up(domain, options, Missing::Refuse);
  ASSERT_TRUE(facts);
  EXPECT_TRUE(facts->closed_folders.empty());
}

TEST_F(FactsTest, SocketsAreBoundAndTakenAway) {
  domain.chardevs = {channel(folder + "/agent.sock")};
  auto sockets = bind_sockets(domain, options);
  ASSERT_TRUE(sockets);
  ASSERT_EQ(sockets->size(), 1U);
  EXPECT_TRUE(connect_unix(folder + "/agent.sock"));
  RunSeams seams(domain, options, {}, nullptr);
  EXPECT_EQ(passed_fds(seams, *sockets, 5), (std::vector<int>{5, sockets->at("channel0").get()}));
  EXPECT_TRUE(bind_sockets(domain, options)) << "one of an earlier run is replaced";
  unlink_sockets(domain, options);
  EXPECT_FALSE(std::filesystem::exists(folder + "/agent.sock"));
}

// A definition names the path; what is there may be anybody's.
TEST_F(FactsTest, NothingButASocketIsEverRemoved) {
  put(folder + "/precious", "data");
  domain.chardevs = {channel(folder + "/precious")};
  auto sockets = bind_sockets(domain, options);
  ASSERT_FALSE(sockets);
  EXPECT_EQ(sockets.error().code(), Errc::Exists);
  EXPECT_NE(sockets.error().what().find("channel0"), std::string::npos);
  unlink_sockets(domain, options);
  EXPECT_EQ(*read_file(folder + "/precious", 100), "data");
}

}  // namespace
}  // namespace tenure::guest
