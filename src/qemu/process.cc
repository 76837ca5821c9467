// SPDX-License-Identifier: Apache-2.0
// The daemon has threads, so between clone3 and execve the child may only make system calls: it
// allocates nothing, takes no lock, and uses syscall(2) where glibc would do more than the call
// (setresuid and its like signal threads that the child does not have; see nptl(7)). Everything it
// needs is made ready in a Plan before. It says in which step it failed through a pipe that execve
// closes.
#include "qemu/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <cstring>
#include <optional>
#include <span>

#include "base/file.h"

namespace tenure::qemu {
namespace {

// What the child tells; smaller than PIPE_BUF, so each write is whole. error 0 means "about to
// execve": without it an end of file would not tell success from a child that was killed on its
// way.
struct Report {
  int error = 0;
  char step[60] = {};
};

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (const std::string& text : texts) result.push_back(const_cast<char*>(text.c_str()));
  result.push_back(nullptr);
  return result;
}

struct Plan {
  explicit Plan(const LaunchSpec& launch_spec)
      : spec(launch_spec), argv(pointers(spec.argv)), environment(pointers(spec.environment)) {}
  const LaunchSpec& spec;
  std::vector<char*> argv, environment;
  kernel::PrivateDev dev;
  UniqueFd null;  // each of these is above 2, as 0 to 2 are replaced in the child
  UniqueFd out, err;
  UniqueFd report;
  bool join_v2 = false;  // clone3 is not there: write ourselves into the v2 cgroup, too
};

// ---- in the child; each returns 0 or an errno
// -----------------------------------------------------

int new_session(const Plan&, const char**) {
  return setsid() < 0 ? errno : 0;
}

// execve resets handlers but keeps what is ignored, e.g. the daemon's SIGPIPE.
int default_signals(const Plan&, const char**) {
  struct {  // struct kernel_sigaction; glibc's wrapper refuses its own two signals
    void* handler;
    unsigned long flags;
    void* restorer;
    unsigned long mask;
  } default_action = {};
  for (int number = 1; number < _NSIG; ++number)
    syscall(SYS_rt_sigaction, number, &default_action, nullptr, sizeof default_action.mask);
  return 0;
}

int join(int cgroup_fd) {
  int procs = openat(cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
  if (procs < 0)
    return errno;
  int error = write(procs, "0", 1) == 1 ? 0 : errno;
  close(procs);
  return error;
}

int join_cgroups(const Plan& plan, const char**) {
  if (plan.join_v2) {
    if (int error = join(plan.spec.cgroup_v2_fd); error != 0)
      return error;
  }
  for (int fd : plan.spec.cgroup_v1_fds) {
    if (int error = join(fd); error != 0)
      return error;
  }
  return 0;
}

int enter_dev(const Plan& plan, const char** step) {
  return plan.spec.dev_nodes ? kernel::enter_private_dev(plan.dev, step) : 0;
}

int leave_network(const Plan& plan, const char**) {
  return plan.spec.no_network && unshare(CLONE_NEWNET) < 0 ? errno : 0;
}

int set_limits(const Plan& plan, const char** step) {
  const struct {
    int resource;
    uint64_t value;
    const char* name;
  } limits[] = {
      {RLIMIT_MEMLOCK, plan.spec.memlock_bytes, "set RLIMIT_MEMLOCK (needs CAP_SYS_RESOURCE)"},
      {RLIMIT_NOFILE, plan.spec.nofile, "set RLIMIT_NOFILE (needs CAP_SYS_RESOURCE)"},
      {RLIMIT_AS, plan.spec.address_space_bytes, "set RLIMIT_AS"},
      {RLIMIT_CPU, plan.spec.cpu_seconds, "set RLIMIT_CPU"},
  };
  for (const auto& limit : limits) {
    if (limit.value == 0)
      continue;
    *step = limit.name;
    struct rlimit64 value = {limit.value, limit.value};
    if (syscall(SYS_prlimit64, 0, limit.resource, &value, nullptr) < 0)
      return errno;
  }
  return 0;
}

// Needs CAP_SETPCAP, which an instance that stays as it is may lack; no_new_privs and the empty
// permitted set then keep the bounding set from mattering (cap_bprm_creds_from_file() of the
// kernel).
int empty_bounding_set(const Plan& plan, const char**) {
  for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; ++cap) {
    if ((plan.spec.capabilities >> cap & 1U) == 0 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
      return plan.spec.uid ? errno : 0;
  }
  return 0;
}

int change_user(const Plan& plan, const char** step) {
  if (!plan.spec.uid)
    return 0;
  uint32_t uid = *plan.spec.uid, gid = *plan.spec.gid;
  *step = "setgroups";
  if (syscall(SYS_setgroups, 0, nullptr) < 0)
    return errno;
  *step = "setresgid";
  if (syscall(SYS_setresgid, gid, gid, gid) < 0)
    return errno;
  *step = "setresuid";
  if (syscall(SYS_setresuid, uid, uid, uid) < 0)
    return errno;
  return 0;
}

int drop_capabilities(const Plan& plan, const char**) {
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);  // before 4.3 there was none to clear
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct kept[_LINUX_CAPABILITY_U32S_3] = {};
  for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; ++i)
    kept[i].effective = kept[i].permitted =
        static_cast<uint32_t>(plan.spec.capabilities >> (32 * i));
  if (syscall(SYS_capset, &header, kept) < 0)
    return errno;
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? errno : 0;
}

int enter_folder(const Plan& plan, const char**) {
  return chdir(plan.spec.working_dir.c_str()) < 0 ? errno : 0;
}

int arrange_fds(const Plan& plan, const char**) {
  if (dup2(plan.null.get(), 0) < 0 || dup2(plan.out.get(), 1) < 0 || dup2(plan.err.get(), 2) < 0)
    return errno;
  // Marked, not closed: the report pipe is needed until execve.
  if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
    return errno;
  for (int fd : plan.spec.fds) {
    if (fcntl(fd, F_SETFD, 0) < 0)
      return errno;
  }
  return 0;
}

struct Step {
  const char* name;
  int (*run)(const Plan& plan, const char** name);
};
// In this order: cgroups and mounts need privileges, bounding set and limits need capabilities, and
// the working directory is entered with the guest's own rights.
constexpr Step kSteps[] = {
    {"setsid", new_session},
    {"reset signal handlers", default_signals},
    {"join the cgroup", join_cgroups},
    {"enter the private /dev", enter_dev},
    {"unshare the network namespace", leave_network},
    {"set limits", set_limits},
    {"empty the capability bounding set", empty_bounding_set},
    {"change user", change_user},
    {"drop capabilities", drop_capabilities},
    {"enter the working directory", enter_folder},
    {"arrange file descriptors", arrange_fds},
};

void tell(const Plan& plan, int error, const char* step) {
  Report report;
  report.error = error;
  for (size_t i = 0; i + 1 < sizeof report.step && step[i] != '\0'; ++i) report.step[i] = step[i];
  // If this fails the parent sees an end of file without a report and says so.
  (void)!write(plan.report.get(), &report, sizeof report);
}

[[noreturn]] void run_child(const Plan& plan) {
  for (const Step& step : kSteps) {
    const char* name = step.name;
    if (int error = step.run(plan, &name); error != 0) {
      tell(plan, error, name);
      _exit(127);
    }
  }
  tell(plan, 0, "");
  uint64_t no_signals = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &no_signals, nullptr, sizeof no_signals);
  execve(plan.argv[0], plan.argv.data(), plan.environment.data());
  tell(plan, errno, "execve");
  _exit(127);
}

// ---- in the parent
// --------------------------------------------------------------------------------

// No handler of ours may run in the child before it has reset them.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t before_{};
};

Result<UniqueFd> above_stdio(int fd, const char* name) {
  UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!copy)
    return fail_sys("dup", name);
  return copy;
}

Result<> check(const LaunchSpec& spec) {
  if (spec.argv.empty() || !spec.argv[0].starts_with('/'))
    return fail(Errc::Invalid, "argv[0] is not an absolute path");
  if (spec.uid.has_value() != spec.gid.has_value())
    return fail(Errc::Invalid, "uid and gid go together");
  if (!spec.folders.empty() && !spec.dev_nodes)
    return fail(Errc::Invalid, "a folder needs a private /dev");
  for (const auto* texts : {&spec.argv, &spec.environment}) {
    for (const std::string& text : *texts) {
      if (text.find('\0') != text.npos)
        return fail(Errc::Invalid, "an argument contains a NUL");
    }
  }
  for (int fd : spec.fds) {
    if (fd < 3)
      return fail(Errc::Invalid, fmt::format("fd {}: 0, 1 and 2 are taken", fd));
    if (fcntl(fd, F_GETFD) < 0)
      return fail_sys("fd to keep", std::to_string(fd));
  }
  return {};
}

Result<Plan> make_plan(const LaunchSpec& spec) {
  Plan plan(spec);
  if (spec.dev_nodes) {
    TRY(plan.dev, kernel::build_private_dev(*spec.dev_nodes, spec.shm_files));
    for (const auto& [name, mount] : spec.folders) {
      TRY(UniqueFd copy, above_stdio(mount, "the fd of a folder"));
      TRY_OK(kernel::add_folder(plan.dev, name, std::move(copy)));
    }
  }
  TRY(UniqueFd null, open_file("/dev/null", O_RDWR));
  TRY(plan.null, above_stdio(null.get(), "/dev/null"));
  int err = spec.stderr_fd >= 0 ? spec.stderr_fd : null.get();
  TRY(plan.err, above_stdio(err, "the fd for stderr"));
  TRY(plan.out, above_stdio(spec.stdout_fd >= 0 ? spec.stdout_fd : err, "the fd for stdout"));
  return plan;
}

// Returns the child's pid, 0 in the child, or -1 with errno.
pid_t clone_child(Plan& plan, int* pidfd) {
  clone_args args = {};
  const uint64_t wanted = CLONE_PIDFD | (plan.spec.own_pids ? CLONE_NEWPID : 0);
  args.flags = wanted;
  args.pidfd = reinterpret_cast<uint64_t>(pidfd);
  args.exit_signal = SIGCHLD;
  bool in_cgroup = plan.spec.cgroup_v2_fd >= 0;
  if (in_cgroup) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<unsigned>(plan.spec.cgroup_v2_fd);
  }
  long pid = syscall(SYS_clone3, &args, sizeof args);
  // Containers' seccomp filters cannot look into clone_args and answer ENOSYS (formerly EPERM).
  if (pid >= 0 || !(errno == ENOSYS || (errno == EPERM && !in_cgroup)))
    return static_cast<pid_t>(pid);
  plan.join_v2 = in_cgroup;
  return static_cast<pid_t>(syscall(SYS_clone, wanted | SIGCHLD, nullptr, pidfd, nullptr, nullptr));
}

// What the child said until execve or its death closed the pipe; the last report counts.
Result<std::optional<Report>> last_report(int fd) {
  std::optional<Report> last;
  for (;;) {
    Report report;
    ssize_t n = read(fd, &report, sizeof report);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return fail_sys("read", "the child's report");
    if (n != static_cast<ssize_t>(sizeof report))
      return last;
    report.step[sizeof report.step - 1] = '\0';
    last = report;
  }
}

void reap(int pidfd) {
  siginfo_t info;
  while (waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED) < 0 && errno == EINTR) {
  }
}

void kill_and_reap(int pidfd) {
  syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, nullptr, 0);
  reap(pidfd);
}

Result<Launched> await_exec(pid_t pid, UniqueFd pidfd, int report_fd) {
  auto report = last_report(report_fd);
  if (!report) {
    kill_and_reap(pidfd.get());
    return fail(std::move(report).error());
  }
  if (!*report || (*report)->error != 0) {
    reap(pidfd.get());
    if (!*report)
      return fail(Errc::Lost, "the child was killed before execve");
    return fail_sys((*report)->step, "", (*report)->error);
  }
  auto id = kernel::process_id(pid);
  if (!id) {
    kill_and_reap(pidfd.get());
    return fail(std::move(id).error());
  }
  return Launched{*id, std::move(pidfd)};
}

Result<Launched> launch_checked(const LaunchSpec& spec) {
  TRY_OK(check(spec));
  TRY(Plan plan, make_plan(spec));
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0)
    return fail_sys("pipe2", "");
  UniqueFd read_end(ends[0]), write_end(ends[1]);
  TRY(plan.report, above_stdio(write_end.get(), "the report pipe"));
  write_end.reset();

  int pidfd = -1;
  pid_t pid = -1;
  int error = 0;
  {
    BlockedSignals blocked;
    pid = clone_child(plan, &pidfd);
    if (pid == 0)
      run_child(plan);
    error = errno;
  }
  if (pid < 0)
    return fail_sys(spec.cgroup_v2_fd >= 0 ? "clone3 into the cgroup" : "clone3", "", error);
  plan.report.reset();
  return await_exec(pid, UniqueFd(pidfd), read_end.get());
}

}  // namespace

Result<Launched> launch(const LaunchSpec& spec) {
  auto launched = launch_checked(spec);
  if (!launched) {
    std::string_view program = spec.argv.empty() ? "QEMU" : std::string_view(spec.argv[0]);
    return fail(std::move(launched).error().context(fmt::format("start {}", program)));
  }
  return launched;
}

}  // namespace tenure::qemu
