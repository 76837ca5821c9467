// SPDX-License-Identifier: Apache-2.0
// What a sighting means for a guest: what to look at, and whom a difference can be laid to. Pure,
// but for what /proc still knows of a process.
#pragma once

#include <vector>

#include "guest/guest.h"
#include "guest/run/live_check.h"
#include "kernel/watch.h"

namespace tenure::daemon {

inline constexpr guest::LiveParts kNothing{.fence = false,
                                           .members = false,
                                           .identity = false,
                                           .descriptors = false,
                                           .acls = false,
                                           .nodes = false};

// What the caller knows about a sighting.
struct Told {
  bool moves = false;  // moves of tasks are seen by themselves, not only by writes to cgroup.procs
  bool map = false;    // the map is one of our fence
  bool file = false;   // the file is one that this guest holds
  bool stranger = false;  // the moved process is one that does not belong into its cgroup
};

// The parts of the guest that the sighting speaks of.
guest::LiveParts concerned(const kernel::Sighting& seen, const guest::Guest& guest,
                           const Told& told);

// The one who did it, where all that was seen since the last look leaves no doubt; pid 0 otherwise.
kernel::Culprit culprit(const guest::Difference& difference, const guest::Guest& guest,
                        const std::vector<kernel::Sighting>& sightings);

}  // namespace tenure::daemon
