// SPDX-License-Identifier: Apache-2.0
// What both kinds of fence need: limits, own copies of descriptors, the try-out in a throw-away
// cgroup.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "kernel/fence.h"

namespace tenure::kernel {

// The kernel's dev_t has 12 bits of major and 20 of minor (linux/kdev_t.h).
inline constexpr uint32_t kMaxMajor = (1U << 12) - 1;
inline constexpr uint32_t kMaxMinor = (1U << 20) - 1;
// Invalid beyond these.
Result<> check_numbers(const AclRule& rule);

// The cgroup's directory and name, kept by a fence for longer than the caller keeps the Cgroup.
struct CgroupHandle {
  UniqueFd dir;
  uint64_t inode = 0;
  std::string path;
};
Result<CgroupHandle> keep(const Cgroup& cgroup);

// Makes a cgroup, fences it, allows one device, reads that back, and takes it all away again.
Result<> try_out(FenceControl& control, const std::string& mount);

// list() of each, one after the other.
std::vector<Result<std::vector<AclRule>>> list_each(const std::vector<const Fence*>& fences);

}  // namespace tenure::kernel
