// SPDX-License-Identifier: Apache-2.0
// Where the v2 fence lives between two daemons, what it refuses to take over, and how it says why
// it cannot be had.
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include <filesystem>
#include <functional>

#include "base/file.h"
#include "bpf/fence_layout.h"
#include "tests/kernel/fence/support.h"

namespace tenure::kernel::testing {
namespace {

constexpr const char* kTestPins = "/sys/fs/bpf/tenure-test";

class FencePinsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0)
      GTEST_SKIP() << "needs root";
    mounts_ = find_cgroup_mounts().value();
    if (auto usable = probe_fence_v2(mounts_); !usable)
      GTEST_SKIP() << usable.error().what();
    if (auto problem = enter_own_mounts(); !problem.empty())
      GTEST_SKIP() << problem;
  }
  void TearDown() override {
    (void)remove_fence_pins(kTestPins);
    std::error_code ignored;
    std::filesystem::remove_all(kTestPins, ignored);
  }
  // What open_fence_v2 says of the pins as they are.
  Error refusal(const std::string& pins = kTestPins) {
    auto control = open_fence_v2(pins);
    EXPECT_FALSE(control);
    return control ? Error(Errc::Internal, "opened") : control.error();
  }

  CgroupMounts mounts_;
};

TEST_F(FencePinsTest, ArePrivateAndGoWhole) {
  ASSERT_OK(open_fence_v2(kTestPins));
  struct stat facts{};
  ASSERT_EQ(stat(kTestPins, &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777, 0700U);
  EXPECT_FALSE(std::filesystem::exists(std::string(kTestPins) + "-new"));
  for (const auto& pin : std::filesystem::directory_iterator(kTestPins)) {
    ASSERT_EQ(stat(pin.path().c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0077, 0U) << pin.path();
  }
  ASSERT_OK(remove_fence_pins(kTestPins));
  EXPECT_FALSE(std::filesystem::exists(kTestPins));
  EXPECT_EQ(remove_fence_pins(kTestPins).error().code(), Errc::NotFound);
}

TEST_F(FencePinsTest, MountsBpffsWhereNobodyHas) {
  while (umount("/sys/fs/bpf") == 0) {
  }
  ASSERT_OK(open_fence_v2(kTestPins));
  struct statfs facts{};
  ASSERT_EQ(statfs("/sys/fs/bpf", &facts), 0);
  EXPECT_EQ(facts.f_type, BPF_FS_MAGIC);
}

TEST_F(FencePinsTest, RefusesAFolderThatIsNotOnBpffs) {
  Error error = refusal("/mnt/pins");
  EXPECT_EQ(error.code(), Errc::Unsupported);
  EXPECT_NE(error.what().find("/mnt/pins is not on bpffs"), std::string::npos);
  EXPECT_EQ(refusal("/sys/fs/bpf/a.b").code(), Errc::Invalid);
  EXPECT_EQ(refusal("relative").code(), Errc::Invalid);
  EXPECT_EQ(refusal("/sys/fs/bpf/").code(), Errc::Invalid);
}

TEST_F(FencePinsTest, RefusesAnotherLayout) {
  ASSERT_OK(open_fence_v2(kTestPins));
  int counters = bpf_obj_get((std::string(kTestPins) + "/counters").c_str());
  uint32_t key = TENURE_COUNTER_LAYOUT;
  uint64_t layout = 77;
  ASSERT_EQ(bpf_map_update_elem(counters, &key, &layout, BPF_ANY), 0);
  close(counters);
  Error error = refusal();
  EXPECT_EQ(error.code(), Errc::Invalid);
  EXPECT_NE(error.what().find("have layout 77, this tenured knows 2"), std::string::npos)
      << error.what();
}

TEST_F(FencePinsTest, RefusesAMissingPin) {
  for (const char* name :
       {"counters", "guests", "rules", "denials", "refusals_a", "refusals_b", "program"}) {
    ASSERT_OK(open_fence_v2(kTestPins));
    ASSERT_EQ(unlink((std::string(kTestPins) + "/" + name).c_str()), 0);
    Error error = refusal();
    EXPECT_EQ(error.code(), Errc::Corrupt) << name;
    EXPECT_NE(error.what().find(name), std::string::npos) << error.what();
    ASSERT_OK(remove_fence_pins(kTestPins));
  }
}

TEST_F(FencePinsTest, RefusesAMapThatTheProgramDoesNotUse) {
  ASSERT_OK(open_fence_v2("/sys/fs/bpf/tenure-test-other"));
  ASSERT_OK(open_fence_v2(kTestPins));
  std::string own = std::string(kTestPins) + "/rules";
  int foreign = bpf_obj_get("/sys/fs/bpf/tenure-test-other/rules");
  ASSERT_EQ(unlink(own.c_str()), 0);
  ASSERT_EQ(bpf_obj_pin(foreign, own.c_str()), 0);
  close(foreign);
  EXPECT_EQ(refusal().code(), Errc::Corrupt);
  ASSERT_OK(remove_fence_pins("/sys/fs/bpf/tenure-test-other"));
}

TEST_F(FencePinsTest, RefusesAFolderThatOthersCanWrite) {
  ASSERT_OK(open_fence_v2(kTestPins));
  ASSERT_EQ(chmod(kTestPins, 0777), 0);
  EXPECT_EQ(refusal().code(), Errc::Denied);
  ASSERT_EQ(chmod(kTestPins, 0700), 0);
  ASSERT_EQ(chown(kTestPins, 12345, 0), 0);
  EXPECT_EQ(refusal().code(), Errc::Denied);
}

TEST_F(FencePinsTest, GoesOnAfterADaemonThatDiedWhilePinning) {
  ASSERT_EQ(mkdir((std::string(kTestPins) + "-new").c_str(), 0700), 0);
  ASSERT_EQ(mkdir(kTestPins, 0700), 0);
  EXPECT_OK(open_fence_v2(kTestPins));
  EXPECT_FALSE(std::filesystem::exists(std::string(kTestPins) + "-new"));
}

TEST_F(FencePinsTest, ChoosesByTrying) {
  auto best = choose_fence(mounts_, kTestPins);
  ASSERT_TRUE(best) << best.error().what();
  EXPECT_EQ(best->control->version(), CgroupVersion::V2);
  best->control.reset();
  for (const auto& entry : std::filesystem::directory_iterator(mounts_.v2))
    EXPECT_NE(entry.path().filename(), "tenure-probe-" + std::to_string(getpid()));

  auto none = choose_fence(CgroupMounts{}, kTestPins);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), Errc::Unsupported);
  EXPECT_EQ(none.error().what(),
            "no device fence can be had here: v2: cgroup v2 is not mounted; v1: the devices "
            "controller of cgroup v1 is not mounted");
  if (mounts_.v1_devices.empty())
    return;
  auto old = choose_fence(mounts_, kTestPins, CgroupVersion::V1);
  ASSERT_TRUE(old) << old.error().what();
  EXPECT_EQ(old->control->version(), CgroupVersion::V1);
  auto fallback = choose_fence(CgroupMounts{.v2 = "", .v1_devices = mounts_.v1_devices}, kTestPins);
  ASSERT_TRUE(fallback) << fallback.error().what();
  EXPECT_EQ(fallback->control->version(), CgroupVersion::V1);
  EXPECT_EQ(fallback->why_not_v2, "cgroup v2 is not mounted");
}

// Runs `act` in a child; its text, and what it wrote to stderr.
std::string in_child(const std::function<std::string()>& act) {
  int pipe_fds[2];
  EXPECT_EQ(pipe(pipe_fds), 0);
  pid_t child = fork();
  if (child == 0) {
    dup2(pipe_fds[1], STDERR_FILENO);
    close(pipe_fds[0]);
    std::string text = act();
    if (write(pipe_fds[1], text.data(), text.size()) < 0)
      _exit(2);
    _exit(0);
  }
  close(pipe_fds[1]);
  std::string text = read_fd(pipe_fds[0], 65536, "pipe").value_or("");
  close(pipe_fds[0]);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << text;
  return text;
}

std::string as_nobody(const std::function<std::string()>& act) {
  return in_child([&] {
    if (setgid(65534) < 0 || setuid(65534) < 0)
      _exit(1);
    return act();
  });
}

TEST_F(FencePinsTest, WithoutPrivilegesSaysSoInOneErrorAndPrintsNothing) {
  ASSERT_EQ(chmod("/sys/fs/bpf", 0777), 0);
  std::string load = as_nobody([] {
    auto control = open_fence_v2(kTestPins);
    return control ? "opened" : control.error().what() + "\n";
  });
  EXPECT_EQ(load.find('\n'), load.size() - 1) << load;
  EXPECT_TRUE(load.starts_with("device fence v2: load the device program")) << load;
  EXPECT_NE(load.find("Operation not permitted"), std::string::npos) << load;
  std::string probe = as_nobody([this] {
    auto v2 = probe_fence_v2(mounts_);
    auto v1 = probe_fence_v1(mounts_);
    return v2 || v1 ? "works" : v2.error().what() + "\n" + v1.error().what() + "\n";
  });
  EXPECT_NE(probe.find("Operation not permitted"), std::string::npos) << probe;
}

// CAP_BPF alone opens maps and programs; loading a device program takes CAP_NET_ADMIN as well.
void keep_only_cap_bpf() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {};
  data[CAP_TO_INDEX(CAP_BPF)].effective = CAP_TO_MASK(CAP_BPF);
  data[CAP_TO_INDEX(CAP_BPF)].permitted = CAP_TO_MASK(CAP_BPF);
  if (syscall(SYS_capset, &header, data) < 0)
    _exit(3);
}

TEST_F(FencePinsTest, TakingOverLoadsNoProgram) {
  ASSERT_OK(open_fence_v2(kTestPins));
  std::string said = in_child([] {
    keep_only_cap_bpf();
    auto loaded = open_fence_v2("/sys/fs/bpf/tenure-test-other");
    auto taken_over = open_fence_v2(kTestPins);
    return (loaded ? "loaded" : "not loaded; ") +
           (taken_over ? "taken over" : taken_over.error().what());
  });
  EXPECT_EQ(said, "not loaded; taken over");
}

}  // namespace
}  // namespace tenure::kernel::testing
