// SPDX-License-Identifier: Apache-2.0
// The kernel objects of the v2 fence: loading, pinning, taking over from pins, and the single
// operations on them. Everything is asked from the kernel; nothing is remembered here.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/device_number.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "bpf/fence_layout.h"
#include "kernel/fence.h"

namespace tenure::kernel {

// The program and its maps (src/bpf/fence.bpf.c).
struct FenceObjects {
  UniqueFd program, guests, rules, denials, counters, refusals_a, refusals_b;
  uint32_t program_id = 0;
};

// Loads them, not pinned: they die with the last cgroup that the program is attached to.
Result<FenceObjects> load_fence_objects();
// From the pins below `pin_dir`, or loaded and pinned there in one step (a rename); see
// open_fence_v2().
Result<FenceObjects> open_fence_objects(const std::string& pin_dir);

// What put() did. `before` is what the entry said; of one that was erased that is not known.
struct RuleChange {
  bool changed = false;
  Access before;
};

// One system call or two each; errors name the operation and the object. Not thread-safe.
class FenceMaps {
 public:
  explicit FenceMaps(FenceObjects objects) : objects_(std::move(objects)) {}

  // BPF_PROG_ATTACH with BPF_F_ALLOW_MULTI. `path` is for errors.
  Result<> attach(int cgroup_fd, const std::string& path) const;
  Result<> detach(int cgroup_fd, const std::string& path) const;
  // BPF_PROG_QUERY of the cgroup itself: is our program among those attached?
  Result<bool> attached(int cgroup_fd, const std::string& path) const;
  // The ids of the others.
  Result<std::vector<uint32_t>> other_programs(int cgroup_fd, const std::string& path) const;
  // BPF_PROG_DETACH of another program, by its id.
  Result<> detach_other(int cgroup_fd, const std::string& path, uint32_t id) const;
  // Whether that is the id of one of the maps.
  bool owns(uint64_t map_id) const;

  // The storage that the cgroup with this id got when the program was attached.
  Result<tenure_guest> guest(uint64_t cgroup_id) const;
  Result<> set_slot(uint64_t cgroup_id, uint32_t slot) const;
  // The next slot; no slot is ever given out twice in the life of the maps.
  Result<uint32_t> take_slot() const;

  // Of exactly this type, major, minor|any; none if there is no entry.
  Result<Access> access_of(uint32_t slot, const AclRule& key) const;
  // Makes the entry say rule.access (none: erases it).
  Result<RuleChange> put(uint32_t slot, const AclRule& rule) const;
  Result<> erase(const tenure_rule& key) const;
  // Calls `each` for every rule of every slot.
  Result<> for_each_rule(
      const std::function<void(const tenure_rule& key, uint32_t access)>& each) const;

  // Closes the window that the program writes and opens the other one, which must be empty; the
  // next denial rings the doorbell.
  Result<> turn_window() const;
  // The entries of the window that is closed; entries are not counted on any more.
  struct Refusal {
    tenure_refusal_key key;
    tenure_refusal value;
  };
  Result<std::vector<Refusal>> closed_refusals() const;
  Result<> erase_closed(const std::vector<Refusal>& refusals) const;

  // Denials that no refusal describes.
  Result<uint64_t> lost() const;
  int denials_fd() const { return objects_.denials.get(); }

 private:
  Result<uint64_t> counter(tenure_counter index) const;
  Result<> set_counter(tenure_counter index, uint64_t value) const;
  Result<int> closed_map() const;
  FenceObjects objects_;
};

// A rule of the map as the seam says it; Lost if it is none that we make (an unknown type).
Result<AclRule> to_acl_rule(const tenure_rule& key, uint32_t access);
// Type and access from the kernel's BPF_DEVCG_* numbers.
Access access_from_bits(uint32_t bits);

}  // namespace tenure::kernel
