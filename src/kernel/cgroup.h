// SPDX-License-Identifier: Apache-2.0
// A guest's own cgroup in each hierarchy that is used. The directory is opened once and addressed
// by fd ever after; it is never resolved again through a pid. Nothing here asks what file system
// the folder is on, so that tests of the rooms above may give a plain folder as mount: create, open
// and remove work there, and what reads the kernel's files answers NotFound.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace tenure::kernel {

// Where the hierarchies are mounted on this host (from /proc/self/mountinfo); empty if not there.
struct CgroupMounts {
  std::string v2;          // "/sys/fs/cgroup" or "/sys/fs/cgroup/unified"
  std::string v1_devices;  // "/sys/fs/cgroup/devices"
};
Result<CgroupMounts> find_cgroup_mounts();
// The same from the text of a mountinfo (proc_pid_mountinfo(5)). Of several mounts of a hierarchy a
// writable one under /sys/fs/cgroup is preferred, then any writable one, then the first.
CgroupMounts parse_cgroup_mounts(std::string_view mountinfo);

enum class CgroupVersion { V1 = 1, V2 = 2 };

// One directory in one hierarchy. Not thread-safe.
class Cgroup {
 public:
  // mkdir `parent`/`name` below the hierarchy's mount point, then open it. Exists if it is there.
  // `parent` ("" for the hierarchy's root) is made if missing and never removed; `name` is one
  // component. Both are Invalid with "..", NUL or newline in them (devices.* and /proc/PID/cgroup
  // are line files).
  static Result<Cgroup> create(CgroupVersion version, const std::string& mount,
                               const std::string& parent, const std::string& name);
  // Opens an existing one; NotFound if it is gone.
  static Result<Cgroup> open(CgroupVersion version, const std::string& path);

  CgroupVersion version() const { return version_; }
  const std::string& path() const { return path_; }
  int dir_fd() const { return dir_.get(); }
  uint64_t inode() const { return inode_; }  // the cgroup id that BPF sees

  // cgroup.procs.
  Result<std::vector<pid_t>> processes() const;
  // Thread ids: `tasks` on v1, `cgroup.threads` on v2.
  Result<std::vector<pid_t>> threads() const;
  // Moves a process in by writing cgroup.procs.
  Result<> add(pid_t pid) const;
  // SIGKILL to all members: cgroup.kill on v2 (5.14+), else by pidfd for each process until a pass
  // finds none that it has not killed yet. They are dying then, not dead: wait_empty().
  Result<> kill_all() const;
  // Returns as soon as no process is left (cgroup.events on v2, pidfds on v1); Timeout after
  // `timeout_ms` (-1: never).
  Result<> wait_empty(int timeout_ms) const;
  // rmdir; Busy while it has members. NotFound if it is gone already, or if another one took its
  // path.
  Result<> remove();

 private:
  Cgroup(CgroupVersion version, std::string path, UniqueFd dir, uint64_t inode)
      : version_(version), path_(std::move(path)), dir_(std::move(dir)), inode_(inode) {}
  CgroupVersion version_;
  std::string path_;
  UniqueFd dir_;
  uint64_t inode_ = 0;
};

}  // namespace tenure::kernel
