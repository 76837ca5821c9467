// SPDX-License-Identifier: Apache-2.0
// Network devices in a network namespace of the test's own: what is made, what it is joined to,
// that frames pass, and that a failure leaves nothing.
#include "kernel/net_device.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <chrono>
#include <filesystem>

#include "base/file.h"
#include "base/text.h"

namespace tenure::kernel {
namespace {

constexpr const char* kMac = "52:54:00:12:34:56";

void run(const std::string& command) {
  ASSERT_EQ(system((command + " >/dev/null 2>&1").c_str()), 0) << command;
}

std::string sysfs(const std::string& ifname, const std::string& file) {
  Result<std::string> text = read_file(fmt::format("/sys/class/net/{}/{}", ifname, file), 4096);
  return text ? std::string(trim(*text)) : text.error().what();
}

int names_in_namespace() {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/class/net"))
    if (!entry.path().empty())
      ++count;
  return count;
}

MadeLink named(const std::string& ifname) {
  return {.ifname = ifname, .mac = "", .path = ""};
}

// As a guest's start does it.
Result<std::vector<NetFd>> opened_tap(const TapRequest& request) {
  TRY(Tap tap, open_tap(request));
  TRY_OK(set_up_tap(tap.queues.front().ifname, tap.queues.front().index, tap.setting));
  return std::move(tap.queues);
}

// Everything in it vanishes with the process.
class Net : public testing::Test {
 protected:
  void SetUp() override {
    if (getuid() != 0)
      GTEST_SKIP() << "needs root for a network namespace";
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0)
      GTEST_SKIP() << "no network namespace: " << strerror(errno);
    ASSERT_EQ(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(mount("sysfs", "/sys", "sysfs", 0, nullptr), 0);
    if (system("command -v ip >/dev/null") != 0)
      GTEST_SKIP() << "no ip(8) (package iproute2)";
    before_ = names_in_namespace();
  }
  TapRequest tap(const std::string& name) {
    TapRequest request;
    request.ifname = name;
    request.mac = kMac;
    return request;
  }
  void expect_nothing_left(int more = 0) { EXPECT_EQ(names_in_namespace(), before_ + more); }
  int before_ = 0;
};

TEST_F(Net, TapJoinsItsBridgeAndDiesWithItsFd) {
  run("ip link add br0 mtu 1400 type bridge");
  TapRequest request = tap("tnr%d");
  request.bridge = "br0";
  {
    std::vector<NetFd> fds = opened_tap(request).value();
    ASSERT_EQ(fds.size(), 1U);
    EXPECT_EQ(fds[0].ifname, "tnr0");
    EXPECT_EQ(fds[0].path, "/dev/net/tun");
    EXPECT_EQ(fds[0].rdev, (DeviceNumber{DeviceType::Char, 10, 200}));
    EXPECT_EQ(sysfs("tnr0", "address"), "fe:54:00:12:34:56");
    EXPECT_EQ(sysfs("tnr0", "mtu"), "1400");
    EXPECT_EQ(sysfs("br0", "mtu"), "1400");
    EXPECT_EQ(sysfs("tnr0", "tun_flags"), "0x5002");  // tap, no packet information, vnet header
    EXPECT_EQ(parse_int<int>(sysfs("tnr0", "flags").substr(2), 16).value_or(0) & IFF_UP, IFF_UP);
    EXPECT_EQ(link_master("tnr0").value(), "br0");
    EXPECT_TRUE(link_exists(named("tnr0")).value());
    EXPECT_EQ(fcntl(fds[0].fd.get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  }
  EXPECT_FALSE(link_exists(named("tnr0")).value());
}

TEST_F(Net, TapWithQueues) {
  TapRequest request = tap("q0");
  request.queues = 3;
  request.mtu = 9000;
  std::vector<NetFd> fds = opened_tap(request).value();
  ASSERT_EQ(fds.size(), 3U);
  EXPECT_EQ(fds[2].ifname, "q0");
  EXPECT_EQ(sysfs("q0", "mtu"), "9000");
  EXPECT_EQ(sysfs("q0", "tun_flags"), "0x5102");  // and multi queue
  EXPECT_EQ(link_master("q0").value(), "");
  fds.erase(fds.begin());
  EXPECT_TRUE(link_exists(named("q0")).value());
}

TEST_F(Net, HostSideNeverHasTheGuestsMac) {
  TapRequest request = tap("m0");
  request.mac = "fe:54:00:AB:cd:ef";
  std::vector<NetFd> fds = opened_tap(request).value();
  EXPECT_EQ(sysfs("m0", "address"), "fa:54:00:ab:cd:ef");
}

TEST_F(Net, FramesPassFromTapToTap) {
  run("ip link add br0 type bridge");
  run("ip link set br0 up");
  TapRequest request = tap("a0");
  request.bridge = "br0";
  std::vector<NetFd> a = opened_tap(request).value();
  request.ifname = "b0";
  request.mac = "52:54:00:12:34:57";
  std::vector<NetFd> b = opened_tap(request).value();
  std::string frame(10, '\0');  // struct virtio_net_hdr, all zero: nothing offloaded
  frame += std::string(6, '\xFF') + std::string("\x52\x54\x00\x12\x34\x56", 6);
  frame += std::string("\x88\xB5", 2);  // an ethertype for experiments, IEEE 802
  frame += "tenure" + std::string(60, '.');
  using Clock = std::chrono::steady_clock;
  const Clock::time_point deadline = Clock::now() + std::chrono::seconds(20);
  bool arrived = false;
  // The bridge forwards as soon as both ports are up: until then frames are dropped, so send again.
  while (!arrived && Clock::now() < deadline) {
    ASSERT_EQ(write(a[0].fd.get(), frame.data(), frame.size()), static_cast<ssize_t>(frame.size()));
    pollfd waiting{b[0].fd.get(), POLLIN, 0};
    if (poll(&waiting, 1, 50) != 1)
      continue;
    char buffer[2048];
    ssize_t size = read(b[0].fd.get(), buffer, sizeof buffer);
    ASSERT_GT(size, 0);
    std::string_view got(buffer, static_cast<size_t>(size));
    arrived = got.find("tenure...") != std::string_view::npos;
  }
  EXPECT_TRUE(arrived);
}

TEST_F(Net, FailedTapLeavesNothing) {
  TapRequest request = tap("f0");
  request.bridge = "nobridge";
  Result<std::vector<NetFd>> fds = opened_tap(request);
  ASSERT_FALSE(fds);
  EXPECT_EQ(fds.error().code(), Errc::NotFound);
  EXPECT_NE(fds.error().what().find("nobridge"), std::string::npos);
  request.bridge = "lo";
  fds = opened_tap(request);
  ASSERT_FALSE(fds);
  EXPECT_EQ(fds.error().what(), "interface lo is not a bridge");
  request.bridge = "";
  request.mtu = 1;  // the kernel refuses it once the tap is there
  fds = opened_tap(request);
  ASSERT_FALSE(fds);
  EXPECT_TRUE(fds.error().what().starts_with("tap f0: ")) << fds.error().what();
  request.mtu = 0;
  for (const char* mac : {"52:54:00:12:34", "52:54:00:12:34:5g", "5:54:00:12:34:56", "x"}) {
    request.mac = mac;
    EXPECT_EQ(opened_tap(request).error().code(), Errc::Invalid) << mac;
  }
  request.mac = kMac;
  for (const char* name : {"a/b", "0123456789abcdef", ".."}) {
    request.ifname = name;
    EXPECT_EQ(opened_tap(request).error().code(), Errc::Invalid) << name;
  }
  request.ifname = "f0";
  request.queues = 0;
  EXPECT_EQ(opened_tap(request).error().code(), Errc::Invalid);
  request.queues = 257;
  EXPECT_EQ(opened_tap(request).error().code(), Errc::Invalid);
  expect_nothing_left();
}

TEST_F(Net, TapNeverTakesOverAnInterface) {
  run("ip tuntap add dev t0 mode tap");
  Result<std::vector<NetFd>> fds = opened_tap(tap("t0"));
  ASSERT_FALSE(fds);
  EXPECT_EQ(fds.error().code(), Errc::Exists);
  EXPECT_EQ(fds.error().what(), "interface t0 exists already");
  fds = opened_tap(tap("lo"));
  ASSERT_FALSE(fds);
  EXPECT_TRUE(link_exists(named("t0")).value());
}

class Macvtap : public Net {
 protected:
  void SetUp() override {
    Net::SetUp();
    if (IsSkipped() || HasFatalFailure())
      return;
    run("ip link add low0 type veth peer name far0");
    run("ip link set low0 up");
    before_ = names_in_namespace();
    request_.lower = "low0";
    request_.mode = "bridge";
    request_.mac = kMac;
    Result<std::vector<NetFd>> probe = open_macvtap(request_);
    if (!probe && probe.error().what().find("not supported") != std::string::npos)
      GTEST_SKIP() << "no macvtap in this kernel: " << probe.error().what();
    if (probe) {
      ASSERT_TRUE(delete_link(named(probe->at(0).ifname)));
    }
  }
  MacvtapRequest request_;
};

TEST_F(Macvtap, OpensTheNodeOfItsOwnInterface) {
  std::vector<NetFd> fds = open_macvtap(request_).value();
  ASSERT_EQ(fds.size(), 1U);
  EXPECT_EQ(fds[0].ifname, "macvtap0");
  EXPECT_EQ(fds[0].path, "/dev/tap" + sysfs("macvtap0", "ifindex"));
  EXPECT_EQ(fmt::format("{}:{}", fds[0].rdev.major, fds[0].rdev.minor),
            sysfs("macvtap0", "tap" + sysfs("macvtap0", "ifindex") + "/dev"));
  EXPECT_EQ(sysfs("macvtap0", "address"), kMac);
  EXPECT_EQ(parse_int<int>(sysfs("macvtap0", "flags").substr(2), 16).value_or(0) & IFF_UP, IFF_UP);
  ifreq request{};
  ASSERT_EQ(ioctl(fds[0].fd.get(), TUNGETIFF, &request), 0);
  EXPECT_STREQ(request.ifr_name, "macvtap0");
  EXPECT_EQ(request.ifr_flags & (IFF_VNET_HDR | IFF_NO_PI | IFF_TAP),
            IFF_VNET_HDR | IFF_NO_PI | IFF_TAP);
  const MadeLink made{.ifname = "macvtap0", .mac = "", .path = fds[0].path};
  fds.clear();
  EXPECT_TRUE(link_exists(made).value());  // it does not die with its fd
  const MadeLink before{.ifname = "macvtap0", .mac = kMac, .path = made.path + "1"};
  EXPECT_EQ(delete_link(before).error().code(), Errc::NotFound);  // the name is that of a later one
  EXPECT_TRUE(link_exists({.ifname = "macvtap0", .mac = kMac, .path = ""}).value());
  EXPECT_TRUE(delete_link(made));
  EXPECT_FALSE(link_exists(named("macvtap0")).value());
  EXPECT_EQ(delete_link(named("macvtap0")).error().code(), Errc::NotFound);
}

TEST_F(Macvtap, TakesTheNextFreeNameAndManyQueues) {
  std::vector<NetFd> first = open_macvtap(request_).value();
  request_.mac = "52:54:00:12:34:57";
  request_.queues = 2;
  std::vector<NetFd> second = open_macvtap(request_).value();
  ASSERT_EQ(second.size(), 2U);
  EXPECT_EQ(second[1].ifname, "macvtap1");
  EXPECT_NE(second[0].rdev, first[0].rdev);
  EXPECT_EQ(second[0].rdev, second[1].rdev);
}

TEST_F(Macvtap, DoesWithoutTheNodeInDev) {
  ASSERT_EQ(mount("tmpfs", "/dev", "tmpfs", 0, "size=64k"), 0);
  Result<std::vector<NetFd>> fds = open_macvtap(request_);
  ASSERT_TRUE(fds) << fds.error().what();
  // A node of that name but of another number (another namespace's) is not opened either.
  request_.ifname = "mv9";
  request_.mac = "52:54:00:12:34:57";
  for (int next = std::stoi(sysfs("macvtap0", "ifindex")) + 1, last = next + 8; next < last; ++next)
    ASSERT_EQ(mknod(fmt::format("/dev/tap{}", next).c_str(), S_IFCHR | 0600, makedev(1, 3)), 0);
  Result<std::vector<NetFd>> more = open_macvtap(request_);
  umount("/dev");
  ASSERT_TRUE(more) << more.error().what();
  EXPECT_EQ(fmt::format("{}:{}", more->at(0).rdev.major, more->at(0).rdev.minor),
            sysfs("mv9", "tap" + sysfs("mv9", "ifindex") + "/dev"));
  for (const auto& entry : std::filesystem::directory_iterator("/run"))
    EXPECT_FALSE(entry.path().filename().string().starts_with("tenure-tap-")) << entry.path();
}

TEST_F(Macvtap, SysfsOfAnotherNamespaceIsNotBelieved) {
  // The new namespace has the same names and indexes; /sys still shows the old one, with its
  // devices.
  request_.ifname = "same0";
  std::vector<NetFd> theirs = open_macvtap(request_).value();
  ASSERT_EQ(unshare(CLONE_NEWNET), 0);
  run("ip link add low0 type veth peer name far0");
  run("ip link set low0 up");
  run("ip link add name filler0 type bridge");  // SetUp() used this index for a moment
  request_.mac = "52:54:00:99:99:99";
  Result<std::vector<NetFd>> ours = open_macvtap(request_);
  ASSERT_FALSE(ours);
  EXPECT_NE(ours.error().what().find("leads to another interface"), std::string::npos)
      << ours.error().what();
  EXPECT_FALSE(link_exists(named("same0")).value()) << "the link is left over";
}

TEST_F(Macvtap, FailureLeavesNothing) {
  request_.mode = "source";
  EXPECT_EQ(open_macvtap(request_).error().what(),
            "macvtap mode 'source': vepa, bridge, private or passthru");
  request_.mode = "vepa";
  request_.lower = "nobody0";
  EXPECT_EQ(open_macvtap(request_).error().code(), Errc::NotFound);
  request_.lower = "low0";
  request_.ifname = "far0";
  EXPECT_EQ(open_macvtap(request_).error().code(), Errc::Exists);
  request_.ifname = "mv0";
  // No sysfs: the link is made, its node cannot be found, the link is taken back.
  ASSERT_EQ(mount("tmpfs", "/sys", "tmpfs", 0, "size=64k"), 0);
  EXPECT_EQ(open_macvtap(request_).error().code(), Errc::NotFound);
  umount("/sys");
  expect_nothing_left();
}

// A tap is gone with its fds, and its name is free for anybody.
TEST_F(Net, AnotherInterfaceOfTheNameIsNotTheOneThatWasMade) {
  const MadeLink tap_of{.ifname = "t0", .mac = kMac, .path = "/dev/net/tun"};
  {
    std::vector<NetFd> fds = opened_tap(tap("t0")).value();
    EXPECT_TRUE(link_exists(tap_of).value());
    EXPECT_FALSE(link_exists({.ifname = "t0", .mac = "52:54:00:12:34:57", .path = ""}).value());
    EXPECT_FALSE(link_exists({.ifname = "t0", .mac = kMac, .path = "/dev/tap1"}).value());
  }
  run("ip link add t0 type bridge");
  EXPECT_TRUE(link_exists(named("t0")).value());
  EXPECT_FALSE(link_exists(tap_of).value());
  EXPECT_EQ(delete_link(tap_of).error().code(), Errc::NotFound);
  EXPECT_TRUE(link_exists(named("t0")).value()) << "somebody else's interface was deleted";
  EXPECT_TRUE(delete_link(named("t0")));
}

// Two guests may have one MAC, and the kernel gives a free name to the next.
TEST_F(Net, AnotherTapOfTheNameAndTheMacIsNotTheOneThatWasMade) {
  run("ip link add br0 type bridge");
  auto made = [](const NetFd& fd) {
    return MadeLink{.ifname = fd.ifname, .mac = kMac, .path = fd.path, .index = fd.index};
  };
  MadeLink gone;
  {
    std::vector<NetFd> fds = opened_tap(tap("tnr%d")).value();
    gone = made(fds[0]);
    EXPECT_TRUE(link_exists(gone).value());
  }
  std::vector<NetFd> fds = opened_tap(tap("tnr%d")).value();
  ASSERT_EQ(fds[0].ifname, gone.ifname);
  EXPECT_FALSE(link_exists(gone).value());
  EXPECT_EQ(move_to_bridge(gone, "br0").error().code(), Errc::NotFound);
  EXPECT_EQ(delete_link(gone).error().code(), Errc::NotFound);
  EXPECT_EQ(link_master(fds[0].ifname).value(), "");
  EXPECT_TRUE(link_exists(made(fds[0])).value());
  EXPECT_EQ(move_to_bridge(made(fds[0]), "br0").value(), Outcome::Changed);
  gone.index = 0;  // of a record that does not have it
  EXPECT_TRUE(link_exists(gone).value());
}

TEST_F(Net, AnInterfaceIsFoundUnderAnotherName) {
  std::vector<NetFd> fds = opened_tap(tap("t0")).value();
  const MadeLink made{.ifname = "t0", .mac = kMac, .path = fds[0].path, .index = fds[0].index};
  run("ip link set t0 down");
  run("ip link set t0 name t1");
  EXPECT_TRUE(link_exists(made).value());
  // Neither its name nor its MAC: after a reboot another interface may have the index.
  run("ip link set t1 address 52:54:00:00:00:01");
  EXPECT_FALSE(link_exists(made).value());
}

TEST_F(Net, VhostNetIsOpenedOrClearlyMissing) {
  Result<NetFd> node = open_vhost_net();
  if (access("/dev/vhost-net", F_OK) == 0) {
    ASSERT_TRUE(node) << node.error().what();
    EXPECT_EQ(node->path, "/dev/vhost-net");
    EXPECT_EQ(node->ifname, "");
    return;
  }
  ASSERT_FALSE(node);
  EXPECT_EQ(node.error().code(), Errc::NotFound);
  EXPECT_EQ(node.error().what(),
            "open /dev/vhost-net: No such file or directory (modprobe vhost_net makes it)");
}

TEST_F(Net, QuestionsAboutNobody) {
  EXPECT_FALSE(link_exists(named("nobody0")).value());
  EXPECT_EQ(link_master("nobody0").error().code(), Errc::NotFound);
  EXPECT_EQ(delete_link(named("nobody0")).error().code(), Errc::NotFound);
  EXPECT_EQ(link_exists(named("")).error().code(), Errc::Invalid);
}

}  // namespace
}  // namespace tenure::kernel
