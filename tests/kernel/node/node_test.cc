// SPDX-License-Identifier: Apache-2.0
// Facts about real paths and devices of this host.
#include "kernel/node.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <filesystem>

#include "base/file.h"

namespace tenure::kernel {
namespace {

class Node : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "tenure-node-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    dir_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::string dir_;
};

TEST_F(Node, CharDeviceThroughASymlink) {
  std::string link = dir_ + "/link";
  std::filesystem::create_symlink("/dev/null", link);
  NodeFacts facts = node_facts(link).value();
  EXPECT_EQ(facts.path, link);
  EXPECT_EQ(facts.type, FileType::Char);
  EXPECT_EQ(facts.rdev, (DeviceNumber{DeviceType::Char, 1, 3}));
}

TEST_F(Node, RegularFileDirectoryFifoSocket) {
  std::string file = dir_ + "/file";
  ASSERT_TRUE(write_file_atomic(file, "12345"));
  NodeFacts facts = node_facts(file).value();
  struct stat expected{};
  ASSERT_EQ(stat(file.c_str(), &expected), 0);
  EXPECT_EQ(facts.type, FileType::Regular);
  EXPECT_EQ(facts.size, 5U);
  EXPECT_EQ(facts.ino, expected.st_ino);
  EXPECT_EQ(facts.dev, expected.st_dev);
  EXPECT_FALSE(facts.rdev);
  EXPECT_EQ(node_facts(dir_)->type, FileType::Directory);
  std::string fifo = dir_ + "/fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(node_facts(fifo)->type, FileType::Fifo);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  fmt::format_to_n(address.sun_path, sizeof address.sun_path - 1, "{}/socket", dir_);
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(node_facts(address.sun_path)->type, FileType::Socket);
}

TEST_F(Node, MissingPathIsNotFound) {
  Result<NodeFacts> facts = node_facts(dir_ + "/nowhere");
  ASSERT_FALSE(facts);
  EXPECT_EQ(facts.error().code(), Errc::NotFound);
  EXPECT_NE(facts.error().what().find("/nowhere"), std::string::npos);
}

TEST_F(Node, BlockDeviceTellsItsSize) {
  Result<UniqueFd> control = open_file("/dev/loop-control", O_RDWR);
  if (!control)
    GTEST_SKIP() << "no loop devices: " << control.error().what();
  std::string image = dir_ + "/image";
  UniqueFd file = open_file(image, O_RDWR | O_CREAT).value();
  constexpr off_t kBytes = 3 * 1024 * 1024;
  ASSERT_EQ(ftruncate(file.get(), kBytes), 0);
  int number = ioctl(control->get(), LOOP_CTL_GET_FREE);
  if (number < 0)
    GTEST_SKIP() << "no free loop device: " << strerror(errno);
  std::string path = fmt::format("/dev/loop{}", number);
  UniqueFd loop = open_file(path, O_RDWR).value();
  ASSERT_EQ(ioctl(loop.get(), LOOP_SET_FD, file.get()), 0) << strerror(errno);
  NodeFacts facts = node_facts(path).value();
  // The reader without rights uses sysfs, to the same result.
  pid_t child = fork();
  if (child == 0) {
    Result<NodeFacts> seen = setuid(65534) == 0 ? node_facts(path) : fail(Errc::Io, "setuid");
    _exit(seen && seen->size == static_cast<uint64_t>(kBytes) ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  ASSERT_EQ(ioctl(loop.get(), LOOP_CLR_FD), 0);
  EXPECT_EQ(facts.type, FileType::Block);
  EXPECT_EQ(facts.rdev->type, DeviceType::Block);
  EXPECT_EQ(facts.rdev->minor, static_cast<uint32_t>(number));
  EXPECT_EQ(facts.size, static_cast<uint64_t>(kBytes));
  EXPECT_EQ(status, 0) << "size by sysfs differs";
}

TEST_F(Node, DevicePathOfThisHost) {
  EXPECT_EQ(device_path({DeviceType::Char, 1, 3}).value(), "/dev/null");
  EXPECT_EQ(device_path({DeviceType::Char, 4000, 3}).error().code(), Errc::NotFound);
}

TEST_F(Node, CharDeviceHasNoSlaves) {
  EXPECT_TRUE(device_mapper_slaves({DeviceType::Char, 1, 3}).value().empty());
}

}  // namespace
}  // namespace tenure::kernel
