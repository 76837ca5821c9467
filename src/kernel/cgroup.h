// SPDX-License-Identifier: Apache-2.0
// A guest's own cgroup in each hierarchy that is used. The directory is opened once and addressed by
// fd ever after; it is never resolved again through a pid.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
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

enum class CgroupVersion { V1 = 1, V2 = 2 };

// One directory in one hierarchy. Not thread-safe.
class Cgroup {
 public:
  // mkdir `parent`/`name` below the hierarchy's mount point, then open it. Exists if it is there.
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
  // Moves a process in by writing cgroup.procs.
  Result<> add(pid_t pid) const;
  // SIGKILL to all members: cgroup.kill on v2 (5.14+), else by pidfd for each process until none is left.
  Result<> kill_all() const;
  // rmdir; Busy while it has members. NotFound if it is gone already.
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
