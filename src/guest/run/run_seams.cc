// SPDX-License-Identifier: Apache-2.0
#include "guest/run/run_seams.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "base/text.h"
#include "guest/plan/plan.h"
#include "kernel/file_acl.h"

namespace tenure::guest {
namespace {

using kernel::Outcome;
using registrar::Hold;
using registrar::Others;
using trail::Kind;

constexpr int kEmptyTimeoutMs =
    10'000;  // SIGKILL is answered at once, but for tasks stuck in the kernel

std::string get(const model::Claim& claim, std::string_view key) {
  return std::string(claim.record.get(key).value_or(""));
}

// What other claims have of the rule's device.
Access shared_access(const kernel::AclRule& rule, const Others& others) {
  Access access;
  for (const model::Claim* other : others)
    if (auto theirs = rule_of(*other); theirs && same_device(*theirs, rule))
      access = access | theirs->access;
  return access;
}

// The same of an entry in a file's ACL.
Access shared_acl(const model::Claim& claim, const Others& others) {
  Access access;
  for (const model::Claim* other : others)
    if (other->record.kind == Kind::FileAcl && other->id == claim.id &&
        other->record.get("acl-uid") == claim.record.get("acl-uid"))
      access = access | other->access;
  return access;
}

bool has_search_acl(const model::Claim& claim, const Others& others) {
  return std::ranges::any_of(others, [&](const model::Claim* other) {
    return other->record.kind == Kind::FileAcl && other->id == claim.id &&
           other->record.get("acl") == "x";
  });
}

}  // namespace

std::optional<kernel::AclRule> rule_of(const model::Claim& claim) {
  bool is_rule = claim.record.kind == Kind::CgroupMajor || claim.record.kind == Kind::CgroupPath;
  if (!is_rule || !claim.rdev)
    return std::nullopt;
  kernel::AclRule rule{
      .type = claim.rdev->type, .major = claim.rdev->major, .minor = {}, .access = claim.access};
  if (!claim.any_minor)
    rule.minor = claim.rdev->minor;
  return rule;
}

std::vector<kernel::DevNode> nodes_of(const std::vector<Hold>& holds) {
  std::vector<kernel::DevNode> nodes;
  for (const Hold& hold : holds)
    if (hold.claim.rdev && !hold.claim.any_minor && hold.claim.id.starts_with("/dev/") &&
        hold.claim.record.kind != Kind::NetOpen)
      nodes.push_back({.path = hold.claim.id, .rdev = *hold.claim.rdev});
  return nodes;
}

const RunSeams::Acts RunSeams::kActs[] = {
    {Kind::CgroupGroup, &RunSeams::make_group, &RunSeams::remove_group, &RunSeams::has_group},
    {Kind::CgroupAll, &RunSeams::close_fence, &RunSeams::leave_closed, &RunSeams::has_fence},
    {Kind::CgroupMajor, &RunSeams::allow, &RunSeams::deny, &RunSeams::has_rule},
    {Kind::CgroupPath, &RunSeams::allow, &RunSeams::deny, &RunSeams::has_rule},
    {Kind::FileAcl, &RunSeams::add_acl, &RunSeams::remove_acl, &RunSeams::has_acl},
    {Kind::Driver, nullptr, nullptr, &RunSeams::has_driver},  // slow_apply(), slow_withdraw()
    {Kind::NetOpen, &RunSeams::open_nic, &RunSeams::close_nic, &RunSeams::has_link},
};

const RunSeams::Acts* RunSeams::acts_of(const model::Claim& claim) {
  auto acts = std::ranges::find(kActs, claim.record.kind, &Acts::kind);
  return acts == std::end(kActs) ? nullptr : acts;
}

Result<Outcome> RunSeams::apply(model::Claim& claim, const Others& others) {
  const Acts* acts = acts_of(claim);
  if (acts == nullptr || acts->apply == nullptr)
    return fail(Errc::Internal, fmt::format("no act for a claim of kind {}", claim.kind));
  return (this->*acts->apply)(claim, others);
}

Result<Outcome> RunSeams::withdraw(const model::Claim& claim, const Others& others,
                                   trail::Record& record) {
  const Acts* acts = acts_of(claim);
  if (acts == nullptr || acts->withdraw == nullptr)
    return fail(Errc::Internal, fmt::format("no act for a claim of kind {}", claim.kind));
  auto outcome = (this->*acts->withdraw)(claim, others, record);
  // It may have failed at its read-back. What is gone must not be called held: a look at the kernel
  // would take that for somebody else's doing.
  if (!outcome && outcome.error().sys_errno() != 0)
    outcome = (this->*acts->withdraw)(claim, others, record);
  return outcome;
}

Result<bool> RunSeams::present(const model::Claim& claim) {
  const Acts* acts = acts_of(claim);
  if (acts == nullptr)
    return false;
  return (this->*acts->present)(claim);
}

std::unique_ptr<kernel::Cgroup>& RunSeams::group_of(const std::string& path) {
  return path == options_.cgroup_v2 ? v2_ : v1_;
}

Result<Outcome> RunSeams::make_group(model::Claim& claim, const Others&) {
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

Result<Outcome> RunSeams::remove_group(const model::Claim& claim, const Others&, trail::Record&) {
  auto& group = group_of(claim.id);
  if (!group && unread_)
    return fail(*unread_);
  if (!group)
    return Outcome::Unchanged;
  if (fence_ && fence_->version() == group->version())
    TRY_OK(fence_->dissolve());
  TRY_OK(group->kill_all());  // helpers that QEMU left behind
  TRY_OK(group->wait_empty(kEmptyTimeoutMs));
  Result<> removed = group->remove();
  if (!removed && removed.error().code() != Errc::NotFound)
    return fail(std::move(removed).error());
  if (fence_ && fence_->version() == group->version())
    fence_.reset();
  group.reset();
  return removed ? Outcome::Changed : Outcome::Unchanged;
}

Result<Outcome> RunSeams::close_fence(model::Claim&, const Others&) {
  const auto& group = options_.fence == kernel::CgroupVersion::V2 ? v2_ : v1_;
  if (!group || fences_ == nullptr)
    return fail(Errc::Internal, "deny all: no cgroup of this guest");
  TRY(fence_, fences_->create(*group));
  return fence_->deny_all();
}

// The fence denies to the end; its cgroup takes it away.
Result<Outcome> RunSeams::leave_closed(const model::Claim&, const Others&, trail::Record&) {
  return Outcome::Unchanged;
}

Result<Outcome> RunSeams::allow(model::Claim& claim, const Others& others) {
  if (!fence_)
    return fail(Errc::Internal, fmt::format("{}: no fence", claim.id));
  std::optional<kernel::AclRule> rule = rule_of(claim);
  if (!rule)
    return fail(Errc::NotFound, fmt::format("{}: no device number", claim.id));
  Access shared = shared_access(*rule, others);
  if (shared.covers(rule->access)) {
    claim.record.set("reason", "share");
    return Outcome::Unchanged;
  }
  claim.record.set("reason", "allow");
  Access wanted = rule->access;
  rule->access = shared | wanted;
  auto outcome = fence_->set(*rule);
  if (outcome)
    return outcome;
  // It may have failed at its read-back; what is recorded as refused must not be there. The first
  // error is the one to report.
  rule->access = shared;
  static_cast<void>(fence_->set(*rule));
  return fail(std::move(outcome).error().context(claim.id));
}

// What others need of the device stays: a writer that goes leaves a reader reading.
Result<Outcome> RunSeams::deny(const model::Claim& claim, const Others& others,
                               trail::Record& record) {
  std::optional<kernel::AclRule> rule = rule_of(claim);
  if (!fence_ && unread_)
    return fail(*unread_);
  // Without a fence there is nothing to revoke: it went with its cgroup.
  if (!fence_ || !rule)
    return Outcome::Unchanged;
  Access shared = shared_access(*rule, others);
  if (shared.covers(claim.access)) {
    record.set("reason", "unshare");
    return Outcome::Unchanged;
  }
  rule->access = shared;
  auto outcome = fence_->set(*rule);
  if (!outcome)
    return fail(std::move(outcome).error().context(claim.id));
  record.set("acl", to_string(claim.access.minus(shared)));
  return outcome;
}

Result<Outcome> RunSeams::set_acl(int fd, const model::Claim& claim, Access access) {
  uint32_t uid = *options_.uid;
  auto outcome = get(claim, "acl") == "x" ? kernel::set_search_acl(fd, uid)
                                          : kernel::set_file_acl(fd, uid, access);
  if (!outcome)
    return fail(std::move(outcome).error().context(claim.id));
  return outcome;
}

Result<Outcome> RunSeams::add_acl(model::Claim& claim, const Others& others) {
  // A log file of a chardev need not exist yet; QEMU could not make it in a folder of root's.
  int create = claim.holder.starts_with("chardev:") && get(claim, "acl") != "x" ? O_CREAT : 0;
  Access shared = shared_acl(claim, others);
  bool covered =
      get(claim, "acl") == "x" ? has_search_acl(claim, others) : shared.covers(claim.access);
  if (covered) {
    claim.record.set("reason", "share");
    return Outcome::Unchanged;
  }
  TRY(UniqueFd fd, claim.holder.starts_with("shmem:") ? shared_file(claim)
                   : create != 0                      ? open_file(claim.id, O_WRONLY | create, 0600)
                                                      : open_file(claim.id, O_PATH));
  auto outcome = set_acl(fd.get(), claim, shared | claim.access);
  if (!outcome) {
    // It may have failed at its read-back; what is recorded as refused must not be there. The first
    // error is the one to report.
    static_cast<void>(shared.none() ? kernel::remove_file_acl(fd.get(), *options_.uid)
                                    : kernel::set_file_acl(fd.get(), *options_.uid, shared));
    return outcome;
  }
  // Somebody else's entry: not a grant of ours, and not ours to take away.
  if (*outcome == Outcome::Unchanged)
    claim.record.set("reason", "share").set("foreign", "yes");
  else
    claim.record.set("reason", "allow");
  files_.insert_or_assign(claim.id, std::move(fd));
  return outcome;
}

Result<UniqueFd> RunSeams::open_held(const model::Claim& claim) const {
  auto it = files_.find(claim.id);
  if (it == files_.end())
    return open_file(claim.id, O_PATH);
  UniqueFd copy(fcntl(it->second.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy)
    return fail_sys("duplicate the descriptor of", claim.id);
  return copy;
}

// The very file of the grant, or after a restart of the daemon what has its name now.
Result<UniqueFd> RunSeams::acl_file(const model::Claim& claim) {
  auto it = files_.find(claim.id);
  if (it == files_.end())
    return open_file(claim.id, O_PATH);
  UniqueFd fd = std::move(it->second);
  files_.erase(it);
  return fd;
}

Result<Outcome> RunSeams::remove_acl(const model::Claim& claim, const Others& others,
                                     trail::Record& record) {
  auto uid = parse_int<uint32_t>(get(claim, "acl-uid"));
  if (!uid)
    return fail(Errc::Corrupt, fmt::format("{}: acl-uid is missing in the grant", claim.id));
  Access shared = shared_acl(claim, others);
  bool search = get(claim, "acl") == "x";
  bool stays = search ? has_search_acl(claim, others) : shared.covers(claim.access);
  if (stays || claim.record.get("foreign")) {
    record.set("reason", "unshare");
    return Outcome::Unchanged;
  }
  auto fd = acl_file(claim);
  if (!fd && fd.error().code() == Errc::NotFound)
    return Outcome::Unchanged;
  if (!fd)
    return fail(std::move(fd).error());
  bool narrow = !search && !shared.none();
  auto outcome = narrow ? kernel::set_file_acl(fd->get(), *uid, shared)
                        : kernel::remove_file_acl(fd->get(), *uid);
  if (!outcome || narrow)
    files_.insert_or_assign(claim.id, std::move(*fd));
  if (outcome && narrow)
    record.set("acl", to_string(claim.access.minus(shared)));
  return outcome;
}

bool RunSeams::is_served(const std::string& alias) const {
  return std::ranges::any_of(domain_.filesystems, [&](const domain::Filesystem& fs) {
    return fs.info.alias == alias && !fs.dir.empty();
  });
}

Result<> RunSeams::confirm_gone(const model::Claim& claim, const Others& staying) {
  // Whatever became of QEMU.
  auto helper = claim.record.kind == Kind::Fs ? helpers_.find(claim.holder) : helpers_.end();
  if (helper != helpers_.end() && !has_exited(helper->second))
    return fail(Errc::Busy, fmt::format("{} {} ({}): still held: {} ({}) runs", claim.kind,
                                        claim.id, claim.holder, helper->second.state.kind,
                                        helper->second.state.process.pid));
  auto same = [&](const model::Claim* other) {
    return !registrar::has_act(*other) &&
           (claim.rdev ? other->rdev == claim.rdev : other->id == claim.id);
  };
  bool a_file = claim.id.starts_with('/') && claim.record.kind != Kind::Chardev;
  Access stays;
  bool shared = false;
  for (const model::Claim* other : staying) {
    if (!same(other))
      continue;
    shared = true;
    stays = stays | other->access;
  }
  if (process_.pid == 0 || (!claim.rdev && !a_file) || (shared && stays.covers(claim.access)))
    return {};
  TRY(std::vector<kernel::OpenFile> files, kernel::open_files(process_.pid));
  auto facts = kernel::node_facts(claim.id);
  auto open = static_cast<size_t>(std::ranges::count_if(files, [&](const auto& file) {
    if (shared && !file.writable)
      return false;  // a writer goes, a reader stays
    if (claim.rdev)
      return file.rdev == claim.rdev;
    return file.target == claim.id || (facts && file.dev == facts->dev && file.ino == facts->ino);
  }));
  if (open == 0)
    return {};
  return fail(Errc::Busy, fmt::format("{} {} ({}): still held: {} fds", claim.kind, claim.id,
                                      claim.holder, open));
}

Result<> RunSeams::add_nodes(const std::vector<kernel::DevNode>& nodes) {
  if (process_.pid == 0 || !options_.uid || nodes.empty())
    return {};
  TRY(UniqueFd dev, kernel::open_guest_dev(process_.pid));
  std::vector<kernel::DevNode> made;
  for (const kernel::DevNode& node : nodes) {
    auto outcome = kernel::add_node(dev.get(), node);
    if (!outcome) {
      for (const kernel::DevNode& done : made) (void)kernel::remove_node(dev.get(), done);
      return fail(std::move(outcome).error());
    }
    if (*outcome == Outcome::Changed)
      made.push_back(node);
  }
  return {};
}

Result<> RunSeams::drop_nodes(const std::vector<kernel::DevNode>& nodes,
                              const std::vector<Hold>& staying) {
  if (process_.pid == 0 || !options_.uid || nodes.empty())
    return {};
  auto drop = [&]() -> Result<> {
    TRY(UniqueFd dev, kernel::open_guest_dev(process_.pid));
    for (const kernel::DevNode& node : nodes) {
      auto named = [&](const Hold& hold) { return hold.claim.rdev && hold.claim.id == node.path; };
      if (std::ranges::any_of(staying, named))
        continue;
      auto gone = kernel::remove_node(dev.get(), node);
      if (!gone)
        return fail(std::move(gone).error());
    }
    return {};
  };
  Result<> done = drop();
  // As in withdraw(): a node that stays would be taken for somebody else's doing.
  return done ? done : drop();
}

Result<bool> RunSeams::has_group(const model::Claim& claim) {
  if (group_of(claim.id) != nullptr)
    return true;
  if (unread_)
    return fail(*unread_);
  return false;
}

// Without its cgroup there is no fence.
Result<bool> RunSeams::has_fence(const model::Claim&) {
  if (fence_ != nullptr)
    return true;
  const auto& group = options_.fence == kernel::CgroupVersion::V2 ? v2_ : v1_;
  if (unread_)
    return fail(*unread_);
  if (group && fences_ == nullptr)
    return fail(Errc::Unsupported,
                group->path() + ": this tenured has no access to the kind of fence it has");
  return false;
}

Result<bool> RunSeams::has_rule(const model::Claim& claim) {
  auto rule = rule_of(claim);
  TRY(bool fenced, has_fence(claim));
  if (!fenced || !rule)
    return false;
  TRY(auto rules, fence_->list());
  return std::ranges::any_of(rules, [&](const kernel::AclRule& r) {
    return same_device(r, *rule) && r.access.covers(rule->access);
  });
}

Result<bool> RunSeams::has_acl(const model::Claim& claim) {
  auto uid = parse_int<uint32_t>(get(claim, "acl-uid"));
  if (!uid)
    return false;
  auto fd = open_file(claim.id, O_PATH);
  if (!fd && fd.error().code() == Errc::NotFound)
    return false;
  if (!fd)
    return fail(std::move(fd).error());
  TRY(kernel::FileGrant given, kernel::file_grant_of(fd->get(), *uid));
  bool has_it = get(claim, "acl") == "x" ? given.search : given.access.covers(claim.access);
  return given.has_entry && has_it;
}

Result<> RunSeams::adopt(uint32_t slot) {
  Result<> looked = look(slot);
  // A fence that is not in force any more is known for that; any other error says nothing.
  if (!looked && looked.error().code() != Errc::Lost)
    unread_ = looked.error();
  return looked;
}

Result<> RunSeams::look(uint32_t slot) {
  struct Hierarchy {
    kernel::CgroupVersion version;
    const std::string& path;
    std::unique_ptr<kernel::Cgroup>& group;
  };
  const Hierarchy hierarchies[] = {{kernel::CgroupVersion::V2, options_.cgroup_v2, v2_},
                                   {kernel::CgroupVersion::V1, options_.cgroup_v1, v1_}};
  for (const Hierarchy& h : hierarchies) {
    if (h.path.empty())
      continue;
    auto group = kernel::Cgroup::open(h.version, h.path);
    if (!group && group.error().code() == Errc::NotFound)
      continue;
    if (!group)
      return fail(std::move(group).error());
    h.group = std::make_unique<kernel::Cgroup>(std::move(*group));
  }
  const auto& fenced = options_.fence == kernel::CgroupVersion::V2 ? v2_ : v1_;
  if (!options_.fence || !fenced || fences_ == nullptr)
    return {};
  TRY(fence_, fences_->adopt(*fenced, slot));
  return {};
}

}  // namespace tenure::guest
