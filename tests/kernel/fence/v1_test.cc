// SPDX-License-Identifier: Apache-2.0
// The v1 fence on the running kernel, above all the writes that succeed and do something else.
#include <memory>

#include "base/file.h"
#include "tests/kernel/fence/support.h"

namespace tenure::kernel::testing {
namespace {

class FenceV1Test : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0)
      GTEST_SKIP() << "needs root";
    auto mounts = find_cgroup_mounts();
    ASSERT_TRUE(mounts) << mounts.error().what();
    if (auto usable = probe_fence_v1(*mounts); !usable)
      GTEST_SKIP() << usable.error().what();
    if (auto problem = enter_own_mounts(); !problem.empty())
      GTEST_SKIP() << problem;
    cgroups_ = std::make_unique<Cgroups>(*mounts);
    control_ = open_fence_v1().value();
    cgroup_.emplace(cgroups_->make(CgroupVersion::V1).value());
    auto fence = control_->create(*cgroup_);
    ASSERT_TRUE(fence) << fence.error().what();
    fence_ = std::move(*fence);
  }
  // As another program would; the length that write(2) returned.
  ssize_t write_behind_back(const char* file, std::string_view text) {
    UniqueFd fd = open_at(cgroup_->dir_fd(), file, O_WRONLY).value();
    return write(fd.get(), text.data(), text.size());
  }

  std::unique_ptr<Cgroups> cgroups_;
  std::unique_ptr<FenceControl> control_;
  std::optional<Cgroup> cgroup_;
  std::unique_ptr<Fence> fence_;
};

TEST_F(FenceV1Test, EnforcesWhatItLists) {
  Prisoner prisoner;
  ASSERT_OK(cgroup_->add(prisoner.pid()));
  EXPECT_EQ(prisoner.open("/dev/null", O_RDONLY), EPERM);
  EXPECT_EQ(fence_->deny_all().value(), Outcome::Changed);
  EXPECT_EQ(fence_->deny_all().value(), Outcome::Unchanged);
  EXPECT_EQ(fence_->set(rule('c', 1, 3, "r")).value(), Outcome::Changed);
  EXPECT_EQ(fence_->set(rule('c', 1, 3, "r")).value(), Outcome::Unchanged);
  EXPECT_EQ(prisoner.open("/dev/null", O_RDONLY), 0);
  EXPECT_EQ(prisoner.open("/dev/null", O_RDWR), EPERM);
  EXPECT_EQ(prisoner.open(make_node('b', 1, 3), O_RDONLY), EPERM);
  EXPECT_EQ(prisoner.access("/dev/null", W_OK), EPERM);
  EXPECT_EQ(prisoner.mknod("/mnt/made", S_IFCHR, makedev(1, 3)), EPERM);
  EXPECT_EQ(fence_->set(rule('c', 1, 3, "wm")).value(), Outcome::Changed);
  EXPECT_EQ(prisoner.open("/dev/null", O_RDONLY), EPERM);
  EXPECT_EQ(prisoner.open("/dev/null", O_WRONLY), 0);
  EXPECT_EQ(prisoner.mknod("/mnt/made", S_IFCHR, makedev(1, 3)), 0);
  EXPECT_EQ(fence_->list().value(), std::vector{rule('c', 1, 3, "wm")});
  EXPECT_EQ(fence_->set(rule('c', 1, 3, "")).value(), Outcome::Changed);
  EXPECT_EQ(fence_->set(rule('c', 1, 3, "")).value(), Outcome::Unchanged);
  EXPECT_TRUE(fence_->list().value().empty());
}

TEST_F(FenceV1Test, ADenyOfAnyMinorLeavesTheExactEntry) {
  ASSERT_OK(fence_->set(rule('b', 7, kAny, "rwm")));
  ASSERT_OK(fence_->set(rule('b', 7, 1, "rwm")));
  EXPECT_EQ(fence_->set(rule('b', 7, kAny, "")).value(), Outcome::Changed);
  EXPECT_EQ(fence_->list().value(), std::vector{rule('b', 7, 1, "rwm")});
}

TEST_F(FenceV1Test, ADenyOfWhatOnlyAnyMinorCoversChangesNothing) {
  ASSERT_OK(fence_->set(rule('b', 7, kAny, "rwm")));
  EXPECT_GT(write_behind_back("devices.deny", "b 7:1 rwm"), 0);  // "success"
  EXPECT_EQ(fence_->set(rule('b', 7, 1, "")).value(), Outcome::Unchanged);
  EXPECT_EQ(fence_->list().value(), std::vector{rule('b', 7, kAny, "rwm")});
}

TEST_F(FenceV1Test, OnlyTheFirstLineOfAWriteIsAppliedSoWeWriteOne) {
  EXPECT_EQ(write_behind_back("devices.allow", "b 7:4 rwm\nb 7:5 rwm\n"), 20);  // "success"
  EXPECT_EQ(fence_->list().value(), std::vector{rule('b', 7, 4, "rwm")});
  EXPECT_EQ(fence_->set(rule('b', 7, 5, "rwm")).value(), Outcome::Changed);
  EXPECT_EQ(fence_->list().value(), (std::vector{rule('b', 7, 4, "rwm"), rule('b', 7, 5, "rwm")}));
}

TEST_F(FenceV1Test, PartialDenyAndWideningMakeExactlyTheAccessAskedFor) {
  ASSERT_OK(fence_->set(rule('b', 7, 1, "rwm")));
  EXPECT_EQ(fence_->set(rule('b', 7, 1, "rm")).value(), Outcome::Changed);
  EXPECT_EQ(fence_->list().value(), std::vector{rule('b', 7, 1, "rm")});
  EXPECT_EQ(fence_->set(rule('b', 7, 1, "rw")).value(), Outcome::Changed);
  EXPECT_EQ(fence_->list().value(), std::vector{rule('b', 7, 1, "rw")});
}

TEST_F(FenceV1Test, EntriesAreNotUnitedByTheKernel) {
  Prisoner prisoner;
  ASSERT_OK(cgroup_->add(prisoner.pid()));
  ASSERT_OK(fence_->set(rule('c', 1, kAny, "r")));
  ASSERT_OK(fence_->set(rule('c', 1, 5, "w")));
  EXPECT_EQ(prisoner.open("/dev/zero", O_RDONLY), 0);
  EXPECT_EQ(prisoner.open("/dev/zero", O_WRONLY), 0);
  EXPECT_EQ(prisoner.open("/dev/zero", O_RDWR), EPERM);
}

TEST_F(FenceV1Test, WhatTheParentRefusesChangesNothing) {
  ASSERT_OK(fence_->set(rule('b', 7, 1, "rm")));
  std::string parent = cgroup_->path().substr(cgroups_->mounts().v1_devices.size());
  auto child = cgroups_->make(CgroupVersion::V1, parent);
  ASSERT_TRUE(child) << child.error().what();
  auto fence = control_->create(*child);
  ASSERT_TRUE(fence) << fence.error().what();
  auto refused = (*fence)->set(rule('c', 1, 3, "r"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Errc::Denied);
  EXPECT_EQ(refused.error().sys_errno(), EPERM);
  ASSERT_OK((*fence)->set(rule('b', 7, 1, "m")));
  // Wider and narrower at once: the refused half keeps the other half from happening.
  EXPECT_EQ((*fence)->set(rule('b', 7, 1, "w")).error().code(), Errc::Denied);
  EXPECT_EQ((*fence)->list().value(), std::vector{rule('b', 7, 1, "m")});
  // A deny in the parent reaches the child at once.
  ASSERT_OK(fence_->set(rule('b', 7, 1, "")));
  EXPECT_TRUE((*fence)->list().value().empty());
  // With a child cgroup the kernel refuses "a".
  EXPECT_EQ(control_->create(*cgroup_).error().code(), Errc::Busy);
}

TEST_F(FenceV1Test, NoticesThatSomebodyAllowedAll) {
  ASSERT_OK(fence_->set(rule('c', 1, 3, "rw")));
  ASSERT_GT(write_behind_back("devices.allow", "a"), 0);
  EXPECT_EQ(fence_->list().error().code(), Errc::Lost);
  EXPECT_EQ(control_->list_all({fence_.get()})[0].error().code(), Errc::Lost);
  EXPECT_EQ(fence_->set(rule('c', 1, 3, "")).error().code(), Errc::Lost);
  EXPECT_EQ(control_->adopt(*cgroup_, 0).error().code(), Errc::Lost);
  EXPECT_EQ(fence_->deny_all().value(), Outcome::Changed);
  EXPECT_TRUE(fence_->list().value().empty());
}

TEST_F(FenceV1Test, NoticesAnEntryForAnyMajor) {
  ASSERT_GT(write_behind_back("devices.allow", "c *:* m"), 0);
  auto list = fence_->list();
  ASSERT_FALSE(list);
  EXPECT_EQ(list.error().code(), Errc::Lost);
  EXPECT_NE(list.error().what().find("\"c *:* m\""), std::string::npos) << list.error().what();
}

TEST_F(FenceV1Test, ARestartFindsTheListAsItIs) {
  ASSERT_OK(fence_->set(rule('c', 1, 3, "rw")));
  fence_.reset();
  control_ = open_fence_v1().value();
  auto adopted = control_->adopt(*cgroup_, 0);
  ASSERT_TRUE(adopted) << adopted.error().what();
  EXPECT_EQ((*adopted)->list().value(), std::vector{rule('c', 1, 3, "rw")});
  EXPECT_EQ((*adopted)->slot(), 0U);
  EXPECT_EQ(control_->adopt(*cgroup_, 5).error().code(), Errc::Lost);
}

TEST_F(FenceV1Test, NumbersBeyondTheKernelsAreRefused) {
  EXPECT_EQ(fence_->set(rule('c', 4096, 0, "r")).error().code(), Errc::Invalid);
  EXPECT_EQ(fence_->set(rule('c', 1, 1U << 20, "r")).error().code(), Errc::Invalid);
}

TEST_F(FenceV1Test, ARemovedCgroupIsNotFound) {
  ASSERT_OK(cgroup_->remove());
  EXPECT_EQ(fence_->list().error().code(), Errc::NotFound);
  EXPECT_EQ(fence_->set(rule('c', 1, 3, "r")).error().code(), Errc::NotFound);
  EXPECT_OK(fence_->dissolve());
}

TEST_F(FenceV1Test, TellsNothingOfDenials) {
  EXPECT_EQ(fence_->denials().value(), std::nullopt);
  EXPECT_EQ(control_->denials_fd(), -1);
  EXPECT_EQ(control_->drain_denials([](const Denial&) { FAIL(); }).value(), 0U);
}

}  // namespace
}  // namespace tenure::kernel::testing
