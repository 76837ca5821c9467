// SPDX-License-Identifier: Apache-2.0
// Sees that somebody touches what fences and confines guests, and who. A sighting says "look": what
// changed is for the kernel's own state to tell. Everything here is optional: where a watch cannot
// be had, its caller polls.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "kernel/cgroup.h"

namespace tenure::kernel {

// Who did it, as far as the kernel tells; pid 0: not known.
struct Culprit {
  pid_t pid = 0;
  std::optional<uint32_t> uid, auid;
  std::string comm, exe;  // "" if not known (it ended before it was looked at)
};

struct Sighting {
  enum class What {
    Write,   // a control file of a cgroup was written
    Map,     // a BPF map was changed
    Attach,  // a BPF program or link was attached, detached or replaced
    Move,    // a task was moved into a cgroup
    File,    // attributes of a watched file changed (mode, owner, ACL)
    Missed,  // the queue overflowed: look at everything
  };
  What what = What::Missed;
  std::string path;     // Write: the file
  uint64_t object = 0;  // Map: its id; Attach: inode of the cgroup; 0 if not known. Move: the
                        // cgroup's id. File: what add() returned
  pid_t moved = 0;      // Move: the process
  Culprit who;
};

class Watch {
 public:
  virtual ~Watch() = default;
  virtual int fd() const = 0;  // readable when sightings wait
  // Calls `each` for what waits, at most a few hundred; what this process did is left out.
  virtual Result<> drain(const std::function<void(Sighting&&)>& each) = 0;
};

// fanotify(7) on the whole hierarchies: writes to devices.allow, devices.deny, cgroup.procs,
// cgroup.threads and tasks, with the writer by pidfd where the kernel has FAN_REPORT_PIDFD (5.15).
// Needs CAP_SYS_ADMIN. Unsupported if neither hierarchy can be marked.
Result<std::unique_ptr<Watch>> watch_cgroup_files(const CgroupMounts& mounts);

// Tracepoints on bpf(2) and on cgroup_attach_task, with the caller as the kernel saw it. Loads
// three programs, which the kernel audits as BPF LOAD. Needs BTF, CAP_BPF and CAP_PERFMON.
Result<std::unique_ptr<Watch>> watch_bpf_calls();

// inotify(7), IN_ATTRIB: nobody's name comes with it.
class FileWatch : public Watch {
 public:
  // Watches the file behind the descriptor (O_PATH will do); returns its number in sightings.
  virtual Result<uint64_t> add(int fd) = 0;
  virtual void remove(uint64_t number) = 0;
};
Result<std::unique_ptr<FileWatch>> watch_files();

// What /proc knows of a process that a sighting names, filled in where it is missing.
void complete(Culprit& who);

}  // namespace tenure::kernel
