// SPDX-License-Identifier: Apache-2.0
// Starts QEMU, and what helps it: born in the guest's cgroups, in a mount namespace of its own, as
// its own uid, without capabilities unless some are named, with just the fds that it is meant to
// have. Blocking for the few ms that it takes;
// call it from the pool or accept that.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "kernel/private_dev.h"
#include "kernel/process.h"

namespace tenure::qemu {

struct LaunchSpec {
  std::vector<std::string> argv;         // argv[0] is the absolute path of the emulator
  std::vector<std::string> environment;  // whole: nothing of the daemon's is inherited
  // Kept open in the child under their own numbers, 3 and above; all others are closed.
  std::vector<int> fds;
  int stderr_fd = -1;     // becomes 1 and 2; -1: /dev/null. 0 is /dev/null
  int stdout_fd = -1;     // becomes 1; -1: as stderr_fd
  int cgroup_v2_fd = -1;  // CLONE_INTO_CGROUP; -1: none
  // Directory fds; the child writes itself into cgroup.procs before exec.
  std::vector<int> cgroup_v1_fds;
  std::optional<uint32_t> uid, gid;  // nullopt: stay as we are (unprivileged instance)
  // Private /dev; nullopt: the host's.
  std::optional<std::vector<kernel::DevNode>> dev_nodes;
  std::vector<std::string> shm_files;  // of the host's /dev/shm, by name, in the private one too
  // Mounts that are attached nowhere, by name in the private /dev.
  std::vector<std::pair<std::string, int>> folders;
  bool no_network = false;     // a network namespace with nothing in it
  bool own_pids = false;       // init of a pid namespace: its pidfd speaks for all that it starts
  uint64_t capabilities = 0;   // mask of what it keeps, in the bounding set as well
  uint64_t memlock_bytes = 0;  // RLIMIT_MEMLOCK; 0 leaves it
  uint64_t nofile = 0;         // RLIMIT_NOFILE; 0 leaves it
  uint64_t address_space_bytes = 0;  // RLIMIT_AS; 0 leaves it
  uint64_t cpu_seconds = 0;          // RLIMIT_CPU; 0 leaves it
  std::string working_dir = "/";
};

struct Launched {
  kernel::ProcessId id;
  UniqueFd pidfd;
};

// clone3; returns when execve has succeeded (close-on-exec pipe), or the error of the step that
// failed in the child, which is reaped then. The child is our child: whoever calls this reaps it by
// the pidfd. It survives us. The child leads its own session, has default signal handlers and an
// empty signal mask, no capability but those (bounding set included), no_new_privs. Errors: Invalid
// (spec), Denied, NotFound … by the errno of the step; Lost if the child was killed before execve.
// Thread-safe; nothing of the caller's process is changed.
Result<Launched> launch(const LaunchSpec& spec);

}  // namespace tenure::qemu
