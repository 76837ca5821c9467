// SPDX-License-Identifier: Apache-2.0
// The /dev of a guest's own mount namespace: only what was granted is there. The host's /dev is
// never touched. The daemon builds the tree while it is still detached from every namespace,
// because a child that is born inside its fence may not mknod; the child only moves it over its
// /dev. Everything below the tree's root belongs to root, so a guest cannot lead us astray with
// symlinks.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
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

// Mounts that are attached nowhere yet; they vanish with their fds.
struct PrivateDev {
  UniqueFd dev;  // tmpfs: the nodes, fd, stdin, stdout, stderr, and the folders pts and shm
  UniqueFd shm;  // tmpfs of 16 MiB, mode 1777
  UniqueFd pts;  // clone of the host's /dev/pts; none if the host has none
  std::vector<std::pair<std::string, UniqueFd>>
      files;  // path in /dev/shm, clone of the host's file
  std::vector<std::pair<std::string, UniqueFd>> folders;  // path in /dev, a mount
};

// Builds the tree in the caller's (unfenced) process; needs CAP_SYS_ADMIN and CAP_MKNOD. /dev/ptmx
// is there if `nodes` lists it. Invalid for a path that is not plainly below /dev, or that lies in
// pts, shm, fd or one of the links; Exists if a path is listed twice with different numbers.
// Thread-safe.
Result<PrivateDev> build_private_dev(const std::vector<DevNode>& nodes,
                                     const std::vector<std::string>& shm_files = {});

// A folder of that name in the tree, and what will be mounted there. Invalid for a name that is
// the tree's own or no plain name.
Result<> add_folder(PrivateDev& tree, const std::string& name, UniqueFd mount);

// In a child between clone3 and exec (async-signal-safe, no allocation): unshares the mount
// namespace, makes it a slave of the host's and moves the tree over /dev. Returns 0 or the errno;
// `*step` then names what failed.
int enter_private_dev(const PrivateDev& tree, const char** step);

// For a running guest: the /dev of its namespace, by its root in /proc/PID (no setns). Invalid if
// that is the caller's own /dev. The caller makes sure (pidfd) that the pid still is the guest
// afterwards.
Result<UniqueFd> open_guest_dev(pid_t pid);
// mknod + chown + chmod, read back. Unchanged if the very same node is there; a node of the same
// number with another owner or mode is adjusted (Changed); Exists if something else is there. A
// failure leaves nothing behind.
Result<Outcome> add_node(int guest_dev_fd, const DevNode& node);
// unlink if it still is that number, and of the folders that are empty then; Unchanged if it is
// gone, Exists if something else is in its place.
Result<Outcome> remove_node(int guest_dev_fd, const DevNode& node);

// The device nodes that are there now, by path; what we put there ourselves for every guest (pts,
// shm, fd, the links) left out. Corrupt if folders lie deeper than any node of ours. Thread-safe.
Result<std::vector<DevNode>> list_nodes(int guest_dev_fd);

}  // namespace tenure::kernel
