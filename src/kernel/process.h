// SPDX-License-Identifier: Apache-2.0
// Facts about processes from /proc and pidfds, race-free against pid reuse.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/device_number.h"
#include "base/identity.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "kernel/cgroup.h"

namespace tenure::kernel {

// A process by pid and start time (field 22 of /proc/PID/stat, clock ticks since boot).
struct ProcessId {
  pid_t pid = 0;
  uint64_t start_ticks = 0;
  bool operator==(const ProcessId&) const = default;
};

Result<ProcessId> process_id(pid_t pid);
// A pidfd of exactly that process; NotFound if it is gone or the pid is somebody else's by now.
Result<UniqueFd> open_process(const ProcessId& id);
// Processes of effective uid `uid` with the adjacent words `option` `value` in /proc/PID/cmdline:
// for a QEMU that was started without a cgroup and whose pid nobody wrote down. A hint, never an
// identity: anyone can choose arguments.
Result<std::vector<pid_t>> processes_with_argument(const std::string& option,
                                                   const std::string& value, uint32_t uid);
// pidfd_send_signal(2). NotFound if the process is gone.
Result<> signal_process(int pidfd, int signal);
// Boot id of this boot (/proc/sys/kernel/random/boot_id).
Result<std::string> boot_id();

// The peer of a connected AF_UNIX socket: SO_PEERCRED for pid and uid, SO_PEERPIDFD where the
// kernel has it, then /proc/PID/{loginuid,sessionid,exe,stat}, with a check that the process is
// still the same.
Result<Requester> peer_requester(int socket_fd);
// The same for a pid that is known to be alive.
Result<Requester> requester_of(pid_t pid);
// This process, for what it does by itself; nobody where /proc cannot be read.
Requester own_requester();

// The name of a process (/proc/PID/comm); "" if it is gone.
std::string command_name(pid_t pid);
// How many files the process has open, without looking at them: st_size of /proc/PID/fd
// (Linux 6.2); 0 where the kernel does not say.
size_t count_open_files(pid_t pid);

// One open file of a process. Of what lies in no folder (a socket, an eventfd) only `fd` and
// `target` are told.
struct OpenFile {
  int fd = -1;
  std::string target;                // readlink of /proc/PID/fd/N
  std::optional<DeviceNumber> rdev;  // if it is a device node
  uint64_t dev = 0, ino = 0;         // of the file
  bool readable = false, writable = false;
};
// All open files of the process; entries that vanish while reading are left out. Io: one of them
// cannot be looked at.
Result<std::vector<OpenFile>> open_files(pid_t pid);

// A kernel thread that works for `owner`: vhost-PID, which kernels before 6.4 put into the cgroups
// of their owner (drivers/vhost/vhost.c).
bool is_kernel_helper_of(pid_t pid, pid_t owner);
// `pid` was started by `ancestor`, or by a process that was, as /proc/PID/stat says now.
bool descends_from(pid_t pid, pid_t ancestor);
// Both run the very same file; false if one of them cannot be asked.
bool same_program(pid_t one, pid_t other);
// The numbers of /proc.
Result<std::vector<pid_t>> all_processes();
// Each of its threads is gone or on its way: nothing of it runs any more, though it may not have
// been waited for yet.
bool is_ending(pid_t pid);
// How many threads of `pid` are not among the threads of the cgroup. A thread that begins or ends
// counts for nothing.
Result<size_t> threads_outside(const Cgroup& group, pid_t pid);

// uid, effective capabilities, seccomp mode, as /proc/PID/status says.
struct ProcessStatus {
  uint32_t uid = kUnsetId, euid = kUnsetId;
  uint64_t cap_eff = 0;
  int seccomp = 0;
  int64_t rss_kib = 0;
};
Result<ProcessStatus> process_status(pid_t pid);

}  // namespace tenure::kernel
