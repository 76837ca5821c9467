// SPDX-License-Identifier: Apache-2.0
// For tests on real cgroups: throw-away cgroups that are cleaned even if a former run was killed, a
// mount namespace of our own with a bpffs of our own, and a prisoner: a child process that lives in
// a cgroup and does what it is told.
#pragma once

#include <bpf/bpf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/text.h"
#include "kernel/cgroup.h"
#include "kernel/fence.h"

namespace tenure::kernel::testing {

// Asserts that a Result has a value, and shows its error if not.
#define EXPECT_OK(expression)                                         \
  do {                                                                \
    auto expect_ok_result = (expression);                             \
    EXPECT_TRUE(expect_ok_result) << expect_ok_result.error().what(); \
  } while (false)
#define ASSERT_OK(expression)                                         \
  do {                                                                \
    auto assert_ok_result = (expression);                             \
    ASSERT_TRUE(assert_ok_result) << assert_ok_result.error().what(); \
  } while (false)

inline constexpr const char* kPrefix = "tenure-test-";

// Removes cgroups of test processes that are dead: "tenure-test-PID-…".
inline void remove_stale_cgroups(CgroupVersion version, const std::string& mount) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(mount, ignored)) {
    std::string name = entry.path().filename();
    if (!name.starts_with(kPrefix))
      continue;
    auto pid = parse_int<pid_t>(split(name.substr(strlen(kPrefix)), '-').front());
    if (!pid || kill(*pid, 0) == 0 || errno != ESRCH)
      continue;
    auto stale = Cgroup::open(version, entry.path());
    if (stale && stale->kill_all() && stale->wait_empty(5000))
      (void)stale->remove();
  }
}

// Cgroups of one test, removed with all their processes at its end.
class Cgroups {
 public:
  explicit Cgroups(CgroupMounts mounts) : mounts_(std::move(mounts)) {
    if (!mounts_.v2.empty())
      remove_stale_cgroups(CgroupVersion::V2, mounts_.v2);
    if (!mounts_.v1_devices.empty())
      remove_stale_cgroups(CgroupVersion::V1, mounts_.v1_devices);
  }
  ~Cgroups() {
    for (auto it = made_.rbegin(); it != made_.rend(); ++it) {
      auto cgroup = Cgroup::open(it->first, it->second);
      if (cgroup && cgroup->kill_all() && cgroup->wait_empty(5000))
        (void)cgroup->remove();
    }
  }
  const CgroupMounts& mounts() const { return mounts_; }
  const std::string& mount(CgroupVersion version) const {
    return version == CgroupVersion::V2 ? mounts_.v2 : mounts_.v1_devices;
  }
  // Below `parent` ("" for the root of the hierarchy), by a name that says whose it is.
  Result<Cgroup> make(CgroupVersion version, const std::string& parent = "") {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    std::string name = kPrefix + std::to_string(getpid()) + "-" + std::to_string(made_.size()) +
                       "-" + (test != nullptr ? test->name() : "bench");
    for (char& c : name)
      if (c == '/')
        c = '-';
    auto cgroup = Cgroup::create(version, mount(version), parent, name);
    if (cgroup)
      made_.emplace_back(version, cgroup->path());
    return cgroup;
  }

 private:
  CgroupMounts mounts_;
  std::vector<std::pair<CgroupVersion, std::string>> made_;
};

// Why this kernel has no device programs for cgroups, or "": asked without the code under test, so
// that its failures are failures and not skipped tests.
inline std::string missing_for_v2(const CgroupMounts& mounts) {
  if (geteuid() != 0)
    return "needs root";
  if (mounts.v2.empty())
    return "cgroup v2 is not mounted";
  if (::access(mounts.v2.c_str(), W_OK) < 0)
    return mounts.v2 + ": " + strerror(errno);
  if (::access("/sys/kernel/btf/vmlinux", R_OK) < 0)
    return "the kernel has no BTF";
  bpf_insn deny[] = {{BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0},
                     {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
  int program = bpf_prog_load(BPF_PROG_TYPE_CGROUP_DEVICE, "probe", "GPL", deny, 2, nullptr);
  if (program < 0)
    return std::string("no device programs: ") + strerror(-program);
  close(program);
  return "";
}
inline std::string missing_for_v1(const CgroupMounts& mounts) {
  if (geteuid() != 0)
    return "needs root";
  if (mounts.v1_devices.empty())
    return "the devices controller of cgroup v1 is not mounted";
  if (::access(mounts.v1_devices.c_str(), W_OK) < 0)
    return mounts.v1_devices + ": " + strerror(errno);
  return "";
}

// From here on this process has its own mounts: an empty bpffs at /sys/fs/bpf and a tmpfs for
// device nodes at /mnt, both gone with the process. Returns why not, or "".
inline std::string enter_own_mounts() {
  static std::string problem = [] {
    if (unshare(CLONE_NEWNS) < 0)
      return std::string("no mount namespace: ") + strerror(errno);
    if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0 ||
        mount("bpf", "/sys/fs/bpf", "bpf", 0, "mode=0700") < 0 ||
        mount("tenure-test", "/mnt", "tmpfs", 0, "mode=0755") < 0)
      return std::string("no mounts: ") + strerror(errno);
    return std::string();
  }();
  return problem;
}

// A child that waits on a socket for commands. All calls return 0 or the errno in the child.
class Prisoner {
 public:
  struct Command {
    int (*act)(const Command& command);
    char path[128];
    int flags;
    uint64_t number;
  };

  Prisoner() {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
      abort();
    pid_ = fork();
    if (pid_ == 0) {
      close(pair[0]);
      serve(pair[1]);
    }
    close(pair[1]);
    socket_ = pair[0];
  }
  ~Prisoner() {
    close(socket_);  // it ends by itself
    waitpid(pid_, nullptr, 0);
  }
  Prisoner(const Prisoner&) = delete;
  Prisoner& operator=(const Prisoner&) = delete;
  pid_t pid() const { return pid_; }

  int run(int (*act)(const Command&), const std::string& path, int flags = 0, uint64_t number = 0) {
    Command command{.act = act, .path = {}, .flags = flags, .number = number};
    snprintf(command.path, sizeof command.path, "%s", path.c_str());
    int answer = -1;
    if (write(socket_, &command, sizeof command) != sizeof command ||
        read(socket_, &answer, sizeof answer) != sizeof answer)
      return -1;
    return answer;
  }
  int open(const std::string& path, int flags) {
    return run(
        [](const Command& c) {
          int fd = ::open(c.path, c.flags | O_CLOEXEC);
          if (fd < 0)
            return errno;
          close(fd);
          return 0;
        },
        path, flags);
  }
  int access(const std::string& path, int mode) {
    return run([](const Command& c) { return ::access(c.path, c.flags) < 0 ? errno : 0; }, path,
               mode);
  }
  int mknod(const std::string& path, mode_t type, dev_t dev) {
    return run(
        [](const Command& c) {
          if (::mknod(c.path, static_cast<mode_t>(c.flags), c.number) < 0)
            return errno;
          unlink(c.path);
          return 0;
        },
        path, static_cast<int>(type), dev);
  }
  // Opens and keeps the file; read_kept() reads a byte from it.
  int keep_open(const std::string& path) {
    return run([](const Command& c) { return (kept() = ::open(c.path, O_RDONLY)) < 0 ? errno : 0; },
               path);
  }
  int read_kept() {
    return run(
        [](const Command&) {
          char byte;
          return read(kept(), &byte, 1) == 1 ? 0 : errno;
        },
        "");
  }
  // Opens the file `count` times; 0 if every single one was refused with EPERM.
  int be_refused(const std::string& path, uint64_t count) {
    return run(
        [](const Command& c) {
          for (uint64_t i = 0; i < c.number; ++i)
            if (::open(c.path, O_RDONLY) >= 0 || errno != EPERM)
              return EINVAL;
          return 0;
        },
        path, 0, count);
  }

 private:
  static int& kept() {
    static int fd = -1;
    return fd;
  }
  [[noreturn]] static void serve(int socket) {
    Command command{};
    while (read(socket, &command, sizeof command) == sizeof command) {
      int answer = command.act(command);
      if (write(socket, &answer, sizeof answer) != sizeof answer)
        break;
    }
    _exit(0);
  }
  pid_t pid_ = -1;
  int socket_ = -1;
};

// Makes a device node on the test's own tmpfs and returns its path.
inline std::string make_node(char type, unsigned major_number, unsigned minor_number) {
  std::string path = "/mnt/" + std::string(1, type) + std::to_string(major_number) + "-" +
                     std::to_string(minor_number);
  mode_t mode = type == 'b' ? S_IFBLK : S_IFCHR;
  EXPECT_TRUE(mknod(path.c_str(), mode | 0666, makedev(major_number, minor_number)) == 0 ||
              errno == EEXIST)
      << path << ": " << strerror(errno);
  return path;
}

inline AclRule rule(char type, uint32_t major_number, std::optional<uint32_t> minor_number,
                    std::string_view access) {
  return {.type = type == 'b' ? DeviceType::Block : DeviceType::Char,
          .major = major_number,
          .minor = minor_number,
          .access = parse_access(access).value()};
}
inline constexpr std::nullopt_t kAny = std::nullopt;

}  // namespace tenure::kernel::testing
