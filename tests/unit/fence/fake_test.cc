// SPDX-License-Identifier: Apache-2.0
// The fence in memory keeps the contract that the real ones keep.
#include "kernel/fence_fake.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>

namespace tenure::kernel {
namespace {

constexpr AclRule kNullRead{.type = DeviceType::Char, .major = 1, .minor = 3, .access = kReadOnly};

AclRule with(AclRule rule, Access access) {
  rule.access = access;
  return rule;
}

class FakeFence : public ::testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/tenure-fake-fence-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    mount_ = folder;
    cgroup_.emplace(make("guest"));
    control_ = fake_fence_control(world_);
    fence_ = control_->create(*cgroup_).value();
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove_all(mount_, ignored);
  }
  Cgroup make(const std::string& name) {
    return Cgroup::create(CgroupVersion::V2, mount_, "tenure", name).value();
  }

  std::string mount_;
  std::shared_ptr<FakeFenceWorld> world_ = std::make_shared<FakeFenceWorld>();
  std::optional<Cgroup> cgroup_;
  std::unique_ptr<FenceControl> control_;
  std::unique_ptr<Fence> fence_;
};

TEST_F(FakeFence, SetTellsChangedFromUnchanged) {
  EXPECT_EQ(fence_->deny_all().value(), Outcome::Changed);
  EXPECT_EQ(fence_->deny_all().value(), Outcome::Unchanged);
  EXPECT_EQ(fence_->set(kNullRead).value(), Outcome::Changed);
  EXPECT_EQ(fence_->set(kNullRead).value(), Outcome::Unchanged);
  EXPECT_EQ(fence_->list().value(), std::vector{kNullRead});
  EXPECT_EQ(fence_->set(with(kNullRead, kReadWrite)).value(), Outcome::Changed);
  EXPECT_EQ(fence_->list().value(), std::vector{with(kNullRead, kReadWrite)});
  EXPECT_EQ(fence_->set(with(kNullRead, {})).value(), Outcome::Changed);
  EXPECT_EQ(fence_->set(with(kNullRead, {})).value(), Outcome::Unchanged);
  EXPECT_TRUE(fence_->list().value().empty());
}

TEST_F(FakeFence, FailsTheCallThatItWasToldTo) {
  world_->fail_call(1, EACCES);
  ASSERT_TRUE(fence_->deny_all());
  auto refused = fence_->set(kNullRead);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Errc::Denied);
  EXPECT_EQ(refused.error().sys_errno(), EACCES);
  EXPECT_TRUE(fence_->list().value().empty());
  EXPECT_EQ(fence_->set(kNullRead).value(), Outcome::Changed);
}

TEST_F(FakeFence, ShowsWhatWasChangedBehindItsBack) {
  ASSERT_TRUE(fence_->set(kNullRead));
  world_->change_behind_back(cgroup_->inode(), with(kNullRead, kReadWrite));
  EXPECT_EQ(fence_->list().value(), std::vector{with(kNullRead, kReadWrite)});
  world_->guests[cgroup_->inode()].in_force = false;
  EXPECT_EQ(fence_->list().error().code(), Errc::Lost);
  EXPECT_EQ(fence_->set(kNullRead).error().code(), Errc::Lost);
}

TEST_F(FakeFence, OutlivesItsDaemon) {
  ASSERT_TRUE(fence_->set(kNullRead));
  uint32_t slot = fence_->slot();
  control_ = fake_fence_control(world_);
  EXPECT_EQ(control_->adopt(*cgroup_, slot).value()->list().value(), std::vector{kNullRead});
  EXPECT_EQ(control_->adopt(*cgroup_, 0).value()->slot(), slot);
  EXPECT_EQ(control_->adopt(*cgroup_, slot + 1).error().code(), Errc::Lost);
  EXPECT_EQ(control_->create(*cgroup_).error().code(), Errc::Exists);
  Cgroup other = make("other");
  EXPECT_GT(control_->create(other).value()->slot(), slot);
  EXPECT_EQ(control_->prune({}).value(), 1U);
  EXPECT_TRUE(fence_->dissolve());
  EXPECT_TRUE(control_->create(*cgroup_));
}

TEST_F(FakeFence, HandsOutDenials) {
  pollfd waiting{.fd = control_->denials_fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&waiting, 1, 0), 0);
  Denial denial{.major = 1, .minor = 7, .access = kReadOnly, .pid = 17, .comm = "qemu"};
  world_->deny(cgroup_->inode(), denial);
  world_->deny(cgroup_->inode(), denial, false);
  waiting.fd = control_->denials_fd();
  EXPECT_EQ(poll(&waiting, 1, 0), 1);
  std::vector<Denial> seen;
  EXPECT_EQ(control_->drain_denials([&](const Denial& d) { seen.push_back(d); }).value(), 1U);
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].slot, fence_->slot());
  EXPECT_EQ(seen[0].comm, "qemu");
  EXPECT_EQ(fence_->denials().value(), 2U);
  EXPECT_EQ(poll(&waiting, 1, 0), 0);
}

TEST_F(FakeFence, AsV1HasNoSlotAndNoDenials) {
  control_ = fake_fence_control(world_, CgroupVersion::V1);
  Cgroup cgroup = make("old");
  auto fence = control_->create(cgroup).value();
  EXPECT_EQ(fence->version(), CgroupVersion::V1);
  EXPECT_EQ(fence->slot(), 0U);
  EXPECT_EQ(fence->denials().value(), std::nullopt);
  EXPECT_EQ(control_->denials_fd(), -1);
}

}  // namespace
}  // namespace tenure::kernel
