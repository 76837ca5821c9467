// SPDX-License-Identifier: Apache-2.0
// The acts of one run: what each kind of claim does to this host. Holds the run's kernel objects
// (cgroups, fence, fds of network devices and files) between grant and release.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "domain/domain.h"
#include "guest/plan/facts.h"
#include "guest/run/helpers.h"
#include "kernel/cgroup.h"
#include "kernel/fence.h"
#include "kernel/net_device.h"
#include "kernel/private_dev.h"
#include "kernel/process.h"
#include "registrar/operation.h"

namespace tenure::guest {

class RunSeams final : public registrar::Seams {
 public:
  // `fences` may be null for an unfenced run. `mounts` says where the hierarchies are.
  RunSeams(const domain::Domain& domain, HostOptions options, kernel::CgroupMounts mounts,
           kernel::FenceControl* fences)
      : domain_(domain),
        options_(std::move(options)),
        mounts_(std::move(mounts)),
        fences_(fences) {}

  Result<kernel::Outcome> apply(model::Claim& claim, const registrar::Others& others) override;
  Result<kernel::Outcome> withdraw(const model::Claim& claim, const registrar::Others& others,
                                   trail::Record& record) override;
  // Drivers of PCI devices.
  std::function<Result<kernel::Outcome>()> slow_apply(const model::Claim& claim) override;
  std::function<Result<kernel::Outcome>()> slow_withdraw(const model::Claim& claim,
                                                         trail::Record& record) override;
  // By the open files of QEMU, while it runs.
  Result<> confirm_gone(const model::Claim& claim, const registrar::Others& staying) override;

  // Whether the kernel has it now, for an intent whose result is not known; an error if it cannot
  // be asked. The daemon's own fds are gone with it, so of network devices only a macvtap can be
  // there. False for what QEMU holds.
  Result<bool> present(const model::Claim& claim);

  // For a guest that outlived the daemon: opens its cgroups and finds its fence again.
  Result<> adopt(uint32_t slot);

  // QEMU runs, and nodes come and go in its own /dev; or (pid 0) it has ended.
  void set_process(kernel::ProcessId process) { process_ = process; }
  // Makes nodes in the running QEMU's /dev; those that this call made are gone again if it fails.
  // Does nothing for a run that has no /dev of its own.
  Result<> add_nodes(const std::vector<kernel::DevNode>& nodes);
  // Unlinks those of `nodes` that `staying` does not name.
  Result<> drop_nodes(const std::vector<kernel::DevNode>& nodes,
                      const std::vector<registrar::Hold>& staying);

  kernel::Fence* fence() { return fence_.get(); }
  const kernel::Fence* fence() const { return fence_.get(); }
  // An O_PATH descriptor of the file of a FileAcl claim: of the very file of the grant, or after a
  // restart of what has its name now (NotFound: nothing).
  Result<UniqueFd> open_held(const model::Claim& claim) const;
  const kernel::Cgroup* cgroup_v2() const { return v2_.get(); }
  const kernel::Cgroup* cgroup_v1() const { return v1_.get(); }
  // The fds of an interface, in the order of its queues; tun or macvtap, and vhost.
  struct NicFds {
    std::vector<kernel::NetFd> tap;
    std::vector<kernel::NetFd> vhost;
    size_t tap_claimed = 0;  // of the vectors, how many a claim has been made true for
    size_t vhost_claimed = 0;
    std::string ifname;
    uint32_t ifindex = 0;
    std::optional<kernel::LinkChange> to_set;  // of a tap that set_up_nics() has not seen
  };
  const std::map<std::string, NicFds>& nics() const { return nics_; }
  // The host's side of the taps that apply() opened: a bridge's ports, up. QEMU may have the
  // descriptors by then, and must not have made a device of them.
  Result<> set_up_nics();
  // Once QEMU has its copies, ours go: an interface must die with its guest, and a helper sees that
  // QEMU hangs up.
  void close_lent_fds();

  Helpers& helpers() { return helpers_; }
  const Helpers& helpers() const { return helpers_; }
  // Whether a helper of the guest's own serves the device of that alias, or ought to.
  bool is_served(const std::string& alias) const;

 private:
  using Outcome = kernel::Outcome;
  using Others = registrar::Others;
  // What each kind of claim means here: a row a kind.
  struct Acts {
    trail::Kind kind;
    Result<Outcome> (RunSeams::*apply)(model::Claim&, const Others&);
    Result<Outcome> (RunSeams::*withdraw)(const model::Claim&, const Others&, trail::Record&);
    Result<bool> (RunSeams::*present)(const model::Claim&);
  };
  static const Acts kActs[];
  static const Acts* acts_of(const model::Claim& claim);

  Result<Outcome> make_group(model::Claim& claim, const Others& others);
  Result<Outcome> close_fence(model::Claim& claim, const Others& others);
  Result<Outcome> allow(model::Claim& claim, const Others& others);
  Result<Outcome> add_acl(model::Claim& claim, const Others& others);
  Result<Outcome> open_nic(model::Claim& claim, const Others& others);
  Result<bool> has_driver(const model::Claim& claim);
  Result<UniqueFd> shared_file(const model::Claim& claim) const;
  Result<Outcome> remove_group(const model::Claim&, const Others&, trail::Record&);
  Result<Outcome> leave_closed(const model::Claim&, const Others&, trail::Record&);
  Result<Outcome> deny(const model::Claim&, const Others&, trail::Record&);
  Result<Outcome> remove_acl(const model::Claim&, const Others&, trail::Record&);
  Result<Outcome> close_nic(const model::Claim&, const Others&, trail::Record&);
  Result<bool> has_group(const model::Claim& claim);
  Result<bool> has_fence(const model::Claim& claim);
  Result<bool> has_rule(const model::Claim& claim);
  Result<bool> has_acl(const model::Claim& claim);
  Result<bool> has_link(const model::Claim& claim);
  Result<> look(uint32_t slot);
  Result<UniqueFd> acl_file(const model::Claim& claim);
  Result<Outcome> set_acl(int fd, const model::Claim& claim, Access access);
  Result<> confirm_closed(const model::Claim& claim, const Others& others);
  Result<> open_fds(const domain::Interface& nic, NicFds& fds);
  std::unique_ptr<kernel::Cgroup>& group_of(const std::string& path);

  const domain::Domain& domain_;
  HostOptions options_;
  kernel::CgroupMounts mounts_;
  kernel::FenceControl* fences_;
  std::unique_ptr<kernel::Cgroup> v2_, v1_;
  std::unique_ptr<kernel::Fence> fence_;
  std::optional<Error> unread_;  // why adopt() could not look at cgroup or fence
  std::map<std::string, UniqueFd>
      files_;  // O_PATH, by path: the ACL entry is removed from the very same file
  std::map<std::string, NicFds> nics_;  // by alias
  Helpers helpers_;
  kernel::ProcessId process_;  // pid 0: QEMU does not run
};

// The device nodes that these tenures name.
std::vector<kernel::DevNode> nodes_of(const std::vector<registrar::Hold>& holds);

// The interface on the host that a NetOpen claim is of.
kernel::MadeLink link_of(const model::Claim& claim);
// The tenure of the descriptors by which the guest has the interface of that alias; null if none
// says which it is.
const model::Claim* opened_link(const std::vector<registrar::Hold>& holds,
                                const std::string& alias);

// The rule of a class=path or class=major claim; nullopt for others.
std::optional<kernel::AclRule> rule_of(const model::Claim& claim);

}  // namespace tenure::guest
