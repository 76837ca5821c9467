// SPDX-License-Identifier: Apache-2.0
#include "guest/run/live_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "base/text.h"
#include "guest/run/live_check_host.h"
#include "kernel/file_acl.h"
#include "kernel/net_device.h"
#include "kernel/private_dev.h"
#include "kernel/process.h"

namespace tenure::guest {
namespace {

using kernel::AclRule;
using registrar::Hold;
using trail::Kind;

constexpr DeviceNumber kNull{DeviceType::Char, 1, 3};
constexpr int kLastStdio = 2;  // QEMU is launched with /dev/null there

std::string or_nothing(const std::string& text) {
  return text.empty() ? "nothing" : text;
}

std::string device_name(const AclRule& rule) {
  AclRule bare = rule;
  bare.access = {};
  std::string text = to_string(bare);  // "c 1:5 -"
  return text.substr(0, text.rfind(' '));
}

class Check {
 public:
  explicit Check(const LiveSubject& subject) : subject_(subject), state_(subject.state) {}

  LiveReport run() {
    auto now = kernel::process_id(state_.process.pid);
    if (!now || *now != state_.process)
      return LiveReport{.differences = {}, .unknown = {}, .gone = true};
    if (subject_.parts.fence)
      fence();
    if (subject_.parts.members)
      members();
    if (subject_.parts.identity)
      identity();
    if (subject_.parts.descriptors)
      descriptors();
    if (subject_.parts.acls)
      acls();
    if (subject_.parts.nodes)
      nodes();
    // QEMU ended while it was looked at: what was seen is the end, not a difference.
    auto still = kernel::process_id(state_.process.pid);
    if (ending_ || !still || *still != state_.process)
      report_ = LiveReport{.differences = {}, .unknown = {}, .gone = true};
    return std::move(report_);
  }

 private:
  void add(Difference difference) { report_.differences.push_back(std::move(difference)); }
  void cannot_tell(std::string_view what, const Error& why) {
    report_.unknown.push_back(fmt::format("{}: {}", what, why.what()));
  }

  void fence() {
    const kernel::Fence* fence = subject_.seams.fence();
    if (fence == nullptr) {
      if (state_.fence == "v1" || state_.fence == "v2")
        report_.unknown.push_back("its fence cannot be looked at by this tenured");
      return;
    }
    auto rules = subject_.rules != nullptr ? *subject_.rules : fence->list();
    if (rules) {
      compare_rules(*rules);
    } else if (rules.error().code() == Errc::Lost) {
      add({.kind = LiveKind::Fence,
           .resource = "fence",
           .expected = "in force",
           .found = "not in force",
           .text = rules.error().what()});
    } else {
      cannot_tell("device rules", rules.error());
    }
    programs(*fence);
  }

  void compare_rules(const std::vector<AclRule>& standing) {
    std::vector<AclRule> wanted = wanted_rules(subject_.holds);
    for (const AclRule& rule : standing) {
      auto ours =
          std::ranges::find_if(wanted, [&](const AclRule& w) { return same_device(w, rule); });
      if (ours == wanted.end())
        rule_differs(rule, Access{}, rule.access);
      else if (ours->access != rule.access)
        rule_differs(rule, ours->access, rule.access);
    }
    for (const AclRule& rule : wanted)
      if (std::ranges::none_of(standing, [&](const AclRule& s) { return same_device(s, rule); }))
        rule_differs(rule, rule.access, Access{});
  }

  void rule_differs(AclRule rule, Access expected, Access found) {
    rule.access = found;
    std::string name = device_name(rule);
    std::string want = to_string(expected), have = to_string(found);
    add({.kind = LiveKind::Rule,
         .resource = name,
         .expected = want,
         .found = have,
         .text = fmt::format("{}: the fence allows {}, the tenures say {}", name, or_nothing(have),
                             or_nothing(want)),
         .rule = rule});
  }

  void programs(const kernel::Fence& fence) {
    auto others = fence.other_programs();
    if (!others)
      return cannot_tell("device programs", others.error());
    for (uint32_t id : *others)
      add({.kind = LiveKind::Program,
           .resource = fmt::format("program {}", id),
           .expected = "",
           .found = "attached",
           .text =
               fmt::format("device program {} is attached to the guest's cgroup beside ours", id),
           .program_id = id});
  }

  void members() {
    for (const kernel::Cgroup* group : {subject_.seams.cgroup_v2(), subject_.seams.cgroup_v1()})
      if (group != nullptr)
        members_of(*group);
  }

  void members_of(const kernel::Cgroup& group) {
    auto pids = group.processes();
    if (!pids)
      return cannot_tell("members of " + group.path(), pids.error());
    pid_t qemu = state_.process.pid;
    for (pid_t pid : *pids)
      if (pid != qemu && !kernel::is_kernel_helper_of(pid, qemu) && !is_helper(pid))
        stranger(group, pid);
    for (const auto& [alias, helper] : subject_.seams.helpers())
      if (std::ranges::find(*pids, helper.state.process.pid) == pids->end() && !has_exited(helper))
        helper_left(group, helper);
    if (std::ranges::find(*pids, qemu) == pids->end()) {
      // A process leaves the list when its last thread begins to end (cgroup_exit()), before /proc
      // lets go of it.
      ending_ = ending_ || kernel::is_ending(qemu);
      return qemu_left(group, "outside");
    }
    auto strays = kernel::threads_outside(group, qemu);
    if (!strays)
      return cannot_tell("threads in " + group.path(), strays.error());
    if (*strays != 0)
      qemu_left(group, fmt::format("{} threads outside", *strays));
  }

  bool is_helper(pid_t pid) const {
    return std::ranges::any_of(subject_.seams.helpers(),
                               [pid](const auto& one) { return is_of_helper(pid, one.second); });
  }

  void helper_left(const kernel::Cgroup& group, const Helper& helper) {
    if (kernel::is_ending(helper.state.process.pid))
      return;
    add({.kind = LiveKind::Member,
         .resource = fmt::format("{} in {}", helper.state.kind, group.path()),
         .expected = "member",
         .found = "outside",
         .text = fmt::format("{} ({}) belongs into {}: outside", helper.state.kind,
                             helper.state.process.pid, group.path()),
         .path = group.path(),
         .pid = helper.state.process.pid});
  }

  void stranger(const kernel::Cgroup& group, pid_t pid) {
    auto who = kernel::requester_of(pid);
    if (!who)
      return;  // it ended meanwhile
    add({.kind = LiveKind::Member,
         .resource = fmt::format("pid {} in {}", pid, group.path()),
         .expected = "",
         .found = "member",
         .text = fmt::format(
             "process {} ({}) is in the guest's cgroup {}, and is neither its QEMU nor a helper",
             pid, printable(who->exe), group.path()),
         .path = group.path(),
         .pid = pid});
  }

  void qemu_left(const kernel::Cgroup& group, std::string where) {
    add({.kind = LiveKind::Member,
         .resource = fmt::format("qemu in {}", group.path()),
         .expected = "member",
         .found = where,
         .text =
             fmt::format("QEMU ({}) belongs into {}: {}", state_.process.pid, group.path(), where),
         .path = group.path(),
         .pid = state_.process.pid});
  }

  void identity() {
    if (!state_.uid)
      return;
    auto status = kernel::process_status(state_.process.pid);
    if (!status)
      return cannot_tell("uid and capabilities of QEMU", status.error());
    if (status->uid != *state_.uid || status->euid != *state_.uid)
      identity_differs("uid", std::to_string(*state_.uid),
                       fmt::format("{}/{}", status->uid, status->euid));
    if (status->cap_eff != 0)
      identity_differs("capabilities", "", fmt::format("{:x}", status->cap_eff));
    for (const auto& [alias, helper] : subject_.seams.helpers())
      for (pid_t pid : processes_of(helper, subject_.seams).value_or(std::vector<pid_t>{}))
        if (!has_shed_capabilities(pid))
          add({.kind = LiveKind::Identity,
               .resource = fmt::format("capabilities of {} {}", helper.state.kind, pid),
               .expected = "those it serves with",
               .found = "more",
               .text = fmt::format("{} ({}) of {} has more capabilities than it serves with",
                                   helper.state.kind, pid, alias)});
  }

  void identity_differs(std::string_view what, std::string expected, std::string found) {
    std::string text =
        fmt::format("QEMU's {} is {}, and ought to be {}", what, found, or_nothing(expected));
    add({.kind = LiveKind::Identity,
         .resource = std::string(what),
         .expected = std::move(expected),
         .found = std::move(found),
         .text = std::move(text)});
  }

  // What the open tenures let QEMU have open, by device number.
  void collect_explanations() {
    if (std::exchange(collected_, true))
      return;
    for (const Hold& hold : subject_.holds) {
      const model::Claim& claim = hold.claim;
      if (claim.record.kind == Kind::NetOpen && claim.rdev)
        ++nets_[*claim.rdev];
      links_.add(claim);
      if (claim.rdev && !rule_of(claim) && claim.record.kind != Kind::NetOpen)
        rules_.push_back({.type = claim.rdev->type,
                          .major = claim.rdev->major,
                          .minor = claim.rdev->minor,
                          .access = claim.access.none() ? kReadWrite : claim.access});
    }
    for (const AclRule& rule : wanted_rules(subject_.holds)) rules_.push_back(rule);
    if (subject_.options.fence)
      return;
    // Without a fence nothing is claimed of the base list, and QEMU uses it all the same.
    auto base = subject_.options.base_devices;
    base.emplace_back("/dev/kvm");
    for (const std::string& path : base)
      if (auto node = kernel::node_facts(path); node && node->rdev)
        rules_.push_back({.type = node->rdev->type,
                          .major = node->rdev->major,
                          .minor = node->rdev->minor,
                          .access = kReadWrite});
  }

  bool allowed(const kernel::OpenFile& file) const {
    Access had{.read = file.readable, .write = file.writable};
    Access given;
    for (const AclRule& rule : rules_)
      if (rule.type == file.rdev->type && rule.major == file.rdev->major &&
          (!rule.minor || *rule.minor == file.rdev->minor))
        given = given | rule.access;
    return given.covers(had) && !given.none();
  }

  void descriptors() {
    auto files = kernel::open_files(state_.process.pid);
    if (!files)
      return cannot_tell("open files of QEMU", files.error());
    if (files->empty())
      return report_.unknown.push_back("open files of QEMU: it is ending");
    collect_explanations();
    for (const kernel::OpenFile& file : *files)
      if (file.rdev)
        descriptor(file);
    for (const auto& [alias, helper] : subject_.seams.helpers()) descriptors_of(helper);
    for (const auto& [rdev, left] : nets_)
      if (left > 0)
        descriptors_lack(rdev, left);
    check_host_devices(subject_, *files, report_);
    check_ports(subject_, report_);
  }

  // The nodes that lie in its folder it may know of (O_PATH), but not open.
  void descriptors_of(const Helper& helper) {
    auto pids = processes_of(helper, subject_.seams);
    if (!pids)
      return cannot_tell("processes of " + helper.state.kind, pids.error());
    for (pid_t pid : *pids) {
      auto files = kernel::open_files(pid);
      if (!files && files.error().code() != Errc::NotFound)  // else it ended meanwhile
        cannot_tell("open files of " + helper.state.kind, files.error());
      if (!files)
        continue;
      for (const kernel::OpenFile& file : *files)
        if (file.rdev && (file.readable || file.writable) &&
            !(file.rdev == kNull && file.fd <= kLastStdio) && !allowed(file))
          unexplained(file, "", fmt::format("{} ({})", helper.state.kind, pid));
    }
  }

  void descriptor(const kernel::OpenFile& file) {
    if (file.rdev == kNull && file.fd <= kLastStdio)
      return;
    std::string ifname;
    if (auto net = nets_.find(*file.rdev); net != nets_.end()) {
      ifname = kernel::tun_name_of(state_.process.pid, file.fd);
      if ((ifname.empty() || links_.has(ifname)) && net->second > 0) {
        --net->second;
        return;
      }
    } else if (allowed(file)) {
      return;
    }
    unexplained(file, ifname);
  }

  void unexplained(const kernel::OpenFile& file, const std::string& ifname,
                   const std::string& who = "QEMU") {
    std::string access = to_string(Access{.read = file.readable, .write = file.writable});
    std::string name = fmt::format("fd {} {}", file.fd, to_string(*file.rdev));
    if (!ifname.empty())
      name += " " + ifname;
    if (who != "QEMU")
      name += " " + who;
    add({.kind = LiveKind::Descriptor,
         .resource = name,
         .expected = "",
         .found = access.empty() ? "open" : access,
         .text = fmt::format("{} has {} open ({}, {}), and no tenure explains it", who,
                             printable(file.target), name, access),
         .rule = AclRule{.type = file.rdev->type,
                         .major = file.rdev->major,
                         .minor = file.rdev->minor,
                         .access = {.read = file.readable, .write = file.writable}},
         .path = file.target});
  }

  void descriptors_lack(const DeviceNumber& rdev, size_t missing) {
    std::string name = to_string(rdev);
    add({.kind = LiveKind::Descriptor,
         .resource = name,
         .expected = fmt::format("{} more open", missing),
         .found = "",
         .text = fmt::format("QEMU lacks {} of its descriptors of {}", missing, name)});
  }

  void acls() {
    for (const Hold& hold : subject_.holds)
      if (hold.claim.record.kind == Kind::FileAcl)
        acl(hold.claim);
  }

  void acl(const model::Claim& claim) {
    auto uid = parse_int<uint32_t>(claim.record.get("acl-uid").value_or(""));
    std::string wanted(claim.record.get("acl").value_or(""));
    if (!uid)
      return;
    auto fd = subject_.seams.open_held(claim);
    if (!fd && fd.error().code() == Errc::NotFound)
      return acl_differs(claim, wanted, "no such file");
    if (!fd)
      return cannot_tell(claim.id, fd.error());
    auto given = kernel::file_grant_of(fd->get(), *uid);
    if (!given)
      return cannot_tell(claim.id, given.error());
    Access whole = acl_of_path(claim);
    bool stands = wanted == "x" ? given->search : given->access == whole;
    // The owner's bits are not ours to narrow.
    if (given->is_owner && wanted != "x")
      stands = given->access.covers(parse_access(wanted).value_or(Access{}));
    if (!stands)
      acl_differs(claim, wanted, to_string(given->access) + (given->search ? "x" : ""));
  }

  // What all devices together have of the file.
  Access acl_of_path(const model::Claim& claim) const {
    Access access;
    for (const Hold& hold : subject_.holds)
      if (hold.claim.record.kind == Kind::FileAcl && hold.claim.id == claim.id)
        access = access | hold.claim.access;
    return access;
  }

  void acl_differs(const model::Claim& claim, const std::string& expected, std::string found) {
    std::string text =
        fmt::format("{}: the entry of uid {} gives {}, the tenures say {}", printable(claim.id),
                    claim.record.get("acl-uid").value_or("?"), or_nothing(found), expected);
    add({.kind = LiveKind::FileAcl,
         .resource = claim.id,
         .expected = expected,
         .found = std::move(found),
         .text = std::move(text),
         .path = claim.id});
  }

  // What the guest finds in its own /dev: nodes of what it holds, with its uid and for nobody else.
  void nodes() {
    if (!state_.uid)
      return;
    auto dev = kernel::open_guest_dev(state_.process.pid);
    auto found = dev ? kernel::list_nodes(dev->get()) : fail(dev.error());
    if (!found)
      return cannot_tell("the guest's /dev", found.error());
    collect_explanations();
    for (const kernel::DevNode& node : *found) {
      std::string owner = fmt::format("uid {} mode {:o}", node.uid, node.mode);
      std::string ours = fmt::format("uid {} mode {:o}", *state_.uid, kernel::DevNode{}.mode);
      if (!is_held(node.rdev))
        node_differs(node.path, node.rdev, "", "there");
      else if (owner != ours)
        node_differs(node.path, node.rdev, std::move(ours), std::move(owner));
    }
    for (const Hold& hold : subject_.holds) {
      const model::Claim& claim = hold.claim;
      if (claim.record.kind == Kind::CgroupPath && claim.rdev &&
          std::ranges::find(*found, *claim.rdev, &kernel::DevNode::rdev) == found->end())
        node_differs(claim.id, *claim.rdev, "there", "");
    }
  }

  bool is_held(const DeviceNumber& rdev) const {
    return std::ranges::any_of(rules_, [&](const AclRule& rule) {
      return rule.type == rdev.type && rule.major == rdev.major && rule.minor == rdev.minor;
    });
  }

  void node_differs(const std::string& path, const DeviceNumber& rdev, std::string expected,
                    std::string found) {
    std::string text = fmt::format(
        "{} ({}) in the guest's /dev: {}, the tenures say {}", printable(path), to_string(rdev),
        found.empty() ? "missing" : found, expected.empty() ? "nothing of it" : expected);
    add({.kind = LiveKind::Node,
         .resource = fmt::format("{} {}", to_string(rdev), path),
         .expected = std::move(expected),
         .found = std::move(found),
         .text = std::move(text),
         .rule = AclRule{.type = rdev.type, .major = rdev.major, .minor = rdev.minor, .access = {}},
         .path = path});
  }

  const LiveSubject& subject_;
  const RunState& state_;
  LiveReport report_;
  bool ending_ = false;
  bool collected_ = false;
  std::vector<AclRule> rules_;           // what may be open, besides network devices
  std::map<DeviceNumber, size_t> nets_;  // tenures of network devices without their fd so far
  OwnLinks links_;
};

}  // namespace

std::string_view to_string(LiveKind kind) {
  static constexpr std::array<std::string_view, 10> kNames{
      "fence", "program", "rule", "member", "identity", "fd", "acl", "node", "driver", "port"};
  return kNames[static_cast<size_t>(kind)];
}

std::vector<AclRule> wanted_rules(const std::vector<Hold>& holds) {
  std::vector<AclRule> wanted;
  for (const Hold& hold : holds) {
    auto rule = rule_of(hold.claim);
    if (!rule)
      continue;
    auto same =
        std::ranges::find_if(wanted, [&](const AclRule& w) { return same_device(w, *rule); });
    if (same == wanted.end())
      wanted.push_back(*rule);
    else
      same->access = same->access | rule->access;
  }
  std::ranges::sort(wanted);
  return wanted;
}

LiveReport live_check(const LiveSubject& subject) {
  return Check(subject).run();
}

}  // namespace tenure::guest
