// SPDX-License-Identifier: Apache-2.0
#include "guest/run_seams.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "base/text.h"
#include "kernel/file_acl.h"

namespace tenure::guest {
namespace {

using kernel::Outcome;
using trail::Kind;

std::string get(const model::Claim& claim, std::string_view key) {
  return std::string(claim.record.get(key).value_or(""));
}

kernel::AclRule rule_of(const model::Claim& claim, Access access) {
  kernel::AclRule rule{.type = claim.rdev->type, .major = claim.rdev->major, .minor = {}, .access = access};
  if (!claim.any_minor) rule.minor = claim.rdev->minor;
  return rule;
}

}  // namespace

Result<Outcome> RunSeams::apply(model::Claim& claim) {
  switch (claim.record.kind) {
    case Kind::CgroupGroup: return make_group(claim);
    case Kind::CgroupAll: return close_fence();
    case Kind::CgroupMajor:
    case Kind::CgroupPath: return set_rule(claim, claim.access);
    case Kind::FileAcl: return add_acl(claim);
    case Kind::NetOpen: return open_nic(claim);
    default: return fail(Errc::Internal, fmt::format("no act for a claim of kind {}", claim.kind));
  }
}

Result<Outcome> RunSeams::withdraw(const model::Claim& claim, const std::vector<registrar::Hold>& others) {
  switch (claim.record.kind) {
    case Kind::CgroupGroup: return remove_group(claim);
    case Kind::CgroupAll: return Outcome::Unchanged;  // stays closed to the end
    case Kind::CgroupMajor:
    case Kind::CgroupPath: return set_rule(claim, Access{});
    case Kind::FileAcl: return remove_acl(claim);
    case Kind::NetOpen: return close_nic(claim, others);
    default: return fail(Errc::Internal, fmt::format("no act for a claim of kind {}", claim.kind));
  }
}

std::unique_ptr<kernel::Cgroup>& RunSeams::group_of(const std::string& path) {
  return path == options_.cgroup_v2 ? v2_ : v1_;
}

Result<Outcome> RunSeams::make_group(const model::Claim& claim) {
  bool v2 = claim.id == options_.cgroup_v2;
  const std::string& mount = v2 ? mounts_.v2 : mounts_.v1_devices;
  std::string below = claim.id.substr(mount.size() + 1);
  size_t slash = below.rfind('/');
  std::string parent = slash == below.npos ? "" : below.substr(0, slash);
  std::string name = slash == below.npos ? below : below.substr(slash + 1);
  auto version = v2 ? kernel::CgroupVersion::V2 : kernel::CgroupVersion::V1;
  TRY(kernel::Cgroup group, kernel::Cgroup::create(version, mount, parent, name));
  group_of(claim.id) = std::make_unique<kernel::Cgroup>(std::move(group));
  return Outcome::Changed;
}

Result<Outcome> RunSeams::remove_group(const model::Claim& claim) {
  auto& group = group_of(claim.id);
  if (!group) return Outcome::Unchanged;
  if (fence_ && fence_->version() == group->version()) TRY_OK(fence_->dissolve());
  TRY_OK(group->kill_all());  // helpers that QEMU left behind
  Result<> removed = group->remove();
  if (!removed && removed.error().code() != Errc::NotFound) return fail(std::move(removed).error());
  if (fence_ && fence_->version() == group->version()) fence_.reset();
  group.reset();
  return removed ? Outcome::Changed : Outcome::Unchanged;
}

Result<Outcome> RunSeams::close_fence() {
  const auto& group = options_.fence == kernel::CgroupVersion::V2 ? v2_ : v1_;
  if (!group || fences_ == nullptr) return fail(Errc::Internal, "deny all: no cgroup of this guest");
  TRY(fence_, fences_->create(*group));
  return fence_->deny_all();
}

Result<Outcome> RunSeams::set_rule(const model::Claim& claim, Access access) {
  if (!fence_) return fail(Errc::Internal, fmt::format("{}: no fence", claim.id));
  if (!claim.rdev) return fail(Errc::NotFound, fmt::format("{}: no device number", claim.id));
  auto outcome = fence_->set(rule_of(claim, access));
  if (!outcome) return fail(std::move(outcome).error().context(claim.id));
  return outcome;
}

Result<Outcome> RunSeams::add_acl(const model::Claim& claim) {
  // A log file of a chardev need not exist yet; QEMU could not make it in a folder of root's.
  int create = claim.holder.starts_with("chardev ") && get(claim, "acl") != "x" ? O_CREAT : 0;
  TRY(UniqueFd fd, create != 0 ? open_file(claim.id, O_WRONLY | create, 0600) : open_file(claim.id, O_PATH));
  uint32_t uid = *options_.uid;
  auto outcome = get(claim, "acl") == "x" ? kernel::set_search_acl(fd.get(), uid)
                                          : kernel::set_file_acl(fd.get(), uid, claim.access);
  if (!outcome) return fail(std::move(outcome).error().context(claim.id));
  files_.insert_or_assign(claim.id, std::move(fd));
  return outcome;
}

Result<Outcome> RunSeams::remove_acl(const model::Claim& claim) {
  auto it = files_.find(claim.id);
  UniqueFd reopened;
  if (it == files_.end()) {
    auto fd = open_file(claim.id, O_PATH);
    if (!fd) return fd.error().code() == Errc::NotFound ? Result<Outcome>(Outcome::Unchanged)
                                                        : fail(std::move(fd).error());
    reopened = std::move(*fd);
  }
  auto uid = parse_int<uint32_t>(get(claim, "acl-uid"));
  if (!uid) return fail(Errc::Corrupt, fmt::format("{}: acl-uid is missing in the grant", claim.id));
  auto outcome = kernel::remove_file_acl(it == files_.end() ? reopened.get() : it->second.get(), *uid);
  if (outcome) files_.erase(claim.id);
  return outcome;
}

Result<> RunSeams::open_fds(const domain::Interface& nic, NicFds& fds) {
  uint32_t queues = nic.queues.value_or(1);
  if (nic.kind == domain::InterfaceKind::Direct) {
    kernel::MacvtapRequest request{.ifname = nic.target,
                                   .lower = nic.lower,
                                   .mode = nic.mode == "passthrough" ? "passthru" : nic.mode,
                                   .mac = nic.mac,
                                   .queues = queues};
    TRY(fds.tap, kernel::open_macvtap(request));
  } else {
    kernel::TapRequest request{.ifname = nic.target.empty() ? "tnr%d" : nic.target,
                               .mac = nic.mac,
                               .bridge = nic.bridge,
                               .queues = queues,
                               .mtu = nic.mtu.value_or(0)};
    TRY(fds.tap, kernel::open_tap(request));
  }
  fds.ifname = fds.tap.front().ifname;
  return {};
}

// One claim is one fd: the first of an interface opens all its queues.
Result<Outcome> RunSeams::open_nic(model::Claim& claim) {
  auto nic = std::ranges::find_if(domain_.interfaces,
                                  [&](const auto& n) { return n.info.alias == claim.holder; });
  if (nic == domain_.interfaces.end()) return fail(Errc::Internal, claim.holder + ": no such interface");
  NicFds& fds = nics_[claim.holder];
  bool vhost = claim.id == "/dev/vhost-net";
  if (vhost) {
    TRY(kernel::NetFd fd, kernel::open_vhost_net());
    fds.vhost.push_back(std::move(fd));
  } else if (fds.tap.empty()) {
    TRY_OK(open_fds(*nic, fds));
  }
  size_t& claimed = vhost ? fds.vhost_claimed : fds.tap_claimed;
  const kernel::NetFd& fd = vhost ? fds.vhost[claimed] : fds.tap[claimed];
  ++claimed;
  claim.record.set("path", fd.path).set("rdev", rdev_hex(fd.rdev)).set("ifname", fds.ifname);
  claim.record.set("fd", static_cast<uint64_t>(fd.fd.get()));
  claim = model::claim_of(std::move(claim.record));
  return Outcome::Changed;
}

// QEMU is gone, or never came: the kernel takes a tun interface away with its last fd, a macvtap must be deleted. The
// record of the last fd is written when the interface is really gone.
Result<Outcome> RunSeams::close_nic(const model::Claim& claim, const std::vector<registrar::Hold>& others) {
  nics_.erase(claim.holder);
  std::string ifname = get(claim, "ifname");
  bool shared = std::ranges::any_of(others, [&](const registrar::Hold& hold) {
    return hold.claim.record.kind == Kind::NetOpen && hold.claim.holder == claim.holder;
  });
  if (shared || claim.id == "/dev/vhost-net") return Outcome::Changed;
  if (claim.id != "/dev/net/tun") {
    Result<> deleted = kernel::delete_link(ifname);
    if (!deleted && deleted.error().code() != Errc::NotFound) return fail(std::move(deleted).error());
    return Outcome::Changed;
  }
  TRY(bool exists, kernel::link_exists(ifname));
  auto nic = std::ranges::find_if(domain_.interfaces,
                                  [&](const auto& n) { return n.info.alias == claim.holder; });
  bool foreign = nic != domain_.interfaces.end() && !nic->target_managed;
  if (exists && !foreign) return fail(Errc::Busy, ifname + ": the interface is still there");
  return Outcome::Changed;
}

void RunSeams::close_nic_fds() {
  for (auto& [alias, fds] : nics_) {
    fds.tap.clear();
    fds.vhost.clear();
  }
}

Result<> RunSeams::adopt(uint32_t slot) {
  struct Hierarchy {
    kernel::CgroupVersion version;
    const std::string& path;
    std::unique_ptr<kernel::Cgroup>& group;
  };
  const Hierarchy hierarchies[] = {{kernel::CgroupVersion::V2, options_.cgroup_v2, v2_},
                                   {kernel::CgroupVersion::V1, options_.cgroup_v1, v1_}};
  for (const Hierarchy& h : hierarchies) {
    if (h.path.empty()) continue;
    auto group = kernel::Cgroup::open(h.version, h.path);
    if (!group && group.error().code() == Errc::NotFound) continue;
    if (!group) return fail(std::move(group).error());
    h.group = std::make_unique<kernel::Cgroup>(std::move(*group));
  }
  const auto& fenced = options_.fence == kernel::CgroupVersion::V2 ? v2_ : v1_;
  if (!options_.fence || !fenced || fences_ == nullptr) return {};
  TRY(fence_, fences_->adopt(*fenced, slot));
  return {};
}

}  // namespace tenure::guest
