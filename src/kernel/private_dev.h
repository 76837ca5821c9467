// SPDX-License-Identifier: Apache-2.0
// The /dev of a guest's own mount namespace: only what was granted is there. The host's /dev is never
// touched.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/device_number.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "kernel/fence.h"

namespace tenure::kernel {

struct DevNode {
  std::string path;  // absolute, below /dev: "/dev/vg/root"; folders are made
  DeviceNumber rdev;
  uint32_t uid = 0, gid = 0;
  uint32_t mode = 0600;
};

// In a child between clone3 and exec (async-signal-safe, no allocation): unshares the mount namespace, makes it a
// slave, puts a tmpfs with `nodes`, pts (the host's devpts), shm, fd, stdin/out/err links over /dev.
// Returns 0 or the errno; `*step` names what failed.
int enter_private_dev(const DevNode* nodes, size_t count, const char** step);

// For a running guest: the /dev of its namespace, by /proc/PID/root/dev (5 us, no setns).
Result<UniqueFd> open_guest_dev(pid_t pid);
// mknod + chown; Unchanged if the very same node is there, Exists if another is.
Result<Outcome> add_node(int guest_dev_fd, const DevNode& node);
// unlink if it still is that number; Unchanged if it is gone.
Result<Outcome> remove_node(int guest_dev_fd, const DevNode& node);

}  // namespace tenure::kernel
