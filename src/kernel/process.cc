// SPDX-License-Identifier: Apache-2.0
// Reads /proc. A pid alone names nobody for long, so whatever is read by pid is believed only if
// the same process still holds that pid afterwards: proved by a pidfd, or by its start time.
#include "kernel/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <memory>

#include "base/file.h"
#include "base/text.h"
#include "kernel/node.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77  // include/uapi/asm-generic/socket.h, Linux 6.5
#endif

namespace tenure::kernel {
namespace {

constexpr size_t kMaxCommandLine = 4U << 20U;  // bytes; the kernel allows 2 MiB (ARG_MAX)

constexpr size_t kMaxProcFile = 16384;  // bytes; stat and status are below 4096
constexpr size_t kMaxOpenFiles = 65536;

// What we use of /proc/PID/stat, proc_pid_stat(5).
struct Stat {
  uint32_t tty = 0;          // field 7, as new_encode_dev() of the kernel packs it
  uint64_t start_ticks = 0;  // field 22
  pid_t parent = 0;
  bool ending = false;  // a zombie, or on its way there
};

std::string proc_path(pid_t pid, std::string_view file) {
  return fmt::format("/proc/{}/{}", pid, file);
}

// /proc answers ENOENT for a pid that is gone when opened, ESRCH when it goes while being read.
Result<std::string> read_proc(pid_t pid, std::string_view file) {
  return read_file(proc_path(pid, file), kMaxProcFile);
}

Result<Stat> read_stat(pid_t pid) {
  TRY(std::string text, read_proc(pid, "stat"));
  // The command (field 2) may hold blanks and parentheses: fields are counted from the last ')'.
  size_t command_end = text.rfind(')');
  if (command_end == text.npos)
    return fail(Errc::Io, proc_path(pid, "stat") + ": not understood");
  std::vector<std::string_view> fields =
      split(trim(std::string_view(text).substr(command_end + 1)), ' ');
  constexpr size_t kState = 3 - 3;
  constexpr size_t kParent = 4 - 3;
  constexpr size_t kTty = 7 - 3;
  constexpr size_t kFlags = 9 - 3;
  constexpr size_t kStart = 22 - 3;
  constexpr uint64_t kPfExiting = 0x4;  // PF_EXITING of include/linux/sched.h
  if (fields.size() <= kStart)
    return fail(Errc::Io, proc_path(pid, "stat") + ": too few fields");
  std::optional<int32_t> tty = parse_int<int32_t>(fields[kTty]);
  std::optional<uint64_t> flags = parse_int<uint64_t>(fields[kFlags]);
  std::optional<uint64_t> start = parse_int<uint64_t>(fields[kStart]);
  std::optional<pid_t> parent = parse_int<pid_t>(fields[kParent]);
  if (!tty || !flags || !start || !parent)
    return fail(Errc::Io, proc_path(pid, "stat") + ": not understood");
  const bool dead = fields[kState] == "Z" || fields[kState] == "X";
  return Stat{static_cast<uint32_t>(*tty), *start, *parent, dead || (*flags & kPfExiting) != 0};
}

// Gone, a zombie, or in do_exit() (kernel/exit.c): such a thread leaves its cgroup's lists and its
// files before /proc ceases to show it.
bool thread_ending(pid_t tid) {
  Result<Stat> stat = read_stat(tid);
  return !stat || stat->ending;
}

// "pts/3", "tty1", "ttyS0", "hvc0"; "?" for none. Majors and minors are those of
// Documentation/admin-guide/devices.txt; others are named by sysfs.
std::string tty_name(uint32_t packed) {
  if (packed == 0)
    return "?";
  uint32_t major = (packed >> 8) & 0xFFF;
  uint32_t minor = (packed & 0xFF) | ((packed >> 12) & 0xFFF00);
  constexpr uint32_t kFirstPts = 136, kLastPts = 143, kConsole = 4, kSerial = 64;
  if (major >= kFirstPts && major <= kLastPts)
    return fmt::format("pts/{}", (major - kFirstPts) * 256 + minor);
  if (major == kConsole)
    return minor < kSerial ? fmt::format("tty{}", minor) : fmt::format("ttyS{}", minor - kSerial);
  Result<std::string> path = device_path({DeviceType::Char, major, minor});
  return path ? path->substr(sizeof("/dev/") - 1) : "?";
}

std::optional<std::string> read_link(int dir_fd, const std::string& path) {
  std::string target(PATH_MAX, '\0');
  ssize_t size = readlinkat(dir_fd, path.c_str(), target.data(), target.size());
  if (size < 0)
    return std::nullopt;
  target.resize(static_cast<size_t>(size));
  return target;
}

uint32_t read_id(pid_t pid, std::string_view file) {
  Result<std::string> text = read_proc(pid, file);
  if (!text)
    return kUnsetId;
  return parse_int<uint32_t>(trim(*text)).value_or(kUnsetId);
}

// Fills in what /proc tells; what it does not tell stays unset.
void read_details(pid_t pid, Requester& who) {
  who.auid = read_id(pid, "loginuid");
  who.ses = read_id(pid, "sessionid");
  who.exe = read_link(AT_FDCWD, proc_path(pid, "exe")).value_or("?");
  if (Result<Stat> stat = read_stat(pid))
    who.tty = tty_name(stat->tty);
}

Result<UniqueFd> pidfd_of(pid_t pid) {
  long fd = syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0)
    return fail_sys("pidfd_open", std::to_string(pid));
  return UniqueFd(static_cast<int>(fd));
}

// Not yet reaped, so that its pid cannot have been given to anybody else.
bool holds_pid(const UniqueFd& pidfd) {
  return syscall(SYS_pidfd_send_signal, pidfd.get(), 0, nullptr, 0) == 0 || errno == EPERM;
}

// A pidfd taken by number proves nothing about the moment of connect(2). Before Linux 6.5 we
// believe it if the peer's end is still open and the process has the uid that connected: a process
// that exited has closed its end before its pid could be given away.
bool still_the_peer(int socket_fd, const ucred& peer) {
  pollfd hangup{socket_fd, POLLRDHUP, 0};
  if (poll(&hangup, 1, 0) != 0)
    return false;
  Result<ProcessStatus> status = process_status(peer.pid);
  return status && (status->euid == peer.uid || status->uid == peer.uid);
}

// A column of a "Name:\tvalue value…" line of /proc/PID/status; "" if it is not there.
std::string_view status_field(std::string_view text, std::string_view name, size_t column = 0) {
  for (std::string_view line : split(text, '\n')) {
    if (!line.starts_with(name) || !line.substr(name.size()).starts_with(':'))
      continue;
    std::vector<std::string_view> columns = split(trim(line.substr(name.size() + 1)), '\t');
    return column < columns.size() ? trim(columns[column]) : std::string_view{};
  }
  return {};
}

// statx(2) without asking a remote or FUSE server: a stuck one must not block us.
std::optional<struct statx> stat_entry(int dir_fd, const char* name, int flags) {
  struct statx facts{};
  constexpr unsigned kWanted = STATX_TYPE | STATX_MODE | STATX_INO;
  if (statx(dir_fd, name, flags | AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, kWanted, &facts) < 0)
    return std::nullopt;
  return facts;
}

// Of a file system whose server is gone, or which asks its own user alone (FUSE): for good, so that
// such a file is known by its name only, and is no device.
bool is_out_of_reach(int err) {
  return err == EACCES || err == ENOTCONN || err == ESTALE;
}

// Nothing for one that was closed meanwhile, or whose process ends (EACCES:
// proc_fd_access_allowed() in fs/proc/base.c). One that cannot be looked at may be what is looked
// for: then there is no list.
Result<std::optional<OpenFile>> read_open_file(int dir_fd, const char* name) {
  const auto not_read = [name]() -> Result<std::optional<OpenFile>> {
    if (errno == ENOENT || errno == EACCES)
      return std::nullopt;
    return fail_sys("look at descriptor", name);
  };
  std::optional<int> number = parse_int<int>(name);
  if (!number)
    return std::nullopt;
  std::optional<std::string> target = read_link(dir_fd, name);
  if (!target)
    return not_read();
  OpenFile file{.fd = *number, .target = std::move(*target)};
  if (!file.target.starts_with('/'))
    return file;
  // The mode bits of the link itself are the open mode of the file, proc_pid_fd(5).
  std::optional<struct statx> link = stat_entry(dir_fd, name, AT_SYMLINK_NOFOLLOW);
  if (!link)
    return not_read();
  file.readable = (link->stx_mode & S_IRUSR) != 0;
  file.writable = (link->stx_mode & S_IWUSR) != 0;
  std::optional<struct statx> facts = stat_entry(dir_fd, name, 0);
  if (!facts && is_out_of_reach(errno))
    return file;
  if (!facts)
    return not_read();
  file.rdev = device_of(facts->stx_mode, makedev(facts->stx_rdev_major, facts->stx_rdev_minor));
  file.dev = makedev(facts->stx_dev_major, facts->stx_dev_minor);
  file.ino = facts->stx_ino;
  return file;
}

Result<std::vector<pid_t>> threads_of(pid_t pid) {
  std::string path = proc_path(pid, "task");
  std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(path.c_str()), closedir);
  if (!dir)
    return fail_sys("open folder", path);
  std::vector<pid_t> tids;
  while (const dirent* entry = readdir(dir.get()))
    if (auto tid = parse_int<pid_t>(entry->d_name))
      tids.push_back(*tid);
  return tids;
}

}  // namespace

Result<ProcessId> process_id(pid_t pid) {
  TRY(Stat stat, read_stat(pid));
  return ProcessId{pid, stat.start_ticks};
}

Result<UniqueFd> open_process(const ProcessId& id) {
  TRY(UniqueFd pidfd, pidfd_of(id.pid));
  // Whoever has this pid and this start time after the open had it before the open as well.
  TRY(ProcessId now, process_id(id.pid));
  if (now != id)
    return fail(Errc::NotFound, fmt::format("process {}: gone, the pid is another's now", id.pid));
  return pidfd;
}

Result<std::vector<pid_t>> processes_with_argument(const std::string& option,
                                                   const std::string& value, uint32_t uid) {
  const std::string wanted = std::string(1, '\0') + option + '\0' + value + '\0';
  std::unique_ptr<DIR, int (*)(DIR*)> proc(opendir("/proc"), closedir);
  if (!proc)
    return fail_sys("open folder", "/proc");
  std::vector<pid_t> found;
  while (const dirent* entry = readdir(proc.get())) {
    auto pid = parse_int<pid_t>(entry->d_name);
    if (!pid)
      continue;
    auto words = read_file(fmt::format("/proc/{}/cmdline", *pid), kMaxCommandLine);
    auto status = process_status(*pid);
    if (words && status && status->euid == uid && words->find(wanted) != words->npos)
      found.push_back(*pid);
  }
  return found;
}

// By syscall(2): glibc 2.36 declares pidfd_send_signal() without extern "C".
Result<> signal_process(int pidfd, int signal) {
  if (syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) < 0)
    return fail_sys("pidfd_send_signal", fmt::format("signal {}", signal));
  return {};
}

Result<std::string> boot_id() {
  TRY(std::string text, read_file("/proc/sys/kernel/random/boot_id", kMaxProcFile));
  return std::string(trim(text));
}

Result<Requester> peer_requester(int socket_fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
    return fail_sys("getsockopt SO_PEERCRED", "of the client's connection");
  Requester named{.uid = peer.uid, .pid = peer.pid};
  if (peer.pid <= 0)
    return named;  // not in our pid namespace
  int raw = -1;
  size = sizeof raw;
  bool exact = getsockopt(socket_fd, SOL_SOCKET, SO_PEERPIDFD, &raw, &size) == 0;
  // Any other failure means a kernel that knows the option and a peer that is gone.
  if (!exact && errno != ENOPROTOOPT)
    return named;
  UniqueFd pidfd(exact ? raw : -1);
  if (!exact) {
    Result<UniqueFd> by_number = pidfd_of(peer.pid);
    if (!by_number)
      return named;
    pidfd = std::move(*by_number);
  }
  Requester who = named;
  read_details(peer.pid, who);
  if (!exact && !still_the_peer(socket_fd, peer))
    return named;
  return holds_pid(pidfd) ? who : named;
}

Result<Requester> requester_of(pid_t pid) {
  TRY(ProcessId before, process_id(pid));
  TRY(ProcessStatus status, process_status(pid));
  Requester who{.uid = status.uid, .pid = pid};
  read_details(pid, who);
  TRY(ProcessId after, process_id(pid));
  if (before != after)
    return fail(Errc::NotFound, fmt::format("process {}: gone", pid));
  return who;
}

Requester own_requester() {
  return requester_of(getpid()).value_or(Requester{});
}

Result<std::vector<OpenFile>> open_files(pid_t pid) {
  std::string path = proc_path(pid, "fd");
  TRY(UniqueFd dir_fd, open_file(path, O_RDONLY | O_DIRECTORY));
  std::unique_ptr<DIR, int (*)(DIR*)> dir(fdopendir(dir_fd.get()), closedir);
  if (dir == nullptr)
    return fail_sys("read folder", path);
  const int fd = dir_fd.release();  // the DIR owns it now
  std::vector<OpenFile> files;
  for (;;) {
    errno = 0;
    const dirent* entry = readdir(dir.get());
    if (entry == nullptr && errno != 0)
      return fail_sys("read folder", path);
    if (entry == nullptr)
      return files;
    if (entry->d_name[0] == '.')
      continue;
    if (files.size() == kMaxOpenFiles)
      return fail(Errc::Invalid, fmt::format("{}: more than {} open files", path, kMaxOpenFiles));
    TRY(std::optional<OpenFile> file, read_open_file(fd, entry->d_name));
    if (file)
      files.push_back(std::move(*file));
  }
}

std::string command_name(pid_t pid) {
  auto name = read_proc(pid, "comm");
  return name ? std::string(trim(*name)) : "";
}

size_t count_open_files(pid_t pid) {
  struct stat facts{};
  if (stat(proc_path(pid, "fd").c_str(), &facts) < 0 || facts.st_size < 0)
    return 0;
  return static_cast<size_t>(facts.st_size);
}

bool is_kernel_helper_of(pid_t pid, pid_t owner) {
  auto name = read_proc(pid, "comm");
  // A kernel thread has no executable; a process could choose the same name.
  return name && trim(*name) == fmt::format("vhost-{}", owner) &&
         !read_link(AT_FDCWD, proc_path(pid, "exe"));
}

bool descends_from(pid_t pid, pid_t ancestor) {
  constexpr int kMaxDepth = 16;
  for (int depth = 0; depth < kMaxDepth && pid > 1; ++depth) {
    Result<Stat> stat = read_stat(pid);
    if (!stat)
      return false;
    pid = stat->parent;
    if (pid == ancestor)
      return true;
  }
  return false;
}

bool same_program(pid_t one, pid_t other) {
  struct stat a{}, b{};
  return stat(proc_path(one, "exe").c_str(), &a) == 0 &&
         stat(proc_path(other, "exe").c_str(), &b) == 0 && a.st_dev == b.st_dev &&
         a.st_ino == b.st_ino;
}

Result<std::vector<pid_t>> all_processes() {
  std::unique_ptr<DIR, int (*)(DIR*)> proc(opendir("/proc"), closedir);
  if (!proc)
    return fail_sys("open folder", "/proc");
  std::vector<pid_t> found;
  while (const dirent* entry = readdir(proc.get()))
    if (auto pid = parse_int<pid_t>(entry->d_name))
      found.push_back(*pid);
  return found;
}

bool is_ending(pid_t pid) {
  Result<std::vector<pid_t>> threads = threads_of(pid);
  return !threads || std::ranges::all_of(*threads, thread_ending);
}

Result<size_t> threads_outside(const Cgroup& group, pid_t pid) {
  TRY(std::vector<pid_t> before, threads_of(pid));
  TRY(std::vector<pid_t> inside, group.threads());
  TRY(std::vector<pid_t> after, threads_of(pid));
  auto has = [](const std::vector<pid_t>& list, pid_t tid) {
    return std::ranges::find(list, tid) != list.end();
  };
  return static_cast<size_t>(std::ranges::count_if(before, [&](pid_t tid) {
    return has(after, tid) && !has(inside, tid) && !thread_ending(tid);
  }));
}

Result<ProcessStatus> process_status(pid_t pid) {
  TRY(std::string text, read_proc(pid, "status"));
  auto number = [&](std::string_view name, size_t column, int base) {
    return parse_int<uint64_t>(status_field(text, name, column), base);
  };
  std::optional<uint64_t> uid = number("Uid", 0, 10);
  std::optional<uint64_t> euid = number("Uid", 1, 10);
  std::optional<uint64_t> caps = number("CapEff", 0, 16);
  if (!uid || !euid || !caps)
    return fail(Errc::Io, proc_path(pid, "status") + ": not understood");
  ProcessStatus status{.uid = static_cast<uint32_t>(*uid), .euid = static_cast<uint32_t>(*euid)};
  status.cap_eff = *caps;
  // A kernel without CONFIG_SECCOMP has no such line; a kernel thread and a zombie have no VmRSS.
  status.seccomp = static_cast<int>(number("Seccomp", 0, 10).value_or(0));
  std::string_view rss = status_field(text, "VmRSS");
  rss = rss.substr(0, rss.find(' '));
  status.rss_kib = parse_int<int64_t>(rss).value_or(0);
  return status;
}

}  // namespace tenure::kernel
