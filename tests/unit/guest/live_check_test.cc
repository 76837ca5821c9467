// SPDX-License-Identifier: Apache-2.0
// Kernel state against open tenures, over a fake fence; this process stands in for QEMU.
#include "guest/run/live_check.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "kernel/fence_fake.h"
#include "kernel/file_acl.h"
#include "tests/unit/guest/folder.h"

namespace tenure::guest {
namespace {

using trail::Kind;
using trail::Record;

class LiveCheckTest : public test::FolderTest {
 protected:
  void SetUp() override {
    group_ = folder + "/cgroup/guest";
    std::filesystem::create_directories(group_);
    members(std::to_string(getpid()));
    auto cgroup = kernel::Cgroup::open(kernel::CgroupVersion::V2, group_);
    ASSERT_TRUE(cgroup);
    inode_ = cgroup->inode();
    auto fence = control_->create(*cgroup);
    ASSERT_TRUE(fence);
    state_.fence = "v2";
    state_.process = kernel::process_id(getpid()).value();
    options_.fence = kernel::CgroupVersion::V2;
    options_.cgroup_v2 = group_;
    kernel::CgroupMounts mounts{.v2 = folder + "/cgroup", .v1_devices = ""};
    seams_ = std::make_unique<RunSeams>(domain_, options_, mounts, control_.get());
    ASSERT_TRUE(seams_->adopt((*fence)->slot()));
    // What a test program has open by itself is nobody's tenure; each test looks at its own parts.
    parts_ = {.fence = true,
              .members = true,
              .identity = false,
              .descriptors = false,
              .acls = true,
              .nodes = false};
  }

  void members(const std::string& pids) {
    put(group_ + "/cgroup.procs", pids + "\n");
    std::string threads;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task"))
      threads += task.path().filename().string() + "\n";
    put(group_ + "/cgroup.threads", threads);
  }
  void hold_rule(const std::string& rdev, const std::string& acl) {
    Record record(Kind::CgroupPath);
    record.set("path", "/dev/x").set("rdev", rdev).set("acl", acl).set("devtype", "c");
    holds_.push_back({.grant = holds_.size(), .claim = model::claim_of(std::move(record))});
  }
  void in_kernel(uint32_t major, uint32_t minor, std::string_view access) {
    world_->change_behind_back(inode_, {.type = DeviceType::Char,
                                        .major = major,
                                        .minor = minor,
                                        .access = parse_access(access).value()});
  }
  LiveReport check() {
    return live_check(
        {.state = state_, .options = options_, .holds = holds_, .seams = *seams_, .parts = parts_});
  }
  // "kind resource expected -> found" of each difference.
  std::vector<std::string> differences() {
    LiveReport report = check();
    EXPECT_FALSE(report.gone);
    EXPECT_TRUE(report.unknown.empty()) << report.unknown.front();
    std::vector<std::string> texts;
    for (const Difference& d : report.differences)
      texts.push_back(std::string(to_string(d.kind)) + " " + d.resource + " " + d.expected + "->" +
                      d.found);
    std::ranges::sort(texts);
    return texts;
  }
  using Texts = std::vector<std::string>;

  std::shared_ptr<kernel::FakeFenceWorld> world_ = std::make_shared<kernel::FakeFenceWorld>();
  std::unique_ptr<kernel::FenceControl> control_ = kernel::fake_fence_control(world_);
  std::string group_;
  uint64_t inode_ = 0;
  domain::Domain domain_;
  HostOptions options_;
  RunState state_;
  std::vector<registrar::Hold> holds_;
  std::unique_ptr<RunSeams> seams_;
  LiveParts parts_;
};

TEST_F(LiveCheckTest, NothingDiffersWhereKernelAndTrailAgree) {
  hold_rule("01:03", "rw");
  in_kernel(1, 3, "rw");
  EXPECT_EQ(differences(), Texts{});
}

TEST_F(LiveCheckTest, RulesAreComparedBothWays) {
  hold_rule("01:03", "rw");
  hold_rule("01:08", "r");
  hold_rule("01:09", "rw");
  in_kernel(1, 8, "rwm");
  in_kernel(1, 9, "rw");
  in_kernel(1, 5, "r");
  EXPECT_EQ(differences(), (Texts{"rule c 1:3 rw->", "rule c 1:5 ->r", "rule c 1:8 r->rwm"}));
}

TEST_F(LiveCheckTest, TwoTenuresOfOneDeviceWantTheUnion) {
  hold_rule("01:03", "r");
  hold_rule("01:03", "w");
  in_kernel(1, 3, "rw");
  EXPECT_EQ(differences(), Texts{});
}

TEST_F(LiveCheckTest, AFenceThatIsNotInForceIsOneDifference) {
  hold_rule("01:03", "rw");
  world_->guests[inode_].in_force = false;
  EXPECT_EQ(differences(), Texts{"fence fence in force->not in force"});
}

TEST_F(LiveCheckTest, AnUnreadableFenceIsNotADifference) {
  world_->fail_call(0, EIO);
  LiveReport report = check();
  EXPECT_TRUE(report.differences.empty());
  ASSERT_EQ(report.unknown.size(), 1U);
  EXPECT_NE(report.unknown[0].find("device rules"), std::string::npos);
}

TEST_F(LiveCheckTest, ASecondProgramIsSeen) {
  world_->guests[inode_].other_programs = {77};
  EXPECT_EQ(differences(), Texts{"program program 77 ->attached"});
}

TEST_F(LiveCheckTest, StrangersInTheGroupAndQemuOutsideAreSeen) {
  members("1");
  EXPECT_EQ(differences(), (Texts{"member pid 1 in " + group_ + " ->member",
                                  "member qemu in " + group_ + " member->outside"}));
}

// The kernel lists no zombie in cgroup.procs, and /proc shows it until it is reaped.
// A helper is known by its pid, what it starts by its parent and its program; nobody else is.
TEST_F(LiveCheckTest, HelpersBelongToTheGroup) {
  pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  auto id = kernel::process_id(child);
  ASSERT_TRUE(id);
  auto pidfd = kernel::open_process(*id);
  ASSERT_TRUE(pidfd);
  members(std::to_string(getpid()) + "\n" + std::to_string(child));
  EXPECT_EQ(differences().size(), 1U) << "a stranger so far";
  seams_->helpers().emplace("fs0", Helper{.state = {.kind = "virtiofsd", .process = *id},
                                          .pidfd = std::move(*pidfd),
                                          .socket = {}});
  EXPECT_EQ(differences(), Texts{});
  members(std::to_string(getpid()) + "\n" + std::to_string(child) + "\n" +
          std::to_string(getppid()));
  EXPECT_EQ(differences().size(), 1U) << "of another's making";
  members(std::to_string(getpid()));
  EXPECT_EQ(differences(), Texts{"member virtiofsd in " + group_ + " member->outside"});
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_EQ(differences(), Texts{}) << "one that has ended is nowhere";
}

TEST_F(LiveCheckTest, AQemuThatEndsIsGoneAndNotOutside) {
  pid_t child = fork();
  if (child == 0)
    _exit(0);
  siginfo_t end{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &end, WEXITED | WNOWAIT), 0);
  state_.process = kernel::process_id(child).value();
  put(group_ + "/cgroup.procs", "");
  put(group_ + "/cgroup.threads", "");
  LiveReport report = check();
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(report.gone);
  EXPECT_TRUE(report.differences.empty());
}

TEST_F(LiveCheckTest, AnotherUidIsSeen) {
  parts_ = {.fence = false,
            .members = false,
            .identity = true,
            .descriptors = false,
            .acls = false,
            .nodes = false};
  state_.uid = geteuid() + 1;
  auto seen = differences();
  ASSERT_FALSE(seen.empty());
  EXPECT_TRUE(std::ranges::any_of(seen, [](auto& t) { return t.starts_with("identity uid "); }));
}

TEST_F(LiveCheckTest, ADeviceThatNoTenureExplainsIsSeenAndOneOfATenureIsNot) {
  parts_ = {.fence = false,
            .members = false,
            .identity = false,
            .descriptors = true,
            .acls = false,
            .nodes = false};
  UniqueFd zero(open("/dev/zero", O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(zero);
  std::string name = "fd fd " + std::to_string(zero.get()) + " c 1:5 ->rw";
  auto seen = differences();
  EXPECT_NE(std::ranges::find(seen, name), seen.end());
  hold_rule("01:05", "r");
  seen = differences();
  EXPECT_NE(std::ranges::find(seen, name), seen.end()) << "read does not explain write";
  hold_rule("01:05", "rw");
  seen = differences();
  EXPECT_EQ(std::ranges::find(seen, name), seen.end());
}

// A device of the host that this process has open, and that is there, with VFIO's driver; then not.
TEST_F(LiveCheckTest, ADeviceOfTheHostThatIsGoneOrHasAnotherDriverIsSeen) {
  parts_ = {.fence = false,
            .members = false,
            .identity = false,
            .descriptors = true,
            .acls = false,
            .nodes = false};
  UniqueFd zero(open("/dev/zero", O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(zero);
  options_.sysfs = folder + "/sys";
  const std::string at = options_.sysfs + "/bus/pci/devices/0000:01:00.0/";
  std::filesystem::create_directories(at);
  std::filesystem::create_directories(options_.sysfs + "/dev/char/1:5");
  put(at + "vendor", "0x8086\n");
  put(at + "device", "0x100e\n");
  std::filesystem::create_symlink("../../drivers/vfio-pci", at + "driver");
  Record record(Kind::Hostdev);
  record.set("reason", "start").set("bus", "pci").set("device", "0000:01:00.0");
  record.set("access", "rw").set("alias", "hostdev0").set("rdev", "01:05").set("devtype", "c");
  holds_.push_back({.grant = 0, .claim = model::claim_of(std::move(record))});
  const auto of_device = [this] {
    Texts seen = differences();
    std::erase_if(seen, [](const std::string& text) { return !text.contains("0000:01:00.0"); });
    return seen;
  };
  EXPECT_EQ(of_device(), Texts{});
  std::filesystem::remove(at + "driver");
  std::filesystem::create_symlink("../../drivers/e1000e", at + "driver");
  EXPECT_EQ(of_device(), Texts{"driver 0000:01:00.0 vfio-pci->e1000e"});
  std::filesystem::remove_all(options_.sysfs);
  EXPECT_EQ(of_device(), (Texts{"driver 0000:01:00.0 vfio-pci->",
                                "fd 0000:01:00.0 c 1:5 open->no such device"}));
}

TEST_F(LiveCheckTest, ALostEntryOfAFileIsSeen) {
  std::string image = folder + "/a.img";
  put(image, "x");
  Record record(Kind::FileAcl);
  record.set("path", image).set("acl", "rw").set("acl-uid", uint64_t{70001});
  holds_.push_back({.grant = 0, .claim = model::claim_of(std::move(record))});
  EXPECT_EQ(differences(), Texts{"acl " + image + " rw->"});
  UniqueFd fd(open(image.c_str(), O_PATH | O_CLOEXEC));
  auto set = kernel::set_file_acl(fd.get(), 70001, kReadWrite);
  if (!set)
    GTEST_SKIP() << set.error().what();
  EXPECT_EQ(differences(), Texts{});
}

// What recovery asks: an error is not absence.
TEST_F(LiveCheckTest, PresenceThatCannotBeReadIsAnError) {
  hold_rule("01:03", "rw");
  const model::Claim& claim = holds_[0].claim;
  EXPECT_EQ(seams_->present(claim).value(), false);
  in_kernel(1, 3, "rw");
  EXPECT_EQ(seams_->present(claim).value(), true);
  world_->fail_call(0, EIO);
  EXPECT_FALSE(seams_->present(claim));
  kernel::CgroupMounts mounts{.v2 = folder + "/cgroup", .v1_devices = ""};
  RunSeams blind(domain_, options_, mounts, control_.get());
  world_->fail_call(0, EIO);
  EXPECT_FALSE(blind.adopt(state_.slot));
  EXPECT_FALSE(blind.present(claim));
  trail::Record record = claim.record;
  EXPECT_FALSE(blind.withdraw(claim, {}, record))
      << "what could not be looked at is not called revoked";
  std::filesystem::remove_all(group_);
  RunSeams gone(domain_, options_, mounts, control_.get());
  EXPECT_TRUE(gone.adopt(state_.slot));
  EXPECT_EQ(gone.present(claim).value(), false) << "it went with its cgroup";
}

TEST_F(LiveCheckTest, AGuestThatEndedHasNoDifferences) {
  ++state_.process.start_ticks;
  world_->guests[inode_].in_force = false;
  LiveReport report = check();
  EXPECT_TRUE(report.gone);
  EXPECT_TRUE(report.differences.empty());
}

}  // namespace
}  // namespace tenure::guest
