// SPDX-License-Identifier: Apache-2.0
// The device ACL of guests: one seam, two implementations (v2 BPF, v1 devices.allow/deny) and a
// fake. Every change is read back before it is reported; see DESIGN law 1.
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
inline bool same_device(const AclRule& a, const AclRule& b) {
  return a.type == b.type && a.major == b.major && a.minor == b.minor;
}
std::string to_string(const AclRule& rule);  // "c 136:* rw"; "c 136:* -" for no access

// The ACL of one guest. Where a device has an entry of its own and one for any minor, v2 allows the
// union; v1 allows an open only if one of the two covers all of it (r there and w here is not rw).
// Not thread-safe. Destroying the object leaves the kernel's state as it is.
class Fence {
 public:
  virtual ~Fence() = default;
  virtual CgroupVersion version() const = 0;
  // Denies every device, then reads back that the list is empty and the program is in force. The
  // first call after FenceControl::create() is Changed, since it is what confirms create()'s
  // denial.
  virtual Result<Outcome> deny_all() = 0;
  // Makes the access of exactly this type, major, minor|any what `rule` says (none: entry removed),
  // and reads it back. Other entries stay as they are. Invalid above major 4095 or minor 1048575;
  // Lost if the fence turns out not to be in force: then nothing is granted, and what was to be
  // taken away is out of the list but not out of reach.
  virtual Result<Outcome> set(const AclRule& rule) = 0;
  // As the kernel says now, sorted. On v2 this also checks that our program is still attached and
  // the cgroup still has our slot; on v1 that no entry for all devices or any major has come in.
  // Lost if not, with what was found. On v2 it reads the rules of all guests:
  // FenceControl::list_all().
  virtual Result<std::vector<AclRule>> list() const = 0;
  // Ids of the device programs that somebody else attached to the very cgroup of this fence; none
  // on v1.
  virtual Result<std::vector<uint32_t>> other_programs() const = 0;
  // Puts the fence itself back in force after somebody undid it: program and slot on v2, the denial
  // of everything on v1, with a read-back. The rules are the caller's to set again. Unchanged if
  // nothing was wrong.
  virtual Result<Outcome> restore() = 0;
  // Detaches a program that other_programs() named. NotFound if it is gone; Invalid if a link of
  // somebody else holds it, which only its owner can end.
  virtual Result<> remove_program(uint32_t id) = 0;
  // Takes the fence's own kernel objects away once the guest is gone: the map entries of its slot.
  // The program stays attached until the cgroup is removed, and without rules denies everything.
  virtual Result<> dissolve() = 0;
  // To find it again in adopt(): the v2 slot number, 0 on v1.
  virtual uint32_t slot() const = 0;
  // Accesses refused so far; nullopt where the kernel does not count (v1). The kernel frees the
  // count some time after the cgroup's removal (NotFound then), so ask before that.
  virtual Result<std::optional<uint64_t>> denials() const = 0;
};

// Refused accesses of one window that are alike: guest, device, access, command and way of asking.
struct Denial {
  uint32_t slot = 0;
  // False: more kinds of refusals than a window has room for. Only slot and count are known.
  bool described = true;
  DeviceType type = DeviceType::Char;
  uint32_t major = 0;
  uint32_t minor = 0;
  Access access;
  bool probe = false;  // by access(2) or its kin, which open nothing
  uint64_t count = 1;  // exact
  int32_t pid = 0;     // of the first: thread group id, init pid namespace
  uint32_t uid = 0;
  uint32_t auid = 0;
  uint32_t ses = 0;
  uint64_t boottime_ns = 0;       // of the first
  uint64_t last_boottime_ns = 0;  // of the last
  std::string comm;
};

// All guests' fences of one daemon. Not thread-safe.
class FenceControl {
 public:
  virtual ~FenceControl() = default;
  virtual CgroupVersion version() const = 0;
  // For a cgroup just created: attaches (v2), gets a slot that was never used before. Everything is
  // denied from here on. Exists if the cgroup has a v2 fence already (adopt it).
  virtual Result<std::unique_ptr<Fence>> create(const Cgroup& cgroup) = 0;
  // For a guest that outlived the daemon; checks what is attached, changes nothing. `slot` 0 on v2
  // takes the slot that the cgroup has (for a daemon that died before it wrote it down). Lost if
  // our program is not attached, the slot is another one, or (v1) everything is allowed.
  virtual Result<std::unique_ptr<Fence>> adopt(const Cgroup& cgroup, uint32_t slot) = 0;
  // Fence::list() of each, in order, but on v2 with one pass over the rules for all of them.
  virtual std::vector<Result<std::vector<AclRule>>> list_all(
      const std::vector<const Fence*>& fences) const = 0;
  // Removes the rules of every slot that is not in `live`: what guests left behind whose cgroup
  // went while no daemon ran. Returns how many.
  virtual Result<size_t> prune(const std::vector<uint32_t>& live) = 0;
  // Whether a BPF map of that id is one of this control's.
  virtual bool owns_map(uint64_t id) const = 0;
  // Readable once something was refused since the window began; -1 where refusals cannot be seen.
  virtual int denials_fd() const = 0;
  // Refusals are read a window at a time, when nothing is added to it any more: begin_window()
  // closes the one before (a program that is in the middle of an addition ends it within
  // microseconds, so wait longer than that), drain_denials() reads what was closed, and
  // denials_recorded() lets go of it once it is safe elsewhere. What a daemon did not get to record
  // is there for the next one.
  virtual Result<> begin_window() = 0;
  // Calls `each` for every kind of refusal of the closed window; returns how many accesses no kind
  // could be noted for so far (their count comes with described = false).
  virtual Result<uint64_t> drain_denials(const std::function<void(const Denial&)>& each) = 0;
  virtual Result<> denials_recorded() = 0;
};

// v2: loads the shared program, or takes it over from the pins below `pin_dir`, a folder on bpffs
// that is made, with no dot in its name (bpffs refuses those), e.g. /sys/fs/bpf/tenure-<instance>.
// One daemon per folder. If `pin_dir` is below /sys/fs/bpf and nobody has mounted bpffs there, it
// is mounted (mode 0700) and stays mounted, since the pins must outlive the daemon. Refuses pins of
// another layout (Invalid), incomplete or foreign ones (Corrupt), a folder that others can write
// (Denied). Loading makes BPF LOAD records in the audit log, taking over does not.
Result<std::unique_ptr<FenceControl>> open_fence_v2(const std::string& pin_dir);
Result<std::unique_ptr<FenceControl>> open_fence_v1();

// Removes what open_fence_v2() pinned, and the folder (uninstall, tests); NotFound if there is
// none. The fences of guests that still run stay in force as they are, and nobody can change them
// any more.
Result<> remove_fence_pins(const std::string& pin_dir);

// Why v2 / v1 cannot be used here, or nothing: loads and attaches for real in a throw-away cgroup.
// A daemon calls choose_fence() instead, which loads but once.
Result<> probe_fence_v2(const CgroupMounts& mounts);
Result<> probe_fence_v1(const CgroupMounts& mounts);

// The fence to use: v2 where it works, else v1; or only the `wanted` one. Each is tried for real in
// a throw-away cgroup. Unsupported, with both reasons, if none works.
struct FenceChoice {
  std::unique_ptr<FenceControl> control;
  std::string why_not_v2;  // if control is v1 though none was `wanted`
};
Result<FenceChoice> choose_fence(const CgroupMounts& mounts, const std::string& pin_dir,
                                 std::optional<CgroupVersion> wanted = std::nullopt);

}  // namespace tenure::kernel
