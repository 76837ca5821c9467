// SPDX-License-Identifier: Apache-2.0
// cgroups(7). The directory's fd is kept and all files of the cgroup are opened beneath it; only
// the rmdir needs the path, and it is preceded by a check that the path still is this cgroup.
#include "kernel/cgroup.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <optional>
#include <set>

#include "base/file.h"
#include "base/text.h"
#include "kernel/mounts.h"

namespace tenure::kernel {
namespace {

constexpr size_t kMaxProcs = 4U << 20;  // bytes of cgroup.procs: PID_MAX_LIMIT is 4 Mi in theory
constexpr size_t kMaxEvents = 4096;     // bytes of cgroup.events: two short lines
constexpr int kMaxKillPasses = 1000;    // against a fork bomb that outruns us on v1

// proc_pid_mountinfo(5): blank, tab, newline and backslash are written as \ooo.
std::string unescape_octal(std::string_view text) {
  std::string plain;
  for (size_t at = 0; at < text.size(); ++at) {
    auto code = text[at] == '\\' ? parse_int<uint8_t>(text.substr(at + 1, 3), 8) : std::nullopt;
    if (!code || at + 3 >= text.size()) {
      plain += text[at];
      continue;
    }
    plain += static_cast<char>(*code);
    at += 3;
  }
  return plain;
}

// Raw calls: glibc 2.36 declares these two without extern "C".
UniqueFd pidfd_or_none(pid_t pid) {
  return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
}
int kill_pidfd(const UniqueFd& process) {
  return static_cast<int>(syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0));
}

struct Mount {
  std::string point, type;
  bool writable = false;
  bool devices = false;  // a v1 hierarchy with the devices controller
};

bool has_option(std::string_view options, std::string_view wanted) {
  auto all = split(options, ',');
  return std::ranges::find(all, wanted) != all.end();
}

// "36 31 0:33 / /sys/fs/cgroup/devices rw,relatime shared:9 - cgroup cgroup rw,devices"
std::optional<Mount> parse_mount(std::string_view line) {
  size_t dash = line.find(" - ");
  if (dash == line.npos)
    return std::nullopt;
  auto left = split(line.substr(0, dash), ' ');
  auto right = split(line.substr(dash + 3), ' ');
  if (left.size() < 6 || right.size() < 3)
    return std::nullopt;
  return Mount{.point = unescape_octal(left[4]),
               .type = std::string(right[0]),
               .writable = has_option(left[5], "rw") && has_option(right[2], "rw"),
               .devices = right[0] == "cgroup" && has_option(right[2], "devices")};
}

int rank(const Mount& mount) {
  bool usual = mount.point == "/sys/fs/cgroup" || mount.point.starts_with("/sys/fs/cgroup/");
  return (mount.writable ? 2 : 0) + (usual ? 1 : 0);
}

bool is_component(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\n\0", 3)) == name.npos;
}

Result<> check_names(std::string_view parent, std::string_view name) {
  if (!is_component(name))
    return fail(
        Errc::Invalid,
        fmt::format("cgroup name \"{}\" is not one file name of 1 to 255 bytes", printable(name)));
  for (std::string_view piece : split(parent, '/'))
    if (!piece.empty() && !is_component(piece))
      return fail(Errc::Invalid, fmt::format("cgroup parent \"{}\" must not hold \".\" or \"..\"",
                                             printable(parent)));
  return {};
}

std::string join(std::string path, std::string_view more) {
  for (std::string_view piece : split(more, '/'))
    if (!piece.empty())
      path.append("/").append(piece);
  return path;
}

Result<> write_control(int dir_fd, const std::string& file, const std::string& path,
                       std::string_view text) {
  TRY(UniqueFd fd, open_at(dir_fd, file, O_WRONLY));
  return write_all(fd.get(), text, path + "/" + file);
}

int remaining_ms(std::chrono::steady_clock::time_point deadline) {
  auto left =
      std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  return static_cast<int>(std::max<int64_t>(left.count(), 0));
}

// `timeout_ms` -1: forever.
int poll_once(int fd, short events, int timeout_ms) {
  pollfd waiting{.fd = fd, .events = events, .revents = 0};
  return poll(&waiting, 1, timeout_ms);
}

Result<bool> populated(int events_fd, const std::string& path) {
  if (lseek(events_fd, 0, SEEK_SET) < 0)
    return fail_sys("seek", path + "/cgroup.events");
  TRY(std::string text, read_fd(events_fd, kMaxEvents, path + "/cgroup.events"));
  return text.find("populated 1") != text.npos;
}

Result<std::vector<pid_t>> read_pids(int dir_fd, const char* file, const std::string& path) {
  TRY(UniqueFd fd, open_at(dir_fd, file, O_RDONLY));
  TRY(std::string text, read_fd(fd.get(), kMaxProcs, path + "/" + file));
  std::vector<pid_t> pids;
  for (std::string_view line : split(trim(text), '\n')) {
    auto pid = parse_int<pid_t>(line);
    if (pid && *pid > 0)
      pids.push_back(*pid);  // 0: a process that our pid namespace does not show
  }
  return pids;
}

}  // namespace

CgroupMounts parse_cgroup_mounts(std::string_view mountinfo) {
  CgroupMounts found;
  int best_v2 = -1, best_v1 = -1;
  for (std::string_view line : split(mountinfo, '\n')) {
    auto mount = parse_mount(line);
    if (!mount)
      continue;
    int score = rank(*mount);
    if (mount->type == "cgroup2" && score > best_v2) {
      best_v2 = score;
      found.v2 = mount->point;
    } else if (mount->devices && score > best_v1) {
      best_v1 = score;
      found.v1_devices = mount->point;
    }
  }
  return found;
}

Result<CgroupMounts> find_cgroup_mounts() {
  TRY(std::string text, read_file("/proc/self/mountinfo", kMaxMountinfo));
  return parse_cgroup_mounts(text);
}

Result<Cgroup> Cgroup::create(CgroupVersion version, const std::string& mount,
                              const std::string& parent, const std::string& name) {
  if (mount.empty())
    return fail(Errc::Unsupported,
                fmt::format("create cgroup {}: the cgroup v{} hierarchy is not mounted",
                            printable(name), static_cast<int>(version)));
  TRY_OK(check_names(parent, name));
  std::string folder = join(mount, parent);
  TRY_OK(make_dirs(folder));
  std::string path = join(folder, name);
  if (mkdir(path.c_str(), 0755) < 0)
    return fail_sys("create cgroup", path);
  auto cgroup = open(version, path);
  if (!cgroup)
    rmdir(path.c_str());  // what failed must not be left behind
  return cgroup;
}

Result<Cgroup> Cgroup::open(CgroupVersion version, const std::string& path) {
  TRY(UniqueFd dir, open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  struct stat facts{};
  if (fstat(dir.get(), &facts) < 0)
    return fail_sys("stat", path);
  return Cgroup(version, path, std::move(dir), facts.st_ino);
}

Result<std::vector<pid_t>> Cgroup::processes() const {
  return read_pids(dir_.get(), "cgroup.procs", path_);
}

Result<std::vector<pid_t>> Cgroup::threads() const {
  return read_pids(dir_.get(), version_ == CgroupVersion::V1 ? "tasks" : "cgroup.threads", path_);
}

Result<> Cgroup::add(pid_t pid) const {
  return write_control(dir_.get(), "cgroup.procs", path_, std::to_string(pid));
}

Result<> Cgroup::kill_all() const {
  if (version_ == CgroupVersion::V2) {
    auto killed = write_control(dir_.get(), "cgroup.kill", path_, "1");
    if (killed || killed.error().code() != Errc::NotFound)
      return killed;
  }
  std::set<pid_t> done;
  for (int pass = 0; pass < kMaxKillPasses; ++pass) {
    TRY(auto pids, processes());
    bool any_new = false;
    for (pid_t pid : pids) {
      if (!done.insert(pid).second)
        continue;
      any_new = true;
      UniqueFd process = pidfd_or_none(pid);
      if (!process && errno != ESRCH)
        return fail_sys("open pidfd of", std::to_string(pid));
      // The pid may have been reused since it was read: kill only what is still a member.
      TRY(auto still, processes());
      if (!process || std::ranges::find(still, pid) == still.end())
        continue;
      if (kill_pidfd(process) < 0 && errno != ESRCH)
        return fail_sys("kill", std::to_string(pid));
    }
    if (!any_new)
      return {};
  }
  return fail(Errc::Busy,
              fmt::format("kill all in {}: processes appear faster than they are killed", path_));
}

namespace {

Result<> wait_unpopulated(const UniqueFd& events, const std::string& path, int timeout_ms) {
  auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  for (;;) {
    TRY(bool busy, populated(events.get(), path));
    if (!busy)
      return {};
    int left = timeout_ms < 0 ? -1 : remaining_ms(deadline);
    if (left == 0)
      return fail(Errc::Timeout, path + " still has processes");
    if (poll_once(events.get(), POLLPRI, left) < 0 && errno != EINTR)
      return fail_sys("poll", path + "/cgroup.events");
  }
}

Result<> wait_members(const Cgroup& cgroup, int timeout_ms) {
  auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  for (;;) {
    TRY(auto pids, cgroup.processes());
    if (pids.empty())
      return {};
    UniqueFd process = pidfd_or_none(pids.front());
    if (!process && errno == ESRCH)
      continue;  // it went meanwhile
    if (!process)
      return fail_sys("open pidfd of", std::to_string(pids.front()));
    int left = timeout_ms < 0 ? -1 : remaining_ms(deadline);
    if (left == 0)
      return fail(Errc::Timeout, cgroup.path() + " still has processes");
    if (poll_once(process.get(), POLLIN, left) < 0 && errno != EINTR)
      return fail_sys("poll", "pidfd of " + std::to_string(pids.front()));
  }
}

}  // namespace

Result<> Cgroup::wait_empty(int timeout_ms) const {
  if (version_ == CgroupVersion::V1)
    return wait_members(*this, timeout_ms);
  TRY(UniqueFd events, open_at(dir_.get(), "cgroup.events", O_RDONLY));
  return wait_unpopulated(events, path_, timeout_ms);
}

Result<> Cgroup::remove() {
  struct stat facts{};
  if (lstat(path_.c_str(), &facts) < 0)
    return fail_sys("remove cgroup", path_);
  if (facts.st_ino != inode_)
    return fail(Errc::NotFound,
                "remove cgroup " + path_ + ": it is gone, another one has its path");
  if (rmdir(path_.c_str()) == 0)
    return {};
  int err = errno == ENOTEMPTY ? EBUSY : errno;
  return fail_sys("remove cgroup", path_, err);
}

}  // namespace tenure::kernel
