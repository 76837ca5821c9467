// SPDX-License-Identifier: Apache-2.0
#include "guest/run/helpers.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <memory>

#include "base/file.h"
#include "base/unix_socket.h"
#include "guest/run/context.h"
#include "guest/run/run_seams.h"
#include "kernel/node.h"
#include "kernel/process.h"
#include "kernel/shared_folder.h"
#include "qemu/helper.h"
#include "qemu/process.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;

constexpr auto kKillTimeout = 30s;  // as of QEMU
constexpr auto kStrayPause = 10ms;
constexpr int kStrayLooks = 200;
// Where a helper has the folder before it makes that its root.
constexpr const char* kFolderName = "folder";
// RLIMIT_NOFILE, as virtiofsd would choose: each file that the guest knows is a descriptor.
constexpr uint64_t kOpenFiles = 1'000'000;
// Of the base list: what its libraries may want.
constexpr std::array<std::string_view, 2> kNodes{"/dev/null", "/dev/urandom"};

// The two ends of a connection that virtiofsd accepts itself: it takes a listening socket only.
struct Connection {
  UniqueFd listener, client;
};

Result<Connection> connect_to_itself(const std::string& path) {
  Connection made;
  TRY(made.listener, listen_unix(path, 0600));
  auto client = connect_unix(path);
  TRY_OK(remove_socket(path));
  if (!client)
    return fail(std::move(client).error());
  made.client = std::move(*client);
  if (fcntl(made.listener.get(), F_SETFL, 0) < 0)  // it waits in accept(2)
    return fail_sys("fcntl", path);
  return made;
}

std::vector<kernel::DevNode> nodes_for_helper(const HostOptions& options) {
  std::vector<kernel::DevNode> nodes;
  for (const std::string& path : options.base_devices)
    if (auto facts = kernel::node_facts(path);
        facts && facts->rdev && std::ranges::find(kNodes, path) != kNodes.end())
      nodes.push_back({.path = path, .rdev = *facts->rdev, .mode = 0666});
  return nodes;
}

// What was asked for, or it does not start; else what we may have.
uint64_t open_files_limit(const domain::Filesystem& fs) {
  rlimit now{};
  if (fs.open_files)
    return *fs.open_files;
  if (getrlimit(RLIMIT_NOFILE, &now) < 0)
    return 0;
  return std::min<uint64_t>(kOpenFiles, now.rlim_max);
}

Result<Helper> start_virtiofsd(const Context& context, const domain::Filesystem& fs,
                               const std::string& binary, const HostOptions& options,
                               const RunSeams& seams, const RunState& state) {
  const std::string& uuid = state.ref.uuid;
  TRY(kernel::SharedFolder folder, kernel::clone_folder(fs.dir, fs.readonly));
  TRY(Connection connection,
      connect_to_itself(run_dir(context.paths, uuid) + "/" + fs.info.alias + ".sock"));
  TRY(UniqueFd log,
      open_file(guest_log_path(context.paths, uuid), O_WRONLY | O_CREAT | O_APPEND, 0600));
  qemu::LaunchSpec spec;
  spec.argv = qemu::virtiofsd_command(fs, binary, connection.listener.get(),
                                      std::string("/dev/") + kFolderName);
  spec.environment = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/"};
  spec.fds = {connection.listener.get()};
  spec.stderr_fd = log.get();
  if (seams.cgroup_v2() != nullptr)
    spec.cgroup_v2_fd = seams.cgroup_v2()->dir_fd();
  if (seams.cgroup_v1() != nullptr)
    spec.cgroup_v1_fds.push_back(seams.cgroup_v1()->dir_fd());
  spec.uid = spec.gid = 0;
  spec.dev_nodes = nodes_for_helper(options);
  spec.folders.emplace_back(kFolderName, folder.tree.get());
  spec.no_network = spec.own_pids = true;
  spec.capabilities = qemu::kVirtiofsd.start_capabilities;
  spec.nofile = open_files_limit(fs);
  TRY(qemu::Launched launched, qemu::launch(spec));
  Helper helper{.state = {.kind = std::string(qemu::kVirtiofsd.name),
                          .process = launched.id,
                          .dev = folder.dev,
                          .ino = folder.ino},
                .pidfd = std::move(launched.pidfd),
                .socket = std::move(connection.client)};
  return helper;
}

const kernel::Cgroup* group_of(const RunSeams& seams) {
  return seams.cgroup_v2() != nullptr ? seams.cgroup_v2() : seams.cgroup_v1();
}

bool is_readable(int fd) {
  pollfd exit{.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&exit, 1, 0) == 1;
}

}  // namespace

Result<> start_helpers(const Context& context, const domain::Domain& devices, const Facts& facts,
                       const HostOptions& options, RunSeams& seams, RunState& state) {
  for (const domain::Filesystem& fs : devices.filesystems) {
    auto binary = facts.helpers.find(fs.info.alias);
    if (fs.dir.empty() || binary == facts.helpers.end())
      continue;
    auto helper = start_virtiofsd(context, fs, binary->second, options, seams, state);
    if (!helper)
      return fail(std::move(helper).error().context(fs.info.alias));
    state.helpers.insert_or_assign(fs.info.alias, helper->state);
    seams.helpers().insert_or_assign(fs.info.alias, std::move(*helper));
    // Before QEMU can use it: whoever finds it later knows it by its number and start time.
    TRY_OK(save_run(context.paths, state));
  }
  return {};
}

Result<Helpers> find_helpers(const RunState& state) {
  Helpers found;
  for (const auto& [alias, known] : state.helpers) {
    auto pidfd = kernel::open_process(known.process);
    if (!pidfd && pidfd.error().code() != Errc::NotFound)
      return fail(std::move(pidfd).error().context(alias));
    if (pidfd && !is_readable(pidfd->get()))
      found.emplace(alias, Helper{.state = known, .pidfd = std::move(*pidfd), .socket = {}});
  }
  return found;
}

Result<std::vector<pid_t>> qemu_candidates(const RunSeams& seams, const RunState& state,
                                           bool helpers) {
  const kernel::Cgroup* group = group_of(seams);
  std::vector<pid_t> members, named;
  if (group != nullptr) {
    TRY(members, group->processes());
  }
  if (group != nullptr && !helpers)
    return members;
  TRY(named,
      kernel::processes_with_argument("-uuid", state.ref.uuid, state.uid.value_or(geteuid())));
  if (group == nullptr)
    return named;
  std::erase_if(members, [&](pid_t pid) { return std::ranges::find(named, pid) == named.end(); });
  return members;
}

bool has_exited(const Helper& helper) {
  return is_readable(helper.pidfd.get());
}

std::string how_it_ended(const Helper& helper) {
  siginfo_t info{};
  if (waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(helper.pidfd.get()), &info,
             WEXITED | WNOHANG) < 0 ||
      info.si_pid == 0)
    return "";
  return fmt::format("{} {}", info.si_code == CLD_EXITED ? "exit status" : "signal",
                     info.si_status);
}

asio::awaitable<bool> exits_within(asio::any_io_executor executor, int pidfd,
                                   std::chrono::milliseconds patience) {
  if (is_readable(pidfd))
    co_return true;
  if (patience <= 0ms)
    co_return false;
  // A copy: the descriptor is the helper's, and Asio closes what it is given.
  auto exit =
      std::make_shared<asio::posix::stream_descriptor>(executor, fcntl(pidfd, F_DUPFD_CLOEXEC, 0));
  asio::steady_timer timer(executor, patience);
  timer.async_wait([exit](const asio::error_code& cancelled) {
    asio::error_code ignored;
    if (!cancelled)
      exit->cancel(ignored);
  });
  asio::error_code error;
  co_await exit->async_wait(asio::posix::stream_descriptor::wait_read,
                            asio::redirect_error(asio::use_awaitable, error));
  co_return is_readable(pidfd);
}

asio::awaitable<Result<>> end_helper(asio::any_io_executor executor, RunSeams& seams,
                                     std::string alias, std::chrono::milliseconds patience) {
  auto found = seams.helpers().find(alias);
  if (found == seams.helpers().end())
    co_return Result<>{};
  found->second.socket.reset();
  const int pidfd = found->second.pidfd.get();
  bool gone = co_await exits_within(executor, pidfd, patience);
  if (!gone) {
    Result<> sent = kernel::signal_process(pidfd, SIGKILL);
    if (!sent && sent.error().code() != Errc::NotFound)
      co_return sent;
    gone = co_await exits_within(executor, pidfd, kKillTimeout);
  }
  if (!gone)
    co_return fail(Errc::Timeout,
                   fmt::format("{} ({}) of {} does not end", found->second.state.kind,
                               found->second.state.process.pid, alias));
  (void)how_it_ended(found->second);
  seams.helpers().erase(alias);
  co_return Result<>{};
}

asio::awaitable<Result<>> end_helpers(asio::any_io_executor executor, RunSeams& seams) {
  std::vector<std::string> aliases;
  for (auto& [alias, helper] : seams.helpers()) {
    (void)kernel::signal_process(helper.pidfd.get(), SIGKILL);  // told again, one by one, below
    aliases.push_back(alias);
  }
  Result<> outcome;
  for (std::string& alias : aliases) {
    Result<> ended = co_await end_helper(executor, seams, std::move(alias), 0ms);
    if (!ended && outcome)
      outcome = std::move(ended);
  }
  co_return outcome;
}

bool has_helpers(const domain::Domain& domain) {
  return std::ranges::any_of(domain.filesystems,
                             [](const domain::Filesystem& fs) { return !fs.dir.empty(); });
}

asio::awaitable<void> let_strays_end(asio::any_io_executor executor, RunSeams& seams, pid_t qemu) {
  const kernel::Cgroup* group = group_of(seams);
  auto is_known = [&](pid_t pid) {
    return pid == qemu || kernel::is_kernel_helper_of(pid, qemu) ||
           std::ranges::any_of(seams.helpers(),
                               [pid](const auto& one) { return is_of_helper(pid, one.second); });
  };
  asio::steady_timer timer(executor);
  for (int i = 0; group != nullptr && i < kStrayLooks; ++i) {
    auto members = group->processes();
    if (!members || std::ranges::all_of(*members, is_known))
      co_return;
    timer.expires_after(kStrayPause);
    asio::error_code error;
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
  }
}

bool is_of_helper(pid_t pid, const Helper& helper) {
  const pid_t chief = helper.state.process.pid;
  return pid == chief || (kernel::descends_from(pid, chief) && kernel::same_program(pid, chief));
}

Result<std::vector<pid_t>> processes_of(const Helper& helper, const RunSeams& seams) {
  const kernel::Cgroup* group = group_of(seams);
  TRY(std::vector<pid_t> pids, group != nullptr ? group->processes() : kernel::all_processes());
  std::erase_if(pids, [&](pid_t pid) { return !is_of_helper(pid, helper); });
  return pids;
}

bool has_shed_capabilities(pid_t pid) {
  auto status = kernel::process_status(pid);
  // One that has ended meanwhile has none.
  return !status || (status->cap_eff & ~qemu::kVirtiofsd.serve_capabilities) == 0;
}

Result<> confirm_served(const Helper& helper, const RunSeams& seams, const model::Claim& claim) {
  const std::string who = fmt::format("{} ({})", helper.state.kind, helper.state.process.pid);
  TRY(std::vector<pid_t> pids, processes_of(helper, seams));
  if (has_exited(helper) || pids.empty())
    return fail(Errc::Internal, who + " has ended");
  for (pid_t pid : pids)
    if (!has_shed_capabilities(pid))
      return fail(Errc::Internal, who + " has more capabilities than it serves with");
  for (pid_t pid : pids) {
    auto root = kernel::root_of(pid);
    if (!root && root.error().code() != Errc::NotFound)
      return std::unexpected(std::move(root).error());
    if (!root || root->dev != helper.state.dev || root->ino != helper.state.ino)
      continue;
    if (root->readonly == claim.access.write)
      return fail(Errc::Internal,
                  fmt::format("{} has {} {}", who, claim.id,
                              root->readonly ? "read-only: its file system is, so <readonly/> "
                                               "is to be said"
                                             : "writable"));
    return {};
  }
  return fail(Errc::Internal, fmt::format("{} does not have {} for its root", who, claim.id));
}

}  // namespace tenure::guest
