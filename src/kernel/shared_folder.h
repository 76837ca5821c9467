// SPDX-License-Identifier: Apache-2.0
// A folder of the host that a process is given as a mount of its own. It is opened by name once;
// what has that name later changes nothing, and what is mounted below it later is not seen.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace tenure::kernel {

// A mount that is attached nowhere yet; it vanishes with its fd.
struct SharedFolder {
  UniqueFd tree;
  uint64_t dev = 0, ino = 0;  // st_dev, st_ino of the folder
};

// Clones the folder with all that is mounted below it: nodev, nosuid, noexec, without propagation,
// and read-only if asked for, all of it. Symbolic links are followed, but none of /proc's. Needs
// CAP_SYS_ADMIN. NotFound; Invalid for what is no folder. Thread-safe.
Result<SharedFolder> clone_folder(const std::string& path, bool readonly);

// What a process has for its root.
struct RootFolder {
  uint64_t dev = 0, ino = 0;
  bool readonly = false;  // the mount or its file system
};
Result<RootFolder> root_of(pid_t pid);

}  // namespace tenure::kernel
