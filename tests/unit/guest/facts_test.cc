// SPDX-License-Identifier: Apache-2.0
// What is looked up of the host, and the sockets that are made for a guest.
#include "guest/facts.h"

#include <sys/stat.h>

#include <algorithm>

#include "base/unix_socket.h"
#include "guest/plan.h"
#include "guest/wiring.h"
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
  qemu::Wiring wiring{.monitor_fd = 5};
  wiring.socket_fds["channel0"] = sockets->at("channel0").get();
  wiring.interfaces["net0"] = {.tap_fds = {7, 8}, .vhost_fds = {9}};
  EXPECT_EQ(passed_fds(wiring), (std::vector<int>{5, 7, 8, 9, sockets->at("channel0").get()}));
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
