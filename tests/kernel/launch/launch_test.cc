// SPDX-License-Identifier: Apache-2.0
// What a launched program is given, and what it is not, as it sees it itself.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <functional>
#include <thread>

#include "base/file.h"
#include "base/text.h"
#include "kernel/cgroup.h"
#include "kernel/shared_folder.h"
#include "tests/kernel/launch/probe.h"

namespace tenure::qemu {
namespace {

constexpr uint32_t kUid = 64123, kGid = 64124;

#define NEEDS_ROOT()  \
  if (geteuid() != 0) \
  GTEST_SKIP() << "needs root: users, cgroups and mounts are changed"

#define NEEDS_MOUNT()                                     \
  NEEDS_ROOT();                                           \
  if (auto built = kernel::build_private_dev({}); !built) \
  GTEST_SKIP() << "cannot build a private /dev: " << built.error().what()

std::string value(const Seen& seen, const std::string& key) {
  auto found = seen.find(key);
  return found == seen.end() ? "(absent)" : found->second;
}

// Runs `body` in a child process, so that what it does to itself stays there. 0 is success.
int in_child(const std::function<int()>& body) {
  pid_t pid = fork();
  if (pid == 0)
    _exit(body());
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

size_t count_open_fds() {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                                           std::filesystem::directory_iterator{}));
}

// A cgroup of this test, removed at the end.
class OwnCgroup {
 public:
  OwnCgroup(kernel::CgroupVersion version, const std::string& mount) {
    auto made = kernel::Cgroup::create(version, mount, "",
                                       "tenure-test-launch-" + std::to_string(getpid()));
    if (made)
      cgroup.emplace(std::move(*made));
    else
      why = made.error().what();
  }
  ~OwnCgroup() {
    if (cgroup)
      (void)cgroup->remove();
  }
  std::optional<kernel::Cgroup> cgroup;
  std::string why;
};

TEST(Launch, StartsWithNothingOfOurs) {
  UniqueFd stray(open("/etc/passwd", O_RDONLY));  // not even close-on-exec
  setenv("TENURE_TEST_SECRET", "1", 1);
  auto seen = launch_and_look(probe_spec());
  unsetenv("TENURE_TEST_SECRET");
  ASSERT_TRUE(seen) << seen.error().what();
  EXPECT_EQ(value(*seen, "fd.0"), "/dev/null");
  EXPECT_EQ(value(*seen, "fd.1"), "/memfd:probe output (deleted)");
  EXPECT_EQ(value(*seen, "fd.2"), "/memfd:probe output (deleted)");
  EXPECT_EQ(std::ranges::count_if(*seen, [](auto& e) { return e.first.starts_with("fd."); }), 3);
  EXPECT_EQ(value(*seen, "env.MARK"), "from the spec");
  EXPECT_EQ(value(*seen, "env.TENURE_TEST_SECRET"), "(absent)");
  EXPECT_EQ(value(*seen, "cwd"), "/");
  EXPECT_EQ(value(*seen, "session_leader"), "1");
}

TEST(Launch, KeepsExactlyTheListedFdsUnderTheirNumbers) {
  UniqueFd low(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
  UniqueFd high(fcntl(low.get(), F_DUPFD_CLOEXEC, 777));
  UniqueFd stray(fcntl(low.get(), F_DUPFD, 500));
  LaunchSpec spec = probe_spec();
  spec.fds = {low.get(), high.get()};
  auto seen = launch_and_look(spec);
  ASSERT_TRUE(seen) << seen.error().what();
  EXPECT_EQ(value(*seen, "fd." + std::to_string(low.get())), "/etc/passwd");
  EXPECT_EQ(value(*seen, "fd.777"), "/etc/passwd");
  EXPECT_EQ(std::ranges::count_if(*seen, [](auto& e) { return e.first.starts_with("fd."); }), 5);
  EXPECT_NE(fcntl(low.get(), F_GETFD) & FD_CLOEXEC, 0) << "our own flag was changed";
}

TEST(Launch, HasDefaultSignalsAndNoPrivilegeToGain) {
  // As the daemon: SIGPIPE ignored, some signals blocked.
  struct sigaction ignore{};
  struct sigaction before{};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &ignore, &before);
  sigset_t some, old;
  sigemptyset(&some);
  sigaddset(&some, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &some, &old);
  auto seen = launch_and_look(probe_spec());
  sigset_t now;
  pthread_sigmask(SIG_SETMASK, &old, &now);
  sigaction(SIGPIPE, &before, nullptr);
  ASSERT_TRUE(seen) << seen.error().what();
  EXPECT_EQ(sigismember(&now, SIGTERM), 1) << "our own mask was changed";
  EXPECT_EQ(sigismember(&now, SIGINT), 0) << "our own mask was changed";
  EXPECT_EQ(value(*seen, "status.SigIgn"), "0000000000000000");
  EXPECT_EQ(value(*seen, "status.SigBlk"), "0000000000000000");
  EXPECT_EQ(value(*seen, "status.NoNewPrivs"), "1");
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapAmb"})
    EXPECT_EQ(value(*seen, std::string("status.") + set), "0000000000000000") << set;
}

TEST(Launch, StandardErrorMayBeOneOfOurOwnThree) {
  LaunchSpec spec = probe_spec();
  spec.argv = {"/bin/true"};
  spec.stdout_fd = 2;
  spec.stderr_fd = 1;
  auto launched = launch(spec);
  ASSERT_TRUE(launched) << launched.error().what();
  EXPECT_EQ(wait_for(*launched), 0);
}

TEST(Launch, NamesTheProcessByPidfdAndStartTime) {
  LaunchSpec spec = probe_spec();
  spec.argv = {"/bin/sleep", "1000"};
  auto launched = launch(spec);
  ASSERT_TRUE(launched) << launched.error().what();
  auto id = kernel::process_id(launched->id.pid);
  ASSERT_TRUE(id);
  EXPECT_EQ(*id, launched->id);
  EXPECT_EQ(syscall(SYS_pidfd_send_signal, launched->pidfd.get(), SIGKILL, nullptr, 0), 0);
  EXPECT_EQ(wait_for(*launched), -SIGKILL);
}

TEST(Launch, FailingExecveIsReportedAndReaped) {
  LaunchSpec spec = probe_spec();
  spec.argv = {"/nonexistent/qemu"};
  auto launched = launch(spec);
  ASSERT_FALSE(launched);
  EXPECT_EQ(launched.error().code(), Errc::NotFound);
  EXPECT_EQ(launched.error().what(), "start /nonexistent/qemu: execve: No such file or directory");
  spec.argv = {"/etc/passwd"};
  launched = launch(spec);
  ASSERT_FALSE(launched);
  EXPECT_EQ(launched.error().code(), Errc::Denied);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "a child is left";
  EXPECT_EQ(errno, ECHILD);
}

TEST(Launch, FailingStepIsNamed) {
  LaunchSpec spec = probe_spec();
  spec.working_dir = "/nonexistent";
  auto launched = launch(spec);
  ASSERT_FALSE(launched);
  EXPECT_NE(launched.error().what().find("enter the working directory: No such file"),
            std::string::npos)
      << launched.error().what();
  spec = probe_spec();
  UniqueFd folder(open("/etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  spec.cgroup_v1_fds = {folder.get()};
  launched = launch(spec);
  ASSERT_FALSE(launched);
  EXPECT_NE(launched.error().what().find("join the cgroup"), std::string::npos);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "a child is left";
}

TEST(Launch, SpecsThatCannotBeMeantAreRefused) {
  auto refused = [](const std::function<void(LaunchSpec&)>& spoil) {
    LaunchSpec spec = probe_spec();
    spoil(spec);
    auto launched = launch(spec);
    return !launched && launched.error().code() != Errc::Internal;
  };
  EXPECT_TRUE(refused([](LaunchSpec& s) { s.argv.clear(); }));
  EXPECT_TRUE(refused([](LaunchSpec& s) { s.argv[0] = "true"; }));
  EXPECT_TRUE(refused([](LaunchSpec& s) { s.argv.push_back(std::string("a\0b", 3)); }));
  EXPECT_TRUE(refused([](LaunchSpec& s) { s.fds = {1}; }));
  EXPECT_TRUE(refused([](LaunchSpec& s) { s.fds = {987}; }));
  EXPECT_TRUE(refused([](LaunchSpec& s) { s.uid = 5; }));
}

TEST(Launch, LimitsAreSet) {
  struct rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  LaunchSpec spec = probe_spec();
  spec.nofile = std::min<uint64_t>(files.rlim_max, 1000);
  spec.memlock_bytes = 4096;
  spec.cpu_seconds = 99;
  auto seen = launch_and_look(spec);
  ASSERT_TRUE(seen) << seen.error().what();
  EXPECT_EQ(value(*seen, "limit.nofile"), "1000 1000");
  EXPECT_EQ(value(*seen, "limit.memlock"), "4096 4096");
  EXPECT_EQ(value(*seen, "limit.cpu"), "99 99");
  spec = probe_spec();
  spec.argv = {"/bin/true"};
  spec.address_space_bytes = 4096;
  auto launched = launch(spec);  // too small for execve itself: the kernel kills it, or refuses
  if (launched) {
    EXPECT_NE(wait_for(*launched), 0);
  }
}

TEST(Launch, TwoHundredLaunchesLeakNothing) {
  LaunchSpec spec = probe_spec();
  spec.argv = {"/bin/true"};
  if (geteuid() == 0 && kernel::build_private_dev({}))
    spec.dev_nodes.emplace();
  size_t before = count_open_fds();
  for (int i = 0; i < 200; ++i) {
    spec.argv[0] = i % 2 == 0 ? "/bin/true" : "/nonexistent";
    auto launched = launch(spec);
    ASSERT_EQ(launched.has_value(), i % 2 == 0);
    if (launched) {
      ASSERT_EQ(wait_for(*launched), 0);
    }
  }
  EXPECT_EQ(count_open_fds(), before);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
}

TEST(Launch, WorksWhileOtherThreadsAllocate) {
  std::atomic<bool> stop = false;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      while (!stop) std::vector<std::string>(10, std::string(100, 'x')).clear();
    });
  }
  LaunchSpec spec = probe_spec();
  spec.argv = {"/bin/true"};
  for (int i = 0; i < 20; ++i) {
    auto launched = launch(spec);
    ASSERT_TRUE(launched) << launched.error().what();
    ASSERT_EQ(wait_for(*launched), 0);
  }
  stop = true;
}

// The unprivileged instance: no capability at all, nothing asked for.
TEST(Launch, NeedsNoPrivilegeForAPlainStart) {
  (void)probe_path();
  int code = in_child([] {
    if (geteuid() == 0 &&
        (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0))
      return 1;
    auto seen = launch_and_look(probe_spec());
    if (!seen) {
      fprintf(stderr, "%s\n", seen.error().what().c_str());
      return 2;
    }
    return value(*seen, "status.NoNewPrivs") == "1" ? 0 : 3;
  });
  EXPECT_EQ(code, 0);
}

// Root of a container that lacks CAP_SETPCAP and may not clone3: docker's default seccomp profile.
TEST(Launch, WorksWithoutClone3) {
  (void)probe_path();
  int code = in_child([] {
    __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
    if (syscall(SYS_capset, &header, none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
      return 1;
    sock_filter code_of_filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    sock_fprog program = {4, code_of_filter};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
      return 2;
    if (syscall(SYS_clone3, nullptr, 0) != -1 || errno != ENOSYS)
      return 3;
    auto seen = launch_and_look(probe_spec());
    if (!seen)
      fprintf(stderr, "%s\n", seen.error().what().c_str());
    return seen && value(*seen, "status.CapEff") == "0000000000000000" ? 0 : 4;
  });
  EXPECT_EQ(code, 0);
}

TEST(Launch, ChangesUserAndDropsEveryCapability) {
  NEEDS_ROOT();
  LaunchSpec spec = probe_spec();
  spec.uid = kUid;
  spec.gid = kGid;
  auto seen = launch_and_look(spec);
  ASSERT_TRUE(seen) << seen.error().what();
  EXPECT_EQ(value(*seen, "status.Uid"), "64123\t64123\t64123\t64123");
  EXPECT_EQ(value(*seen, "status.Gid"), "64124\t64124\t64124\t64124");
  EXPECT_EQ(value(*seen, "status.Groups"), "");
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
    EXPECT_EQ(value(*seen, std::string("status.") + set), "0000000000000000") << set;
}

TEST(Launch, LimitBeyondOursIsReported) {
  NEEDS_ROOT();
  int code = in_child([] {
    if (setresuid(65534, 65534, 65534) < 0)
      return 1;
    LaunchSpec spec = probe_spec();
    spec.nofile = 1 << 30;
    auto launched = launch(spec);
    return !launched && launched.error().code() == Errc::Denied &&
                   launched.error().what().find("RLIMIT_NOFILE") != std::string::npos
               ? 0
               : 2;
  });
  EXPECT_EQ(code, 0);
}

// What virtiofsd is given: a folder under a name of its own, some capabilities, no other process.
TEST(Launch, KeepsWhatItIsLeftAndServesAFolder) {
  NEEDS_MOUNT();
  char folder[] = "/tmp/kernel_launch.folder.XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  for (bool readonly : {false, true}) {
    auto shared = kernel::clone_folder(folder, readonly);
    ASSERT_TRUE(shared) << shared.error().what();
    LaunchSpec spec = probe_spec();
    spec.uid = spec.gid = 0;
    spec.dev_nodes.emplace();
    spec.folders.emplace_back("folder", shared->tree.get());
    spec.own_pids = true;
    spec.capabilities = uint64_t{1} << CAP_CHOWN | uint64_t{1} << CAP_SETPCAP;
    auto seen = launch_and_look(spec);
    ASSERT_TRUE(seen) << seen.error().what();
    for (const char* set : {"CapPrm", "CapEff", "CapBnd"})
      EXPECT_EQ(value(*seen, std::string("status.") + set), "0000000000000101") << set;
    EXPECT_EQ(value(*seen, "dev./dev/folder").substr(0, 6), "folder");
    EXPECT_EQ(value(*seen, "pid"), "1");
    std::string mount;
    for (const auto& [key, line] : *seen)
      if (key.starts_with("mount.") && line.find(" /dev/folder ") != std::string::npos)
        mount = line;
    EXPECT_NE(mount.find(readonly ? " ro,nosuid,nodev,noexec" : " rw,nosuid,nodev,noexec"),
              std::string::npos)
        << mount;
  }
  EXPECT_FALSE(kernel::clone_folder("/dev/null", false));
  EXPECT_FALSE(kernel::clone_folder("/proc/self/cwd", false)) << "no magic links";
  rmdir(folder);
}

TEST(Launch, HasNoNetworkIfAskedFor) {
  NEEDS_MOUNT();
  LaunchSpec spec = probe_spec();
  spec.no_network = true;
  auto seen = launch_and_look(spec);
  ASSERT_TRUE(seen) << seen.error().what();
  EXPECT_EQ(std::ranges::count_if(*seen, [](auto& e) { return e.first.starts_with("net."); }), 3)
      << "two heading lines and lo";
}

TEST(Launch, SeesOnlyItsPrivateDev) {
  NEEDS_MOUNT();
  auto names_of_host_dev = [] {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator("/dev"))
      names.insert(entry.path());
    return names;
  };
  auto before = names_of_host_dev();
  LaunchSpec spec = probe_spec();
  spec.uid = kUid;
  spec.gid = kGid;
  spec.dev_nodes = {{"/dev/null", {DeviceType::Char, 1, 3}, 0, 0, 0666},
                    {"/dev/tenure-test/disk", {DeviceType::Block, 7, 99}, kUid, kGid, 0600}};
  auto seen = launch_and_look(spec);
  ASSERT_TRUE(seen) << seen.error().what();
  std::erase_if(*seen, [](auto& e) {
    return !e.first.starts_with("dev.") && e.first != "mnt" && e.first != "shm_dev";
  });
  EXPECT_EQ(value(*seen, "dev./dev/null"), "c 1:3 0:0 666");
  EXPECT_EQ(value(*seen, "dev./dev/tenure-test"), "folder 0:0 755");
  EXPECT_EQ(value(*seen, "dev./dev/tenure-test/disk"), "b 7:99 64123:64124 600");
  EXPECT_EQ(value(*seen, "dev./dev/fd"), "link /proc/self/fd 0:0 777");
  EXPECT_EQ(value(*seen, "dev./dev/stdin"), "link /proc/self/fd/0 0:0 777");
  EXPECT_TRUE(value(*seen, "dev./dev/shm").starts_with("folder 0:0 1777"));
  EXPECT_TRUE(value(*seen, "dev./dev/pts").starts_with("folder "));
  EXPECT_EQ(seen->size(), 9U + 2U) << "null, folder, disk, four links, pts, shm; and two keys";
  struct stat shm{};
  ASSERT_EQ(stat("/dev/shm", &shm), 0);
  EXPECT_NE(value(*seen, "shm_dev"), std::to_string(shm.st_dev));
  char own[64] = {};
  ASSERT_GT(readlink("/proc/self/ns/mnt", own, sizeof own - 1), 0);
  EXPECT_NE(value(*seen, "mnt"), own);
  EXPECT_EQ(names_of_host_dev(), before) << "the host's /dev was touched";
}

TEST(Launch, IsBornInItsV2Cgroup) {
  NEEDS_ROOT();
  auto mounts = kernel::find_cgroup_mounts();
  ASSERT_TRUE(mounts);
  OwnCgroup own(kernel::CgroupVersion::V2, mounts->v2);
  if (!own.cgroup)
    GTEST_SKIP() << own.why;
  LaunchSpec spec = probe_spec();
  spec.cgroup_v2_fd = own.cgroup->dir_fd();
  auto seen = launch_and_look(spec);
  ASSERT_TRUE(seen) << seen.error().what();
  std::string name = "/" + std::filesystem::path(own.cgroup->path()).filename().string();
  EXPECT_TRUE(std::ranges::any_of(*seen, [&](auto& e) { return e.second == "0::" + name; }));
}

// A fence that denies everything must not be in the way of the guest's /dev being made.
TEST(Launch, JoinsAV1CgroupThatDeniesEverythingWithItsNodesInPlace) {
  NEEDS_MOUNT();
  auto mounts = kernel::find_cgroup_mounts();
  ASSERT_TRUE(mounts);
  OwnCgroup own(kernel::CgroupVersion::V1, mounts->v1_devices);
  if (!own.cgroup)
    GTEST_SKIP() << own.why;
  auto deny = open_at(own.cgroup->dir_fd(), "devices.deny", O_WRONLY);
  ASSERT_TRUE(deny);
  ASSERT_TRUE(write_all(deny->get(), "a", "devices.deny"));
  LaunchSpec spec = probe_spec();
  spec.uid = kUid;
  spec.gid = kGid;
  spec.cgroup_v1_fds = {own.cgroup->dir_fd()};
  spec.dev_nodes = {{"/dev/null", {DeviceType::Char, 1, 3}, 0, 0, 0666}};
  auto seen = launch_and_look(spec);
  ASSERT_TRUE(seen) << seen.error().what();
  EXPECT_EQ(value(*seen, "dev./dev/null"), "c 1:3 0:0 666");
  std::string name = "/" + std::filesystem::path(own.cgroup->path()).filename().string();
  EXPECT_TRUE(std::ranges::any_of(*seen, [&](auto& e) {
    return e.first.starts_with("cgroup.") && e.second.ends_with(":" + name);
  }));
}

TEST(Launch, UnbuildableDevIsAnErrorBeforeAnythingRuns) {
  NEEDS_MOUNT();
  LaunchSpec spec = probe_spec();
  spec.dev_nodes = {{"/etc/shadow", {DeviceType::Char, 1, 3}, 0, 0, 0666}};
  auto launched = launch(spec);
  ASSERT_FALSE(launched);
  EXPECT_EQ(launched.error().code(), Errc::Invalid);
}

}  // namespace
}  // namespace tenure::qemu

int main(int argc, char** argv) {
  if (argc == 2 && strcmp(argv[1], "probe") == 0)
    return tenure::qemu::run_probe();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
