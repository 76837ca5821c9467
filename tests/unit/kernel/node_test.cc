// SPDX-License-Identifier: Apache-2.0
// Device mapper stacks and device names, read from a folder that looks like sysfs.
#include "kernel/node.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/file.h"

namespace tenure::kernel {
namespace {

class FakeSysfs : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "tenure-sysfs-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  std::string dir(DeviceNumber dev) const {
    return fmt::format("{}/dev/{}/{}:{}", root_, dev.type == DeviceType::Block ? "block" : "char",
                       dev.major, dev.minor);
  }
  void put(const std::string& path, const std::string& text) {
    ASSERT_TRUE(make_dirs(path.substr(0, path.rfind('/'))));
    ASSERT_TRUE(write_file_atomic(path, text));
  }
  void add(DeviceNumber dev, const std::string& name, bool device_mapper) {
    put(dir(dev) + "/uevent",
        fmt::format("MAJOR={}\nMINOR={}\nDEVNAME={}\nDEVTYPE=disk\n", dev.major, dev.minor, name));
    put(dir(dev) + "/dev", fmt::format("{}:{}\n", dev.major, dev.minor));
    ASSERT_TRUE(make_dirs(dir(dev) + "/slaves"));
    if (device_mapper) {
      ASSERT_TRUE(make_dirs(dir(dev) + "/dm"));
    }
  }
  void put_below(DeviceNumber upper, DeviceNumber lower) {
    std::string link = fmt::format("{}/slaves/{}-{}", dir(upper), lower.major, lower.minor);
    std::filesystem::create_directory_symlink(dir(lower), link);
  }

  std::string root_;
};

DeviceNumber block(uint32_t major, uint32_t minor) {
  return {DeviceType::Block, major, minor};
}

TEST_F(FakeSysfs, ListsSlavesOfAllLevelsEachOnce) {
  add(block(253, 0), "dm-0", true);
  add(block(253, 1), "dm-1", true);
  add(block(8, 1), "sda1", false);
  add(block(8, 16), "sdb", false);
  put_below(block(253, 0), block(253, 1));
  put_below(block(253, 0), block(8, 16));
  put_below(block(253, 1), block(8, 1));
  put_below(block(253, 1), block(8, 16));
  Result<std::vector<Slave>> slaves = device_mapper_slaves(block(253, 0), root_);
  ASSERT_TRUE(slaves) << slaves.error().what();
  std::vector<std::string> seen;
  for (const Slave& slave : *slaves) seen.push_back(to_string(slave.dev) + " " + slave.path);
  EXPECT_EQ(seen,
            (std::vector<std::string>{"b 253:1 /dev/dm-1", "b 8:1 /dev/sda1", "b 8:16 /dev/sdb"}));
}

TEST_F(FakeSysfs, OtherDevicesHaveNoSlaves) {
  add(block(9, 0), "md0", false);
  add(block(8, 1), "sda1", false);
  put_below(block(9, 0), block(8, 1));
  EXPECT_TRUE(device_mapper_slaves(block(9, 0), root_).value().empty());
  EXPECT_TRUE(device_mapper_slaves(block(7, 7), root_).value().empty());
  EXPECT_TRUE(device_mapper_slaves({DeviceType::Char, 10, 236}, root_).value().empty());
}

TEST_F(FakeSysfs, StackThatIsTooDeepIsRefused) {
  for (uint32_t level = 0; level < 20; ++level)
    add(block(253, level), fmt::format("dm-{}", level), true);
  for (uint32_t level = 0; level < 19; ++level) put_below(block(253, level), block(253, level + 1));
  Result<std::vector<Slave>> slaves = device_mapper_slaves(block(253, 0), root_);
  ASSERT_FALSE(slaves);
  EXPECT_EQ(slaves.error().code(), Errc::Invalid);
  EXPECT_NE(slaves.error().what().find("deeper than 16"), std::string::npos);
}

TEST_F(FakeSysfs, RingOfDevicesEnds) {
  add(block(253, 0), "dm-0", true);
  add(block(253, 1), "dm-1", true);
  put_below(block(253, 0), block(253, 1));
  put_below(block(253, 1), block(253, 0));
  Result<std::vector<Slave>> slaves = device_mapper_slaves(block(253, 0), root_);
  ASSERT_TRUE(slaves);
  EXPECT_EQ(slaves->size(), 2U);
}

TEST_F(FakeSysfs, DevicePathIsTheKernelsName) {
  DeviceNumber tun{DeviceType::Char, 10, 200};
  put(dir(tun) + "/uevent", "MAJOR=10\nMINOR=200\nDEVNAME=net/tun\n");
  EXPECT_EQ(device_path(tun, root_).value(), "/dev/net/tun");
}

TEST_F(FakeSysfs, DevicePathNeverLeavesDev) {
  DeviceNumber dev{DeviceType::Char, 10, 1};
  put(dir(dev) + "/uevent", "DEVNAME=../etc/shadow\n");
  EXPECT_EQ(device_path(dev, root_).error().code(), Errc::Io);
  put(dir(dev) + "/uevent", "DEVNAME=/etc/shadow\n");
  EXPECT_EQ(device_path(dev, root_).error().code(), Errc::Io);
}

TEST_F(FakeSysfs, DevicePathOfNothingIsNotFound) {
  DeviceNumber dev{DeviceType::Char, 10, 1};
  EXPECT_EQ(device_path(dev, root_).error().code(), Errc::NotFound);
  put(dir(dev) + "/uevent", "MAJOR=10\nMINOR=1\n");
  EXPECT_EQ(device_path(dev, root_).error().code(), Errc::NotFound);
}

}  // namespace
}  // namespace tenure::kernel
