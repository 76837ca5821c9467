// SPDX-License-Identifier: Apache-2.0
// Watches over files: fanotify on the cgroup hierarchies, inotify on single files.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstring>
#include <string_view>
#include <vector>

#include "base/text.h"
#include "base/unique_fd.h"
#include "kernel/process.h"
#include "kernel/watch.h"

#ifndef FAN_REPORT_PIDFD
#define FAN_REPORT_PIDFD 0x00000080
#define FAN_EVENT_INFO_TYPE_PIDFD 4
#endif

namespace tenure::kernel {
namespace {

constexpr size_t kBuffer = 16384;  // bytes; about 400 events with a pidfd each
constexpr std::array<std::string_view, 5> kControlFiles{"devices.allow", "devices.deny",
                                                        "cgroup.procs", "cgroup.threads", "tasks"};

std::string path_of_fd(int fd) {
  std::string path(PATH_MAX, '\0');
  std::string link = fmt::format("/proc/self/fd/{}", fd);
  ssize_t size = readlink(link.c_str(), path.data(), path.size());
  path.resize(size < 0 ? 0 : static_cast<size_t>(size));
  return path;
}

bool is_control_file(std::string_view path) {
  std::string_view name = path.substr(path.rfind('/') + 1);
  return std::ranges::find(kControlFiles, name) != kControlFiles.end();
}

bool alive(int pidfd) {
  return syscall(SYS_pidfd_send_signal, pidfd, 0, nullptr, 0) == 0 || errno == EPERM;
}

// struct fanotify_event_info_pidfd of linux/fanotify.h, behind the metadata; -1 if there is none.
int pidfd_in(const fanotify_event_metadata& event) {
  struct Info {
    uint8_t type;
    uint8_t pad;
    uint16_t length;
    int32_t pidfd;
  };
  if (event.event_len < event.metadata_len + sizeof(Info))
    return -1;
  Info info{};
  std::memcpy(&info, reinterpret_cast<const char*>(&event) + event.metadata_len, sizeof info);
  return info.type == FAN_EVENT_INFO_TYPE_PIDFD ? info.pidfd : -1;
}

class CgroupFiles final : public Watch {
 public:
  explicit CgroupFiles(UniqueFd queue) : queue_(std::move(queue)) {}
  int fd() const override { return queue_.get(); }

  Result<> drain(const std::function<void(Sighting&&)>& each) override {
    alignas(fanotify_event_metadata) char buffer[kBuffer];
    ssize_t size = read(queue_.get(), buffer, sizeof buffer);
    // ENODEV: the file of an event went with its cgroup, so that no descriptor of it can be had
    // (kernfs_fop_open()). That event is used up; the rest come with the next read.
    if (size < 0 && (errno == EAGAIN || errno == EINTR || errno == ENODEV))
      return {};
    if (size < 0)
      return fail_sys("read", "the fanotify queue");
    auto left = static_cast<size_t>(size);
    for (const char* at = buffer; left >= sizeof(fanotify_event_metadata);) {
      fanotify_event_metadata event{};
      std::memcpy(&event, at, sizeof event);
      if (event.event_len < sizeof event || event.event_len > left)
        break;
      take(*reinterpret_cast<const fanotify_event_metadata*>(at), each);
      at += event.event_len;
      left -= event.event_len;
    }
    return {};
  }

 private:
  static void take(const fanotify_event_metadata& event,
                   const std::function<void(Sighting&&)>& each) {
    UniqueFd file(event.fd);
    UniqueFd process(pidfd_in(event));
    if ((event.mask & FAN_Q_OVERFLOW) != 0)
      return each(Sighting{});
    if (event.pid == getpid() || !file)
      return;
    Sighting seen{.what = Sighting::What::Write, .path = path_of_fd(file.get()), .who = {}};
    if (!is_control_file(seen.path))
      return;
    // 0: a process outside of our pid namespace.
    seen.who.pid = event.pid;
    Culprit told = seen.who;
    complete(told);
    // What was read by pid is believed if the very process still has it.
    if (process && alive(process.get()))
      seen.who = std::move(told);
    each(std::move(seen));
  }

  UniqueFd queue_;
};

class Attributes final : public FileWatch {
 public:
  explicit Attributes(UniqueFd queue) : queue_(std::move(queue)) {}
  int fd() const override { return queue_.get(); }

  Result<uint64_t> add(int fd) override {
    std::string path = fmt::format("/proc/self/fd/{}", fd);
    int number = inotify_add_watch(queue_.get(), path.c_str(), IN_ATTRIB);
    if (number < 0)
      return fail_sys("inotify_add_watch", path_of_fd(fd));
    return static_cast<uint64_t>(number);
  }
  void remove(uint64_t number) override {
    inotify_rm_watch(queue_.get(), static_cast<int>(number));  // EINVAL: its file is gone
  }

  Result<> drain(const std::function<void(Sighting&&)>& each) override {
    alignas(inotify_event) char buffer[kBuffer];
    ssize_t size = read(queue_.get(), buffer, sizeof buffer);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
      return {};
    if (size < 0)
      return fail_sys("read", "the inotify queue");
    auto left = static_cast<size_t>(size);
    for (const char* at = buffer; left >= sizeof(inotify_event);) {
      inotify_event event{};
      std::memcpy(&event, at, sizeof event);
      size_t length = sizeof event + event.len;
      if (length > left)
        break;
      if ((event.mask & IN_Q_OVERFLOW) != 0)
        each(Sighting{});
      else if ((event.mask & IN_ATTRIB) != 0)
        each(Sighting{.what = Sighting::What::File,
                      .path = "",
                      .object = static_cast<uint64_t>(event.wd),
                      .who = {}});
      at += length;
      left -= length;
    }
    return {};
  }

 private:
  UniqueFd queue_;
};

Result<UniqueFd> open_queue() {
  constexpr unsigned kFlags = FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK;
  int fd = fanotify_init(kFlags | FAN_REPORT_PIDFD, O_RDONLY | O_CLOEXEC | O_LARGEFILE);
  if (fd < 0 && errno == EINVAL)
    fd = fanotify_init(kFlags, O_RDONLY | O_CLOEXEC | O_LARGEFILE);
  if (fd < 0)
    return fail_sys("fanotify_init", "for the cgroup hierarchies");
  return UniqueFd(fd);
}

}  // namespace

void complete(Culprit& who) {
  if (who.pid <= 0)
    return;
  auto known = requester_of(who.pid);
  if (!known)
    return;
  // Somebody else may have the pid by now: what the kernel told at the time must fit.
  if ((who.auid && *who.auid != known->auid) || (who.uid && *who.uid != known->uid))
    return;
  who.uid = known->uid;
  who.auid = known->auid;
  who.exe = known->exe == "?" ? "" : known->exe;
  if (who.comm.empty())
    who.comm = command_name(who.pid);
}

Result<std::unique_ptr<Watch>> watch_cgroup_files(const CgroupMounts& mounts) {
  TRY(UniqueFd queue, open_queue());
  Result<> marked = fail(Errc::Unsupported, "no cgroup hierarchy is mounted");
  for (const std::string& mount : {mounts.v1_devices, mounts.v2}) {
    if (mount.empty())
      continue;
    if (fanotify_mark(queue.get(), FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_MODIFY, AT_FDCWD,
                      mount.c_str()) < 0)
      return fail_sys("fanotify_mark", mount);
    marked = {};
  }
  if (!marked)
    return fail(std::move(marked).error());
  return std::make_unique<CgroupFiles>(std::move(queue));
}

Result<std::unique_ptr<FileWatch>> watch_files() {
  UniqueFd queue(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!queue)
    return fail_sys("inotify_init1", "for files of guests");
  return std::make_unique<Attributes>(std::move(queue));
}

}  // namespace tenure::kernel
