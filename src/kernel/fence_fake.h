// SPDX-License-Identifier: Apache-2.0
// A fence in memory, for tests and simulations of the rooms above: obeys the contract of fence.h,
// can be told to fail any call with an errno, and can be changed behind its users' back. The Cgroup
// given to it may be a plain folder (Cgroup::create() below any folder as mount).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "kernel/fence.h"

namespace tenure::kernel {

// What the fake kernel knows; outlives any control, as a kernel outlives a daemon. Not thread-safe.
class FakeFenceWorld {
 public:
  // The ACL of one cgroup, by its inode.
  struct Guest {
    uint32_t slot = 0;
    bool in_force = true;        // false: somebody detached the program (or allowed all)
    std::vector<AclRule> rules;  // sorted; at most one a type, major, minor|any
    uint64_t denials = 0;
    bool dissolved = false;  // then create() may make it anew
    std::vector<uint32_t> other_programs;
  };
  std::map<uint64_t, Guest> guests;

  // The `nth` call (0: the next) of create, adopt, deny_all, set, list, dissolve, denials,
  // drain_denials or prune fails with that errno and changes nothing. May be called repeatedly.
  void fail_call(size_t nth, int err) { failures_[calls_ + nth] = err; }
  size_t calls() const { return calls_; }
  // As some other program of the host would: makes the entry of a guest say rule.access.
  void change_behind_back(uint64_t cgroup_inode, const AclRule& rule);
  // A refused access of the guest: counted, and described unless `described` is false (a full
  // ring).
  void deny(uint64_t cgroup_inode, Denial denial, bool described = true);

  // Used by the fake itself. 0, or the errno that this call was told to fail with.
  int begin_call();
  std::vector<Denial> waiting;
  uint64_t lost = 0;
  uint32_t last_slot = 0;

 private:
  std::map<size_t, int> failures_;
  size_t calls_ = 0;
};

// A control of that world; `version` V1 behaves as v1 does (slot 0, no denials). Opening another
// one is a daemon's restart.
std::unique_ptr<FenceControl> fake_fence_control(std::shared_ptr<FakeFenceWorld> world,
                                                 CgroupVersion version = CgroupVersion::V2);

}  // namespace tenure::kernel
