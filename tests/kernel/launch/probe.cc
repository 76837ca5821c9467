// SPDX-License-Identifier: Apache-2.0
#include "tests/kernel/launch/probe.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/device_number.h"
#include "base/file.h"
#include "base/text.h"

extern char** environ;

namespace tenure::qemu {
namespace {

void print_status() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    size_t colon = line.find(':');
    if (colon == line.npos)
      continue;
    std::string value(trim(line.substr(colon + 1)));
    printf("status.%s=%s\n", line.substr(0, colon).c_str(), value.c_str());
  }
}

void print_fds() {
  for (int fd = 0; fd < 1024; ++fd) {
    std::string link = "/proc/self/fd/" + std::to_string(fd);
    char target[512] = {};
    if (readlink(link.c_str(), target, sizeof target - 1) > 0)
      printf("fd.%d=%s\n", fd, target);
  }
}

void print_dev(const std::string& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    struct stat st{};
    std::string path = entry.path();
    if (lstat(path.c_str(), &st) < 0)
      continue;
    auto rdev = device_of(st.st_mode, st.st_rdev);
    std::string what = rdev ? to_string(*rdev)
                       : S_ISLNK(st.st_mode)
                           ? "link " + std::filesystem::read_symlink(path).string()
                       : S_ISDIR(st.st_mode) ? "folder"
                                             : "other";
    printf("dev.%s=%s %u:%u %o\n", path.c_str(), what.c_str(), st.st_uid, st.st_gid,
           st.st_mode & 07777);
    if (S_ISDIR(st.st_mode) && path != "/dev/pts" && path != "/dev/shm")
      print_dev(path);
  }
}

void print_limits() {
  const std::pair<const char*, __rlimit_resource> limits[] = {{"memlock", RLIMIT_MEMLOCK},
                                                              {"nofile", RLIMIT_NOFILE},
                                                              {"as", RLIMIT_AS},
                                                              {"cpu", RLIMIT_CPU}};
  for (auto [name, resource] : limits) {
    struct rlimit limit{};
    getrlimit(resource, &limit);
    printf("limit.%s=%lu %lu\n", name, limit.rlim_cur, limit.rlim_max);
  }
}

void print_lines(const char* key, const char* path) {
  std::ifstream file(path);
  int number = 0;
  for (std::string line; std::getline(file, line);)
    printf("%s.%d=%s\n", key, number++, line.c_str());
}

}  // namespace

int run_probe() {
  print_status();
  print_fds();
  print_dev("/dev");
  print_limits();
  print_lines("cgroup", "/proc/self/cgroup");
  print_lines("net", "/proc/self/net/dev");
  print_lines("mount", "/proc/self/mountinfo");
  printf("pid=%d\n", getpid());
  for (char** variable = environ; *variable != nullptr; ++variable) printf("env.%s\n", *variable);
  printf("cwd=%s\n", std::filesystem::current_path().c_str());
  printf("session_leader=%d\n", getsid(0) == getpid() ? 1 : 0);
  char mounts[64] = {};
  if (readlink("/proc/self/ns/mnt", mounts, sizeof mounts - 1) > 0)
    printf("mnt=%s\n", mounts);
  struct stat shm{};
  stat("/dev/shm", &shm);
  printf("shm_dev=%lu\n", shm.st_dev);
  fflush(stdout);
  return 7;
}

const std::string& probe_path() {
  static const std::string path = [] {
    char folder[] = "/tmp/kernel_launch.XXXXXX";
    if (mkdtemp(folder) == nullptr)
      abort();
    chmod(folder, 0755);
    std::string copy = std::string(folder) + "/probe";
    std::filesystem::copy_file("/proc/self/exe", copy);
    chmod(copy.c_str(), 0755);
    static std::string remove_at_exit = folder;
    atexit([] {
      std::error_code ignored;
      std::filesystem::remove_all(remove_at_exit, ignored);
    });
    return copy;
  }();
  return path;
}

LaunchSpec probe_spec() {
  LaunchSpec spec;
  spec.argv = {probe_path(), "probe"};
  spec.environment = {"ASAN_OPTIONS=detect_leaks=0", "MARK=from the spec"};
  return spec;
}

Result<Seen> launch_and_look(LaunchSpec spec) {
  // A memfd, not a pipe: the probe may write any amount before anybody reads.
  UniqueFd output(memfd_create("probe output", MFD_CLOEXEC));
  if (!output)
    return fail_sys("memfd_create", "probe output");
  spec.stderr_fd = output.get();
  TRY(Launched launched, launch(spec));
  int code = wait_for(launched);
  lseek(output.get(), 0, SEEK_SET);
  TRY(std::string text, read_fd(output.get(), 1 << 20, "probe output"));
  if (code != 7)
    return fail(Errc::Io, "the probe ended with " + std::to_string(code) + ": " + text);
  Seen seen;
  for (std::string_view line : split(text, '\n')) {
    size_t equals = line.find('=');
    if (equals != line.npos)
      seen.emplace(line.substr(0, equals), line.substr(equals + 1));
  }
  return seen;
}

int wait_for(const Launched& launched) {
  siginfo_t info{};
  if (waitid(P_PIDFD, static_cast<id_t>(launched.pidfd.get()), &info, WEXITED) < 0)
    return -1000;
  return info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
}

}  // namespace tenure::qemu
