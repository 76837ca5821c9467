// SPDX-License-Identifier: Apache-2.0
// Kernel state against open tenures of one running guest: what the kernel has and the trail does
// not say, and the other way round. The one comparison behind drift records, recovery and
// `tenure verify --live`. It looks and changes nothing.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "guest/run/run_seams.h"
#include "guest/run/run_state.h"
#include "registrar/operation.h"

namespace tenure::guest {

enum class LiveKind {
  Fence,       // the fence as a whole: our program attached, our slot, no rule for all devices
  Program,     // another device program on the guest's cgroup (v2)
  Rule,        // one device rule
  Member,      // a process in the guest's cgroup, or QEMU outside of it
  Identity,    // uid and capabilities of QEMU
  Descriptor,  // an open device node or tap of QEMU, or one that it ought to have open
  FileAcl,     // the guest's entry in the POSIX ACL of a file or folder
  Node,        // a device node in the guest's own /dev
  Driver,      // the driver of a PCI device of the host
  Port,        // the bridge that a tap is a port of
};
// "fence", "program", "rule", "member", "identity", "fd", "acl", "node", "driver", "port":
// stable, used in records and JSON.
std::string_view to_string(LiveKind kind);

// One thing that is not as the open tenures say.
struct Difference {
  LiveKind kind = LiveKind::Fence;
  std::string resource;  // stable name of it: "c 1:5", "pid 812", "fd 25 c 10:200 tnr0", a path,
                         // of Port the interface: "tnr0"
  std::string expected;  // by the trail: "rw", "in force", "member"; "" for nothing
  std::string found;     // by the kernel; "" for nothing
  std::string text;      // one sentence for people
  std::optional<kernel::AclRule>
      rule;                 // of Rule: what stands, no access if missing; of Node: its number
  std::string path;         // of FileAcl the file; of Descriptor and Node the node
  pid_t pid = 0;            // of Member
  uint32_t program_id = 0;  // of Program

  // The same thing differs in the same way.
  bool same_as(const Difference& other) const {
    return kind == other.kind && resource == other.resource && expected == other.expected &&
           found == other.found;
  }
};

struct LiveReport {
  std::vector<Difference> differences;
  // What could not be looked at, and why: no difference is claimed for it, and no agreement either.
  std::vector<std::string> unknown;
  bool gone = false;  // QEMU has ended: nothing was compared
};

// Which parts to look at; all by default.
struct LiveParts {
  bool fence = true, members = true, identity = true, descriptors = true, acls = true, nodes = true;
};

// One guest to look at. `rules` is its Fence::list(), for callers that read the rules of all guests
// in one pass (FenceControl::list_all()); null to have it read here.
struct LiveSubject {
  const RunState& state;
  const HostOptions& options;
  const std::vector<registrar::Hold>& holds;
  const RunSeams& seams;
  const Result<std::vector<kernel::AclRule>>* rules = nullptr;
  LiveParts parts = {};
};

// A guest in the middle of an operation differs from its tenures by design: the caller makes sure
// that none is under way. Costs about 0.1 ms for QEMU's descriptors, 20 µs for the rest.
LiveReport live_check(const LiveSubject& subject);

// The device rules that the open tenures ask for, sorted; two of one device give the union.
std::vector<kernel::AclRule> wanted_rules(const std::vector<registrar::Hold>& holds);

}  // namespace tenure::guest
