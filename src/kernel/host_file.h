// SPDX-License-Identifier: Apache-2.0
// Files of the host that are opened by the daemon for a guest: what a guest's state or picture is
// written to or read from. Whoever may write to the folder must not lead us elsewhere.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/device_number.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace tenure::kernel {

struct HostFile {
  std::string path;  // as asked for
  UniqueFd fd;
  std::optional<DeviceNumber> rdev;  // of a block device
  uint64_t dev = 0, ino = 0;         // of the file
  bool created = false;              // by us
};

// For writing, at its beginning and empty: a new file of mode 0600, one of ours that nobody has
// locked (QEMU locks its images), or a block device that nobody has. Not followed: a symbolic link
// that is not our own. Errors: Invalid (relative, or something else than these), Denied (somebody
// else's file, a link), Busy (locked, mounted), Io. Thread-safe.
Result<HostFile> open_output(const std::string& path);

// For reading: a regular file or a block device; links as above.
Result<HostFile> open_input(const std::string& path);

// Unlinks a file that open_output() made, if it still has its name. One that was there before
// stays.
Result<> discard(const HostFile& file);

}  // namespace tenure::kernel
