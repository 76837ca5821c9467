// SPDX-License-Identifier: Apache-2.0
// The device ACL of guests: one seam, two implementations (v2 BPF, v1 devices.allow/deny) and a fake.
// Every change is read back before it is reported; see DESIGN law 1.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/device_number.h"
#include "base/result.h"
#include "kernel/cgroup.h"

namespace tenure::kernel {

// What an act did to the world, as read back after it. A refusal is an Error, never an Outcome.
enum class Outcome { Changed, Unchanged };

struct AclRule {
  DeviceType type = DeviceType::Char;
  uint32_t major = 0;
  std::optional<uint32_t> minor;  // nullopt: any
  Access access;
  auto operator<=>(const AclRule&) const = default;
};
std::string to_string(const AclRule& rule);  // "c 136:* rw"

// The ACL of one guest. Not thread-safe. Destroying the object leaves the kernel's state as it is.
class Fence {
 public:
  virtual ~Fence() = default;
  virtual CgroupVersion version() const = 0;
  // Denies every device, then reads back that the list is empty and the program is in force.
  virtual Result<Outcome> deny_all() = 0;
  // Makes the access of exactly this type, major, minor|any what `rule` says (none: entry removed),
  // and reads it back. Other entries stay as they are.
  virtual Result<Outcome> set(const AclRule& rule) = 0;
  // As the kernel says now, sorted. On v2 this also checks that our program is still attached;
  // Lost if it is not.
  virtual Result<std::vector<AclRule>> list() const = 0;
  // Takes the fence's own kernel objects away (slot, map entries, pins) once the guest is gone.
  virtual Result<> dissolve() = 0;
  // To find it again in adopt(): the v2 slot number, 0 on v1.
  virtual uint32_t slot() const = 0;
  // Accesses refused so far; nullopt where the kernel does not count (v1).
  virtual Result<std::optional<uint64_t>> denials() const = 0;
};

// One refused access, as the BPF program describes it.
struct Denial {
  uint32_t slot = 0;
  DeviceType type = DeviceType::Char;
  uint32_t major = 0;
  uint32_t minor = 0;
  Access access;
  int32_t pid = 0;   // thread group id, init pid namespace
  uint32_t uid = 0;
  uint32_t auid = 0;
  uint32_t ses = 0;
  uint64_t boottime_ns = 0;
  std::string comm;
};

// All guests' fences of one daemon. Not thread-safe.
class FenceControl {
 public:
  virtual ~FenceControl() = default;
  virtual CgroupVersion version() const = 0;
  // For a cgroup just created: attaches (v2), gets a slot. Everything is denied from here on.
  virtual Result<std::unique_ptr<Fence>> create(const Cgroup& cgroup) = 0;
  // For a guest that outlived the daemon; checks what is attached, changes nothing.
  virtual Result<std::unique_ptr<Fence>> adopt(const Cgroup& cgroup, uint32_t slot) = 0;
  // Readable when denials wait; -1 where they cannot be seen.
  virtual int denials_fd() const = 0;
  // Calls `each` for every waiting denial; returns how many descriptions the ring dropped so far.
  virtual Result<uint64_t> drain_denials(const std::function<void(const Denial&)>& each) = 0;
};

// v2: loads the shared program, or takes it over from the pins below `pin_dir` (a folder on bpffs that
// is made, e.g. /sys/fs/bpf/tenure-<instance>; bpffs is mounted there first if nobody has).
Result<std::unique_ptr<FenceControl>> open_fence_v2(const std::string& pin_dir);
Result<std::unique_ptr<FenceControl>> open_fence_v1();

// Why v2 / v1 cannot be used here, or nothing: loads and attaches for real in a throw-away cgroup.
Result<> probe_fence_v2(const CgroupMounts& mounts);
Result<> probe_fence_v1(const CgroupMounts& mounts);

}  // namespace tenure::kernel
