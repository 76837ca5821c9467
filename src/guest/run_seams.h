// SPDX-License-Identifier: Apache-2.0
// The acts of one run: what each kind of claim does to this host. Holds the run's kernel objects (cgroups, fence, fds of
// network devices and files) between grant and release.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "domain/domain.h"
#include "guest/facts.h"
#include "kernel/cgroup.h"
#include "kernel/fence.h"
#include "kernel/net_device.h"
#include "registrar/operation.h"

namespace tenure::guest {

class RunSeams final : public registrar::Seams {
 public:
  // `fences` may be null for an unfenced run. `mounts` says where the hierarchies are.
  RunSeams(const domain::Domain& domain, HostOptions options, kernel::CgroupMounts mounts,
           kernel::FenceControl* fences)
      : domain_(domain), options_(std::move(options)), mounts_(std::move(mounts)), fences_(fences) {}

  Result<kernel::Outcome> apply(model::Claim& claim) override;
  Result<kernel::Outcome> withdraw(const model::Claim& claim,
                                   const std::vector<registrar::Hold>& others) override;

  // For a guest that outlived the daemon: opens its cgroups and finds its fence again.
  Result<> adopt(uint32_t slot);

  kernel::Fence* fence() { return fence_.get(); }
  const kernel::Cgroup* cgroup_v2() const { return v2_.get(); }
  const kernel::Cgroup* cgroup_v1() const { return v1_.get(); }
  // The fds of an interface, in the order of its queues; tun or macvtap, and vhost.
  struct NicFds {
    std::vector<kernel::NetFd> tap;
    std::vector<kernel::NetFd> vhost;
    size_t tap_claimed = 0;    // of the vectors, how many a claim has been made true for
    size_t vhost_claimed = 0;
    std::string ifname;
  };
  const std::map<std::string, NicFds>& nics() const { return nics_; }
  // Once QEMU has its copies, ours go: an interface must die with its guest.
  void close_nic_fds();

 private:
  using Act = Result<kernel::Outcome>;
  Act make_group(const model::Claim& claim);
  Act remove_group(const model::Claim& claim);
  Act close_fence();
  Act set_rule(const model::Claim& claim, Access access);
  Act add_acl(const model::Claim& claim);
  Act remove_acl(const model::Claim& claim);
  Act open_nic(model::Claim& claim);
  Act close_nic(const model::Claim& claim, const std::vector<registrar::Hold>& others);
  Result<> open_fds(const domain::Interface& nic, NicFds& fds);
  std::unique_ptr<kernel::Cgroup>& group_of(const std::string& path);

  const domain::Domain& domain_;
  HostOptions options_;
  kernel::CgroupMounts mounts_;
  kernel::FenceControl* fences_;
  std::unique_ptr<kernel::Cgroup> v2_, v1_;
  std::unique_ptr<kernel::Fence> fence_;
  std::map<std::string, UniqueFd> files_;  // O_PATH, by path: the ACL entry is removed from the very same file
  std::map<std::string, NicFds> nics_;     // by alias
};

}  // namespace tenure::guest
