// SPDX-License-Identifier: Apache-2.0
// The guest's /dev: made detached, entered by a child, changed while it runs; the host's stays as
// it is.
#include "kernel/private_dev.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <functional>

namespace tenure::kernel {
namespace {

constexpr DeviceNumber kDisk{DeviceType::Block, 7, 99};
constexpr uint32_t kUid = 64123, kGid = 64124;

DevNode disk(std::string path) {
  return {std::move(path), kDisk, kUid, kGid, 0600};
}

class PrivateDevTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0)
      GTEST_SKIP() << "needs root: mounts a tmpfs and makes device nodes";
    auto built = build_private_dev({{"/dev/null", {DeviceType::Char, 1, 3}, 0, 0, 0666}});
    if (!built)
      GTEST_SKIP() << "cannot build a private /dev: " << built.error().what();
    tree = std::move(*built);
  }

  // "b 7:99 64123:64124 600", or the errno.
  std::string at(const char* relative) const {
    struct stat st{};
    if (fstatat(tree.dev.get(), relative, &st, AT_SYMLINK_NOFOLLOW) < 0)
      return strerrorname_np(errno);
    auto rdev = device_of(st.st_mode, st.st_rdev);
    char text[100];
    snprintf(text, sizeof text, "%s %u:%u %o", rdev ? to_string(*rdev).c_str() : "none", st.st_uid,
             st.st_gid, st.st_mode & 07777);
    return text;
  }

  PrivateDev tree;
};

// A process that sits in the tree until it is killed.
class Guest {
 public:
  explicit Guest(const PrivateDev& tree, bool enter = true) {
    int ready[2] = {-1, -1};
    if (pipe2(ready, O_CLOEXEC) < 0)
      return;
    pid = fork();
    if (pid == 0) {
      const char* step = "";
      int error = enter ? enter_private_dev(tree, &step) : 0;
      (void)!write(ready[1], &error, sizeof error);
      for (;;) pause();
    }
    close(ready[1]);
    (void)!read(ready[0], &error_of_enter, sizeof error_of_enter);
    close(ready[0]);
  }
  ~Guest() {
    if (pid <= 0)
      return;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
  pid_t pid = -1;
  int error_of_enter = -1;
};

TEST_F(PrivateDevTest, NodesAreMadeWithTheirFolders) {
  auto built = build_private_dev({disk("/dev/vg/deep/root"), disk("/dev/sdz")});
  ASSERT_TRUE(built) << built.error().what();
  tree = std::move(*built);
  EXPECT_EQ(at("vg/deep/root"), "b 7:99 64123:64124 600");
  EXPECT_EQ(at("sdz"), "b 7:99 64123:64124 600");
  EXPECT_EQ(at("vg"), "none 0:0 755");
  EXPECT_EQ(at("null"), "ENOENT");
}

TEST_F(PrivateDevTest, TheUmaskDoesNotMatter) {
  mode_t before = umask(0777);
  auto outcome = add_node(tree.dev.get(), disk("/dev/vg/root"));
  umask(before);
  ASSERT_TRUE(outcome) << outcome.error().what();
  EXPECT_EQ(at("vg"), "none 0:0 755");
  EXPECT_EQ(at("vg/root"), "b 7:99 64123:64124 600");
}

TEST_F(PrivateDevTest, PathsThatLeadElsewhereAreRefused) {
  for (const char* path :
       {"/dev", "/dev/", "/etc/x", "dev/x", "/dev/../etc/x", "/dev/a/../x", "/dev/./x", "/dev//x",
        "/dev/x/", "/dev/shm/x", "/dev/pts/3", "/dev/fd", "/dev/stdin", "/device/x", ""}) {
    auto added = add_node(tree.dev.get(), disk(path));
    ASSERT_FALSE(added) << path;
    EXPECT_EQ(added.error().code(), Errc::Invalid) << path;
    EXPECT_FALSE(remove_node(tree.dev.get(), disk(path))) << path;
    EXPECT_FALSE(build_private_dev({disk(path)})) << path;
  }
  EXPECT_FALSE(add_node(tree.dev.get(), disk("/dev/" + std::string(5000, 'x'))));
  EXPECT_FALSE(add_node(tree.dev.get(), disk(std::string("/dev/a\0b", 8))));
}

TEST_F(PrivateDevTest, AddSaysWhetherAnythingChanged) {
  int dev = tree.dev.get();
  EXPECT_EQ(add_node(dev, disk("/dev/sdz")), Outcome::Changed);
  EXPECT_EQ(add_node(dev, disk("/dev/sdz")), Outcome::Unchanged);
  DevNode for_reading = disk("/dev/sdz");
  for_reading.mode = 0400;
  EXPECT_EQ(add_node(dev, for_reading), Outcome::Changed);
  EXPECT_EQ(at("sdz"), "b 7:99 64123:64124 400");
}

TEST_F(PrivateDevTest, AnotherNodeOfThatNameIsLeftAlone) {
  int dev = tree.dev.get();
  DevNode other = disk("/dev/null");
  auto added = add_node(dev, other);
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code(), Errc::Exists);
  EXPECT_EQ(added.error().what(), "device node /dev/null: wanted b 7:99, but c 1:3 is there");
  auto removed = remove_node(dev, other);
  ASSERT_FALSE(removed);
  EXPECT_EQ(removed.error().code(), Errc::Exists);
  EXPECT_EQ(at("null"), "c 1:3 0:0 666");
}

TEST_F(PrivateDevTest, SymlinksAreNotFollowed) {
  ASSERT_EQ(symlinkat("/etc", tree.dev.get(), "vg"), 0);
  EXPECT_FALSE(add_node(tree.dev.get(), disk("/dev/vg/root")));
  ASSERT_EQ(symlinkat("null", tree.dev.get(), "sdz"), 0);
  auto added = add_node(tree.dev.get(), disk("/dev/sdz"));
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code(), Errc::Exists);
}

TEST_F(PrivateDevTest, RemoveTakesTheNodeAndItsEmptyFolders) {
  int dev = tree.dev.get();
  ASSERT_TRUE(add_node(dev, disk("/dev/vg/deep/root")));
  ASSERT_TRUE(add_node(dev, disk("/dev/vg/swap")));
  EXPECT_EQ(remove_node(dev, disk("/dev/vg/deep/root")), Outcome::Changed);
  EXPECT_EQ(at("vg/deep"), "ENOENT");
  EXPECT_EQ(at("vg/swap"), "b 7:99 64123:64124 600");
  EXPECT_EQ(remove_node(dev, disk("/dev/vg/deep/root")), Outcome::Unchanged);
  EXPECT_EQ(remove_node(dev, disk("/dev/vg/swap")), Outcome::Changed);
  EXPECT_EQ(at("vg"), "ENOENT");
}

TEST_F(PrivateDevTest, ARunningGuestsDevIsChangedAndTheHostsIsNot) {
  Guest guest(tree);
  ASSERT_EQ(guest.error_of_enter, 0);
  auto dev = open_guest_dev(guest.pid);
  ASSERT_TRUE(dev) << dev.error().what();
  EXPECT_EQ(add_node(dev->get(), disk("/dev/tenure-test-node")), Outcome::Changed);
  struct stat st{};
  std::string inside = "/proc/" + std::to_string(guest.pid) + "/root" + "/dev/tenure-test-node";
  EXPECT_EQ(stat(inside.c_str(), &st), 0);
  EXPECT_EQ(stat("/dev/tenure-test-node", &st), -1);
  EXPECT_EQ(remove_node(dev->get(), disk("/dev/tenure-test-node")), Outcome::Changed);
  EXPECT_EQ(stat(inside.c_str(), &st), -1);
}

TEST_F(PrivateDevTest, TheListHasEveryNodeAndNothingElse) {
  auto built = build_private_dev({disk("/dev/vg/deep/root"), disk("/dev/sdz")});
  ASSERT_TRUE(built) << built.error().what();
  tree = std::move(*built);
  ASSERT_EQ(symlinkat("sdz", tree.dev.get(), "link"), 0);
  auto nodes = list_nodes(tree.dev.get());
  ASSERT_TRUE(nodes) << nodes.error().what();
  ASSERT_EQ(nodes->size(), 2U);
  EXPECT_EQ((*nodes)[0].path, "/dev/sdz");
  EXPECT_EQ((*nodes)[1].path, "/dev/vg/deep/root");
  for (const DevNode& node : *nodes) {
    EXPECT_EQ(node.rdev, disk("").rdev);
    EXPECT_EQ(node.uid, disk("").uid);
    EXPECT_EQ(node.mode, disk("").mode);
  }
}

TEST_F(PrivateDevTest, TheHostsOwnDevIsNeverOpened) {
  Guest guest(tree, false);
  auto dev = open_guest_dev(guest.pid);
  ASSERT_FALSE(dev);
  EXPECT_EQ(dev.error().code(), Errc::Invalid);
  auto gone = open_guest_dev(1 << 30);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code(), Errc::NotFound);
}

TEST_F(PrivateDevTest, TheStepThatFailsIsNamed) {
  PrivateDev broken;
  broken.dev.reset(open("/etc", O_PATH | O_DIRECTORY | O_CLOEXEC));  // not a detached mount
  pid_t pid = fork();
  if (pid == 0) {
    const char* step = "";
    int error = enter_private_dev(broken, &step);
    _exit(error == EINVAL && strcmp(step, "mount the private /dev") == 0 ? 0 : 1);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST_F(PrivateDevTest, ANodeCostsMicroseconds) {
  constexpr int kRounds = 200;
  auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < kRounds; ++i) {
    ASSERT_TRUE(add_node(tree.dev.get(), disk("/dev/sdz")));
    ASSERT_TRUE(remove_node(tree.dev.get(), disk("/dev/sdz")));
  }
  auto took = std::chrono::steady_clock::now() - begin;
  auto us = std::chrono::duration_cast<std::chrono::microseconds>(took).count() / (2 * kRounds);
  RecordProperty("us_per_change", static_cast<int>(us));
  EXPECT_LT(us, 1000) << "sanitized and on a busy machine";
}

}  // namespace
}  // namespace tenure::kernel
