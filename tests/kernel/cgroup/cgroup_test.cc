// SPDX-License-Identifier: Apache-2.0
// Cgroups of both hierarchies on the running kernel.
#include "kernel/cgroup.h"

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <thread>

#include "base/file.h"
#include "kernel/process.h"
#include "tests/kernel/fence/support.h"

namespace tenure::kernel::testing {
namespace {

class CgroupTest : public ::testing::TestWithParam<CgroupVersion> {
 protected:
  void SetUp() override {
    if (geteuid() != 0)
      GTEST_SKIP() << "needs root";
    auto mounts = find_cgroup_mounts();
    ASSERT_TRUE(mounts) << mounts.error().what();
    const std::string& mount = GetParam() == CgroupVersion::V2 ? mounts->v2 : mounts->v1_devices;
    if (mount.empty())
      GTEST_SKIP() << "this hierarchy is not mounted";
    if (::access(mount.c_str(), W_OK) < 0)
      GTEST_SKIP() << mount << ": " << strerror(errno);
    cgroups_ = std::make_unique<Cgroups>(*mounts);
  }
  Cgroup make() { return cgroups_->make(GetParam()).value(); }
  std::unique_ptr<Cgroups> cgroups_;
};

TEST_P(CgroupTest, IsMadeOpenedAndRemoved) {
  Cgroup cgroup = make();
  EXPECT_EQ(cgroup.version(), GetParam());
  EXPECT_NE(cgroup.inode(), 0U);
  EXPECT_TRUE(cgroup.processes().value().empty());
  std::string name = cgroup.path().substr(cgroup.path().rfind('/') + 1);
  EXPECT_EQ(Cgroup::create(GetParam(), cgroups_->mount(GetParam()), "", name).error().code(),
            Errc::Exists);
  EXPECT_EQ(Cgroup::open(GetParam(), cgroup.path()).value().inode(), cgroup.inode());
  EXPECT_OK(cgroup.remove());
  EXPECT_EQ(cgroup.remove().error().code(), Errc::NotFound);
  EXPECT_EQ(cgroup.processes().error().code(), Errc::NotFound);
  EXPECT_EQ(Cgroup::open(GetParam(), cgroup.path()).error().code(), Errc::NotFound);
}

TEST_P(CgroupTest, IsNotRemovedIfAnotherOneTookItsPath) {
  Cgroup cgroup = make();
  ASSERT_EQ(rmdir(cgroup.path().c_str()), 0);
  ASSERT_EQ(mkdir(cgroup.path().c_str(), 0755), 0);
  EXPECT_EQ(cgroup.remove().error().code(), Errc::NotFound);
  EXPECT_EQ(::access(cgroup.path().c_str(), F_OK), 0);
}

TEST_P(CgroupTest, HoldsProcessesAndIsBusyMeanwhile) {
  Cgroup cgroup = make();
  Prisoner one, two;
  ASSERT_OK(cgroup.add(one.pid()));
  ASSERT_OK(cgroup.add(two.pid()));
  auto pids = cgroup.processes().value();
  EXPECT_EQ(pids.size(), 2U);
  EXPECT_EQ(cgroup.remove().error().code(), Errc::Busy);
  EXPECT_EQ(cgroup.wait_empty(0).error().code(), Errc::Timeout);
  EXPECT_EQ(cgroup.wait_empty(10).error().code(), Errc::Timeout);
}

// A first thread that ended leaves the list of threads, and stays in /proc until the others end.
TEST_P(CgroupTest, AThreadThatEndedIsNotOutside) {
  int ready[2];
  ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
  UniqueFd reader(ready[0]), writer(ready[1]);
  pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char byte = 0;
    if (read(reader.get(), &byte, 1) != 1)
      _exit(1);
    std::thread([] {
      for (;;) pause();
    }).detach();
    syscall(SYS_exit, 0);  // this thread alone
  }
  Cgroup cgroup = make();
  Result<> added = cgroup.add(child);
  ASSERT_EQ(write(writer.get(), "x", 1), 1);
  const std::string stat = "/proc/" + std::to_string(child) + "/stat";
  while (read_file(stat, 4096).value().find(") Z ") == std::string::npos) sched_yield();
  auto outside = threads_outside(cgroup, child);
  const bool ending = is_ending(child);
  auto listed = cgroup.processes();
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_OK(added);
  EXPECT_EQ(outside, 0U);
  EXPECT_FALSE(ending);
  EXPECT_EQ(listed, std::vector<pid_t>{child});
}

TEST_P(CgroupTest, KillsAllWithTheirChildren) {
  Cgroup cgroup = make();
  Prisoner parent;
  ASSERT_OK(cgroup.add(parent.pid()));
  for (int i = 0; i < 5; ++i)
    ASSERT_EQ(parent.run(
                  [](const Prisoner::Command&) {
                    pid_t child = fork();
                    if (child == 0)
                      for (;;) pause();
                    return child < 0 ? errno : 0;
                  },
                  ""),
              0);
  EXPECT_EQ(cgroup.processes().value().size(), 6U);
  ASSERT_OK(cgroup.kill_all());
  ASSERT_OK(cgroup.wait_empty(10000));
  EXPECT_TRUE(cgroup.processes().value().empty());
  EXPECT_OK(cgroup.remove());
}

TEST_P(CgroupTest, RefusesToTakeAProcessThatIsGone) {
  pid_t dead = fork();
  if (dead == 0)
    _exit(0);
  waitpid(dead, nullptr, 0);
  EXPECT_EQ(make().add(dead).error().code(), Errc::NotFound);
}

INSTANTIATE_TEST_SUITE_P(Kernel, CgroupTest,
                         ::testing::Values(CgroupVersion::V1, CgroupVersion::V2),
                         [](const auto& kind) {
                           return kind.param == CgroupVersion::V1 ? "V1" : "V2";
                         });

}  // namespace
}  // namespace tenure::kernel::testing
