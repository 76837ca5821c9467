// SPDX-License-Identifier: Apache-2.0
// The v2 fence on the running kernel: what a process inside can do, what the kernel says the rules
// are, and that both agree.
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <poll.h>
#include <sys/prctl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include "bpf/fence_layout.h"
#include "tests/kernel/fence/support.h"

namespace tenure::kernel::testing {
namespace {

constexpr const char* kPins = "/sys/fs/bpf/tenure-test";

class FenceV2Test : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0)
      GTEST_SKIP() << "needs root";
    auto mounts = find_cgroup_mounts();
    ASSERT_TRUE(mounts) << mounts.error().what();
    if (auto usable = probe_fence_v2(*mounts); !usable)
      GTEST_SKIP() << usable.error().what();
    if (auto problem = enter_own_mounts(); !problem.empty())
      GTEST_SKIP() << problem;
    cgroups_ = std::make_unique<Cgroups>(*mounts);
    open_control();
  }
  void TearDown() override { (void)remove_fence_pins(kPins); }

  void open_control() {
    auto control = open_fence_v2(kPins);
    ASSERT_TRUE(control) << control.error().what();
    control_ = std::move(*control);
  }
  Cgroup make_cgroup() { return cgroups_->make(CgroupVersion::V2).value(); }
  std::unique_ptr<Fence> create(const Cgroup& cgroup) {
    auto fence = control_->create(cgroup);
    if (!fence)
      ADD_FAILURE() << fence.error().what();
    return std::move(fence).value();
  }
  std::vector<Denial> drain() {
    std::vector<Denial> all;
    // Prisoners answer when they are done, so nobody is in the middle of an addition.
    EXPECT_OK(control_->begin_window());
    auto lost = control_->drain_denials([&](const Denial& denial) { all.push_back(denial); });
    EXPECT_TRUE(lost) << lost.error().what();
    lost_ = lost.value_or(0);
    EXPECT_OK(control_->denials_recorded());
    return all;
  }

  std::unique_ptr<Cgroups> cgroups_;
  std::unique_ptr<FenceControl> control_;
  uint64_t lost_ = 0;
};

uint32_t attached_program(const Cgroup& cgroup) {
  uint32_t id = 0, count = 1, flags = 0;
  EXPECT_EQ(bpf_prog_query(cgroup.dir_fd(), BPF_CGROUP_DEVICE, 0, &flags, &id, &count), 0);
  return id;
}

void detach_behind_back(const Cgroup& cgroup) {
  int program = bpf_prog_get_fd_by_id(attached_program(cgroup));
  EXPECT_EQ(bpf_prog_detach2(program, cgroup.dir_fd(), BPF_CGROUP_DEVICE), 0);
  close(program);
}

TEST_F(FenceV2Test, DeniesEverythingFromItsCreationOn) {
  Cgroup cgroup = make_cgroup();
  Prisoner prisoner;
  ASSERT_OK(cgroup.add(prisoner.pid()));
  EXPECT_EQ(prisoner.open("/dev/null", O_RDWR), 0);
  auto fence = create(cgroup);
  EXPECT_EQ(prisoner.open("/dev/null", O_RDONLY), EPERM);
  EXPECT_NE(fence->slot(), 0U);
  EXPECT_EQ(fence->deny_all().value(), Outcome::Changed);
  EXPECT_EQ(fence->deny_all().value(), Outcome::Unchanged);
  EXPECT_TRUE(fence->list().value().empty());
  EXPECT_EQ(prisoner.open("/dev/null", O_RDONLY), EPERM);
}

TEST_F(FenceV2Test, ReadAllowedIsNotWriteAllowed) {
  Cgroup cgroup = make_cgroup();
  auto fence = create(cgroup);
  Prisoner prisoner;
  ASSERT_OK(cgroup.add(prisoner.pid()));
  EXPECT_EQ(fence->set(rule('c', 1, 3, "r")).value(), Outcome::Changed);
  EXPECT_EQ(fence->set(rule('c', 1, 3, "r")).value(), Outcome::Unchanged);
  EXPECT_EQ(prisoner.open("/dev/null", O_RDONLY), 0);
  EXPECT_EQ(prisoner.open("/dev/null", O_WRONLY), EPERM);
  EXPECT_EQ(prisoner.open("/dev/null", O_RDWR), EPERM);
  EXPECT_EQ(prisoner.open("/dev/zero", O_RDONLY), EPERM);
  EXPECT_EQ(fence->set(rule('c', 1, 3, "rw")).value(), Outcome::Changed);
  EXPECT_EQ(prisoner.open("/dev/null", O_RDWR), 0);
  EXPECT_EQ(fence->set(rule('c', 1, 3, "w")).value(), Outcome::Changed);
  EXPECT_EQ(prisoner.open("/dev/null", O_RDONLY), EPERM);
  EXPECT_EQ(prisoner.open("/dev/null", O_WRONLY), 0);
  EXPECT_EQ(fence->list().value(), std::vector{rule('c', 1, 3, "w")});
  EXPECT_EQ(fence->set(rule('c', 1, 3, "")).value(), Outcome::Changed);
  EXPECT_EQ(fence->set(rule('c', 1, 3, "")).value(), Outcome::Unchanged);
  EXPECT_EQ(prisoner.open("/dev/null", O_WRONLY), EPERM);
  EXPECT_TRUE(fence->list().value().empty());
}

TEST_F(FenceV2Test, BlockAndCharDevicesOfOneNumberAreTwo) {
  Cgroup cgroup = make_cgroup();
  auto fence = create(cgroup);
  Prisoner prisoner;
  ASSERT_OK(cgroup.add(prisoner.pid()));
  // Nobody drives b 1:3 beyond its check here, so "allowed" is any answer but the fence's EPERM.
  std::string block = make_node('b', 1, 3), character = make_node('c', 1, 3);
  ASSERT_OK(fence->set(rule('b', 1, 3, "rw")));
  EXPECT_NE(prisoner.open(block, O_RDONLY), EPERM);
  EXPECT_EQ(prisoner.open(character, O_RDONLY), EPERM);
  ASSERT_OK(fence->set(rule('b', 1, 3, "")));
  ASSERT_OK(fence->set(rule('c', 1, 3, "rw")));
  EXPECT_EQ(prisoner.open(block, O_RDONLY), EPERM);
  EXPECT_EQ(prisoner.open(character, O_RDONLY), 0);
}

TEST_F(FenceV2Test, AnyMinorAndExactRuleAreUnited) {
  Cgroup cgroup = make_cgroup();
  auto fence = create(cgroup);
  Prisoner prisoner;
  ASSERT_OK(cgroup.add(prisoner.pid()));
  ASSERT_OK(fence->set(rule('c', 1, kAny, "r")));
  EXPECT_EQ(prisoner.open("/dev/zero", O_RDONLY), 0);
  EXPECT_EQ(prisoner.open("/dev/zero", O_RDWR), EPERM);
  ASSERT_OK(fence->set(rule('c', 1, 5, "w")));
  EXPECT_EQ(prisoner.open("/dev/zero", O_RDWR), 0);
  EXPECT_EQ(prisoner.open("/dev/null", O_RDWR), EPERM);
  EXPECT_EQ(fence->list().value(), (std::vector{rule('c', 1, kAny, "r"), rule('c', 1, 5, "w")}));
  ASSERT_OK(fence->set(rule('c', 1, kAny, "")));
  EXPECT_EQ(prisoner.open("/dev/zero", O_RDONLY), EPERM);
  EXPECT_EQ(prisoner.open("/dev/zero", O_WRONLY), 0);
}

TEST_F(FenceV2Test, AccessAndMknodAreChecked) {
  Cgroup cgroup = make_cgroup();
  auto fence = create(cgroup);
  Prisoner prisoner;
  ASSERT_OK(cgroup.add(prisoner.pid()));
  ASSERT_OK(fence->set(rule('c', 1, 3, "r")));
  EXPECT_EQ(prisoner.access("/dev/null", R_OK), 0);
  EXPECT_EQ(prisoner.access("/dev/null", W_OK), EPERM);
  EXPECT_EQ(prisoner.access("/dev/null", F_OK), 0);
  EXPECT_EQ(prisoner.mknod("/mnt/made", S_IFCHR, makedev(1, 3)), EPERM);
  ASSERT_OK(fence->set(rule('c', 1, 3, "m")));
  EXPECT_EQ(prisoner.mknod("/mnt/made", S_IFCHR, makedev(1, 3)), 0);
  EXPECT_EQ(prisoner.mknod("/mnt/made", S_IFBLK, makedev(1, 3)), EPERM);
  EXPECT_EQ(prisoner.open("/dev/null", O_RDONLY), EPERM);
}

TEST_F(FenceV2Test, OpenFdsSurviveARevoke) {
  Cgroup cgroup = make_cgroup();
  auto fence = create(cgroup);
  Prisoner prisoner;
  ASSERT_OK(cgroup.add(prisoner.pid()));
  ASSERT_OK(fence->set(rule('c', 1, 5, "r")));
  ASSERT_EQ(prisoner.keep_open("/dev/zero"), 0);
  ASSERT_OK(fence->set(rule('c', 1, 5, "")));
  EXPECT_EQ(prisoner.read_kept(), 0);
  EXPECT_EQ(prisoner.open("/dev/zero", O_RDONLY), EPERM);
}

TEST_F(FenceV2Test, ADenialSaysWhoAndWhat) {
  Cgroup cgroup = make_cgroup();
  auto fence = create(cgroup);
  Prisoner prisoner;
  ASSERT_OK(cgroup.add(prisoner.pid()));
  pollfd waiting{.fd = control_->denials_fd(), .events = POLLIN, .revents = 0};
  ASSERT_OK(control_->begin_window());
  EXPECT_EQ(poll(&waiting, 1, 0), 0);
  EXPECT_EQ(prisoner.open("/dev/full", O_RDWR), EPERM);
  EXPECT_EQ(poll(&waiting, 1, 5000), 1);
  auto denials = drain();
  ASSERT_EQ(denials.size(), 1U);
  const Denial& denial = denials[0];
  EXPECT_EQ(denial.slot, fence->slot());
  EXPECT_EQ(denial.type, DeviceType::Char);
  EXPECT_EQ(denial.major, 1U);
  EXPECT_EQ(denial.minor, 7U);
  EXPECT_EQ(denial.access, kReadWrite);
  EXPECT_EQ(denial.pid, prisoner.pid());
  EXPECT_EQ(denial.uid, 0U);
  EXPECT_GT(denial.boottime_ns, 0U);
  EXPECT_FALSE(denial.comm.empty());
  EXPECT_EQ(fence->denials().value(), 1U);
  EXPECT_EQ(poll(&waiting, 1, 0), 0);
}

TEST_F(FenceV2Test, ADenialCarriesTheAuditIdentity) {
  Cgroup cgroup = make_cgroup();
  auto fence = create(cgroup);
  Prisoner prisoner;
  int set = prisoner.run(
      [](const Prisoner::Command&) {
        int fd = ::open("/proc/self/loginuid", O_WRONLY);
        return fd >= 0 && write(fd, "4242", 4) == 4 ? 0 : errno;
      },
      "");
  if (set != 0)
    GTEST_SKIP() << "loginuid cannot be set here: " << strerror(set);
  ASSERT_OK(cgroup.add(prisoner.pid()));
  EXPECT_EQ(prisoner.open("/dev/null", O_RDONLY), EPERM);
  auto denials = drain();
  ASSERT_EQ(denials.size(), 1U);
  EXPECT_EQ(denials[0].auid, 4242U);
  EXPECT_NE(denials[0].ses, 4294967295U);  // setting the loginuid begins a session
}

// 10^6 refusals while rules change: the count is exact, and a grant takes as long as ever.
TEST_F(FenceV2Test, AFloodIsOneDenialWithAnExactCount) {
  constexpr uint64_t kFlood = 1'000'000;
  Cgroup cgroup = make_cgroup(), other = make_cgroup();
  auto fence = create(cgroup), quiet = create(other);
  Prisoner prisoner;
  ASSERT_OK(cgroup.add(prisoner.pid()));
  std::atomic<int> refused = -1;
  std::thread flood([&] { refused = prisoner.be_refused("/dev/null", kFlood); });
  std::chrono::nanoseconds longest{};
  uint64_t total = 0;
  // Windows are turned and read all the while.
  while (refused == -1 && !::testing::Test::HasFailure()) {
    auto begin = std::chrono::steady_clock::now();
    ASSERT_OK(quiet->set(rule('c', 1, 5, "r")));
    longest = std::max<std::chrono::nanoseconds>(longest, std::chrono::steady_clock::now() - begin);
    ASSERT_OK(quiet->set(rule('c', 1, 5, "")));
    ASSERT_OK(control_->begin_window());
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the grace of begin_window()
    ASSERT_TRUE(control_->drain_denials([&](const Denial& d) { total += d.count; }));
    ASSERT_OK(control_->denials_recorded());
  }
  flood.join();
  EXPECT_EQ(refused, 0);
  for (int window = 0; window < 2; ++window)
    for (const Denial& denial : drain()) total += denial.count;
  EXPECT_EQ(total, kFlood);
  EXPECT_EQ(fence->denials().value(), kFlood);
  EXPECT_EQ(quiet->denials().value(), 0U);
  EXPECT_EQ(lost_, 0U);
  RecordProperty("longest_grant_us", static_cast<int>(longest / std::chrono::microseconds(1)));
  EXPECT_LT(longest, std::chrono::milliseconds(50));
}

// More kinds of refusals than a window has room for: the rest is counted, too.
TEST_F(FenceV2Test, WhatCannotBeDescribedIsCounted) {
  constexpr uint64_t kNames = TENURE_MAX_REFUSALS + 500;
  Cgroup cgroup = make_cgroup();
  auto fence = create(cgroup);
  Prisoner prisoner;
  ASSERT_OK(cgroup.add(prisoner.pid()));
  auto as_many = [](const Prisoner::Command& c) {
    for (uint64_t i = 0; i < c.number; ++i) {
      std::string name = "n" + std::to_string(i);
      prctl(PR_SET_NAME, name.c_str());
      if (::open(c.path, O_RDONLY) >= 0 || errno != EPERM)
        return EINVAL;
    }
    return 0;
  };
  ASSERT_EQ(prisoner.run(as_many, "/dev/null", 0, kNames), 0);
  uint64_t described = 0, others = 0;
  for (const Denial& denial : drain()) (denial.described ? described : others) += denial.count;
  EXPECT_EQ(described + others, kNames);
  EXPECT_GT(others, 0U);
  EXPECT_EQ(others, lost_);
  EXPECT_TRUE(drain().empty());
}

TEST_F(FenceV2Test, AnAccessCheckIsTold) {
  Cgroup cgroup = make_cgroup();
  auto fence = create(cgroup);
  Prisoner prisoner;
  ASSERT_OK(cgroup.add(prisoner.pid()));
  EXPECT_EQ(prisoner.access("/dev/null", R_OK), EPERM);
  EXPECT_EQ(prisoner.open("/dev/null", O_RDONLY), EPERM);
  EXPECT_EQ(prisoner.open("/dev/null", O_RDONLY), EPERM);
  auto denials = drain();
  ASSERT_EQ(denials.size(), 2U) << "a probe and an open are two kinds";
  std::ranges::sort(denials, {}, &Denial::count);
  EXPECT_TRUE(denials[0].probe);
  EXPECT_FALSE(denials[1].probe);
  EXPECT_EQ(denials[1].count, 2U);
  EXPECT_GE(denials[1].last_boottime_ns, denials[1].boottime_ns);
}

TEST_F(FenceV2Test, GuestsDoNotShareRules) {
  Cgroup one = make_cgroup(), two = make_cgroup();
  auto first = create(one), second = create(two);
  EXPECT_NE(first->slot(), second->slot());
  Prisoner prisoner;
  ASSERT_OK(two.add(prisoner.pid()));
  ASSERT_OK(first->set(rule('c', 1, 3, "rw")));
  ASSERT_OK(second->set(rule('c', 1, 5, "rw")));
  EXPECT_EQ(prisoner.open("/dev/null", O_RDONLY), EPERM);
  EXPECT_EQ(prisoner.open("/dev/zero", O_RDONLY), 0);
  auto all = control_->list_all({second.get(), first.get()});
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].value(), std::vector{rule('c', 1, 5, "rw")});
  EXPECT_EQ(all[1].value(), std::vector{rule('c', 1, 3, "rw")});
  EXPECT_EQ(first->deny_all().value(), Outcome::Changed);
  EXPECT_EQ(second->list().value(), std::vector{rule('c', 1, 5, "rw")});
}

TEST_F(FenceV2Test, ARestartTakesOverWhatIsInForce) {
  Cgroup cgroup = make_cgroup();
  auto fence = create(cgroup);
  uint32_t slot = fence->slot(), program = attached_program(cgroup);
  ASSERT_OK(fence->set(rule('c', 1, 3, "rw")));
  Prisoner prisoner;
  ASSERT_OK(cgroup.add(prisoner.pid()));
  EXPECT_EQ(prisoner.open("/dev/zero", O_RDONLY), EPERM);
  fence.reset();
  control_.reset();
  EXPECT_EQ(prisoner.open("/dev/null", O_RDWR), 0);
  EXPECT_EQ(prisoner.open("/dev/zero", O_RDONLY), EPERM);

  open_control();
  auto adopted = control_->adopt(cgroup, slot);
  ASSERT_TRUE(adopted) << adopted.error().what();
  EXPECT_EQ(attached_program(cgroup), program);
  EXPECT_EQ((*adopted)->slot(), slot);
  EXPECT_EQ((*adopted)->list().value(), std::vector{rule('c', 1, 3, "rw")});
  EXPECT_EQ((*adopted)->denials().value(), 2U);
  auto from_before = drain();
  ASSERT_EQ(from_before.size(), 1U);
  EXPECT_EQ(from_before[0].count, 2U) << "of before the restart as well as after it";
  ASSERT_OK((*adopted)->set(rule('c', 1, 3, "")));
  EXPECT_EQ(prisoner.open("/dev/null", O_RDWR), EPERM);
  Cgroup next = make_cgroup();
  EXPECT_GT(create(next)->slot(), slot);
}

TEST_F(FenceV2Test, AdoptsWithoutKnowingTheSlot) {
  Cgroup cgroup = make_cgroup(), bare = make_cgroup();
  auto fence = create(cgroup);
  EXPECT_EQ(control_->adopt(cgroup, 0).value()->slot(), fence->slot());
  EXPECT_EQ(control_->adopt(cgroup, fence->slot() + 1).error().code(), Errc::Lost);
  EXPECT_EQ(control_->adopt(bare, 0).error().code(), Errc::Lost);
  EXPECT_EQ(control_->create(cgroup).error().code(), Errc::Exists);
}

TEST_F(FenceV2Test, AForeignDetachIsNoticed) {
  Cgroup cgroup = make_cgroup();
  auto fence = create(cgroup);
  ASSERT_OK(fence->set(rule('c', 1, 3, "rw")));
  detach_behind_back(cgroup);
  EXPECT_EQ(fence->list().error().code(), Errc::Lost);
  EXPECT_EQ(control_->list_all({fence.get()})[0].error().code(), Errc::Lost);
  EXPECT_EQ(fence->deny_all().error().code(), Errc::Lost);
  EXPECT_EQ(fence->set(rule('c', 1, 3, "")).error().code(), Errc::Lost);
  EXPECT_EQ(fence->set(rule('c', 1, 5, "rw")).error().code(), Errc::Lost);
  EXPECT_EQ(control_->adopt(cgroup, fence->slot()).error().code(), Errc::Lost);
  // The refused grant left no rule behind that would come to life with a later attachment.
  EXPECT_EQ(control_->prune({}).value(), 0U);
}

TEST_F(FenceV2Test, AForeignProgramBesideOursIsNoLoss) {
  Cgroup cgroup = make_cgroup(), other = make_cgroup();
  auto fence = create(cgroup);
  bpf_insn allow[] = {{BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1},
                      {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
  int program = bpf_prog_load(BPF_PROG_TYPE_CGROUP_DEVICE, "allow", "GPL", allow, 2, nullptr);
  ASSERT_GE(program, 0);
  ASSERT_EQ(bpf_prog_attach(program, cgroup.dir_fd(), BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI), 0);
  close(program);
  Prisoner prisoner;
  ASSERT_OK(cgroup.add(prisoner.pid()));
  EXPECT_EQ(prisoner.open("/dev/null", O_RDONLY), EPERM);
  EXPECT_OK(fence->list());
}

// The state between attaching and setting the slot, with a rule that could apply if slot 0 were
// one.
TEST_F(FenceV2Test, SlotZeroDeniesWhateverTheRulesSay) {
  Cgroup cgroup = make_cgroup();
  int program = bpf_obj_get((std::string(kPins) + "/program").c_str());
  int rules = bpf_obj_get((std::string(kPins) + "/rules").c_str());
  tenure_rule key{.slot = 0, .type = BPF_DEVCG_DEV_CHAR, .major = 1, .minor = 3};
  uint32_t all = BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE | BPF_DEVCG_ACC_MKNOD;
  ASSERT_EQ(bpf_map_update_elem(rules, &key, &all, BPF_ANY), 0);
  ASSERT_EQ(bpf_prog_attach(program, cgroup.dir_fd(), BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI), 0);
  close(rules);
  close(program);
  Prisoner prisoner;
  ASSERT_OK(cgroup.add(prisoner.pid()));
  EXPECT_EQ(prisoner.open("/dev/null", O_RDONLY), EPERM);
  auto adopted = control_->adopt(cgroup, 0);
  ASSERT_FALSE(adopted);
  EXPECT_EQ(adopted.error().code(), Errc::Lost);
}

TEST_F(FenceV2Test, NumbersBeyondTheKernelsAreRefused) {
  Cgroup cgroup = make_cgroup();
  auto fence = create(cgroup);
  EXPECT_EQ(fence->set(rule('c', 4096, 0, "r")).error().code(), Errc::Invalid);
  EXPECT_EQ(fence->set(rule('c', 1, 1U << 20, "r")).error().code(), Errc::Invalid);
  EXPECT_EQ(fence->set(rule('c', 1, 0xffffffff, "r")).error().code(), Errc::Invalid);
  EXPECT_OK(fence->set(rule('c', 4095, (1U << 20) - 1, "r")));
}

TEST_F(FenceV2Test, DissolveLeavesNoRuleAndPruneFindsOrphans) {
  Cgroup cgroup = make_cgroup(), orphan = make_cgroup();
  auto fence = create(cgroup), lost = create(orphan);
  ASSERT_OK(fence->set(rule('c', 1, 3, "rw")));
  ASSERT_OK(lost->set(rule('c', 1, 3, "rw")));
  ASSERT_OK(lost->set(rule('b', 7, 0, "rw")));
  ASSERT_OK(orphan.remove());
  EXPECT_EQ(lost->list().error().code(), Errc::NotFound);
  EXPECT_EQ(control_->prune({fence->slot()}).value(), 2U);
  EXPECT_EQ(fence->list().value().size(), 1U);
  ASSERT_OK(fence->dissolve());
  EXPECT_EQ(control_->prune({}).value(), 0U);
  ASSERT_OK(cgroup.remove());
}

}  // namespace
}  // namespace tenure::kernel::testing
