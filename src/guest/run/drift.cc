// SPDX-License-Identifier: Apache-2.0
#include "guest/run/drift.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/file.h"
#include "base/text.h"
#include "kernel/file_acl.h"
#include "kernel/net_device.h"
#include "kernel/node.h"

namespace tenure::guest {
namespace {

using registrar::Hold;
using trail::Kind;

struct PolicyName {
  std::string_view name;
  OnDrift policy;
};
constexpr std::array kPolicies{
    PolicyName{"report", OnDrift::Report}, PolicyName{"repair", OnDrift::Repair},
    PolicyName{"pause", OnDrift::Pause}, PolicyName{"stop", OnDrift::Stop}};

bool looked_at(LiveKind kind, const LiveParts& parts) {
  switch (kind) {
    case LiveKind::Fence:
    case LiveKind::Program:
    case LiveKind::Rule:
      return parts.fence;
    case LiveKind::Member:
      return parts.members;
    case LiveKind::Identity:
      return parts.identity;
    case LiveKind::Descriptor:
    case LiveKind::Driver:
    case LiveKind::Port:
      return parts.descriptors;
    case LiveKind::FileAcl:
      return parts.acls;
    case LiveKind::Node:
      return parts.nodes;
  }
  return true;
}

bool contains(const std::vector<Difference>& list, const Difference& difference) {
  return std::ranges::any_of(list, [&](const Difference& d) { return d.same_as(difference); });
}

std::string or_unknown(const std::string& text) {
  return text.empty() ? "?" : text;
}

void set_device(trail::Record& record, const Difference& difference) {
  const kernel::AclRule& rule = *difference.rule;
  DeviceNumber dev{rule.type, rule.major, rule.minor.value_or(0)};
  std::string rdev = rdev_hex(dev);
  if (!rule.minor)
    rdev = rdev.substr(0, rdev.find(':')) + ":*";
  record.set("rdev", rdev).set("devtype", rule.type == DeviceType::Block ? "b" : "c");
  auto path = rule.minor ? kernel::device_path(dev) : Result<std::string>(fail(Errc::NotFound, ""));
  if (path && difference.path.empty())
    record.set("path", *path);
  if (difference.kind == LiveKind::Rule)
    record.set("old-acl", or_unknown(difference.expected))
        .set("new-acl", or_unknown(difference.found));
}

void set_culprit(trail::Record& record, const kernel::Culprit& who) {
  if (who.pid <= 0)
    return;
  record.set("by-pid", static_cast<uint64_t>(who.pid));
  if (!who.comm.empty())
    record.set("by-comm", who.comm);
  if (who.uid)
    record.set("by-uid", uint64_t{*who.uid});
  if (who.auid)
    record.set("by-auid", uint64_t{*who.auid});
  if (!who.exe.empty())
    record.set("by-exe", who.exe);
}

Result<> repair_rules(RunSeams& seams, const std::vector<Hold>& holds) {
  TRY_OK(seams.fence()->restore());
  for (const kernel::AclRule& rule : wanted_rules(holds)) TRY_OK(seams.fence()->set(rule));
  return {};
}

// To exactly what the tenures say: a rule that none wants goes.
Result<> repair_rule(RunSeams& seams, const Difference& difference,
                     const std::vector<Hold>& holds) {
  kernel::AclRule rule = *difference.rule;
  rule.access = {};
  for (const kernel::AclRule& wanted : wanted_rules(holds))
    if (wanted.type == rule.type && wanted.major == rule.major && wanted.minor == rule.minor)
      rule.access = wanted.access;
  TRY_OK(seams.fence()->set(rule));
  return {};
}

Result<> repair_member(RunSeams& seams, const Difference& difference, const RunState& state) {
  auto is_ours = [&](const auto& one) { return one.second.state.process.pid == difference.pid; };
  if (difference.pid != state.process.pid && std::ranges::none_of(seams.helpers(), is_ours))
    return fail(Errc::Unsupported,
                fmt::format("process {} is not ours to move: outside of the fence it would have "
                            "more than it has now",
                            difference.pid));
  for (const kernel::Cgroup* group : {seams.cgroup_v2(), seams.cgroup_v1()})
    if (group != nullptr && group->path() == difference.path)
      return group->add(difference.pid);
  return fail(Errc::NotFound, difference.path + ": no such cgroup of this guest");
}

// The entry of a uid that is none of ours: "user:1000:rw".
std::optional<uint32_t> foreign_user(const Difference& difference) {
  auto words = split(difference.found, ':');
  if (!difference.expected.empty() || words.size() != 3 || words[0] != "user")
    return std::nullopt;
  return parse_int<uint32_t>(words[1]);
}

Result<> repair_acl(RunSeams& seams, const Difference& difference, const std::vector<Hold>& holds) {
  auto hold = std::ranges::find_if(holds, [&](const Hold& h) {
    return h.claim.record.kind == Kind::FileAcl && h.claim.id == difference.path;
  });
  if (hold == holds.end())
    return fail(Errc::NotFound, difference.path + ": no tenure of it");
  TRY(UniqueFd fd, seams.open_held(hold->claim));
  if (difference.resource != difference.path) {
    auto uid = foreign_user(difference);
    if (!uid)
      return fail(Errc::Unsupported, fmt::format("{}: owner, mode and group entries are left to "
                                                 "the administrator",
                                                 difference.path));
    TRY_OK(kernel::remove_file_acl(fd.get(), *uid));
    return {};
  }
  auto uid = parse_int<uint32_t>(hold->claim.record.get("acl-uid").value_or(""));
  std::string_view wanted = hold->claim.record.get("acl").value_or("");
  if (!uid)
    return fail(Errc::Corrupt, difference.path + ": acl-uid is missing in the grant");
  if (wanted == "x") {
    TRY_OK(kernel::set_search_acl(fd.get(), *uid));
    return {};
  }
  // What all devices together have of the file.
  Access access;
  for (const Hold& other : holds)
    if (other.claim.record.kind == Kind::FileAcl && other.claim.id == difference.path)
      access = access | other.claim.access;
  TRY_OK(kernel::set_file_acl(fd.get(), *uid, access));
  return {};
}

// As the plan would make it: one that is not held goes.
Result<> repair_node(RunSeams& seams, const Difference& difference, const RunState& state,
                     const std::vector<Hold>& holds) {
  const kernel::AclRule& rule = *difference.rule;
  const kernel::DevNode node{.path = difference.path,
                             .rdev = {rule.type, rule.major, rule.minor.value_or(0)},
                             .uid = state.uid.value_or(0),
                             .gid = state.uid.value_or(0)};
  return difference.expected.empty() ? seams.drop_nodes({node}, holds) : seams.add_nodes({node});
}

Result<> repair_port(const Difference& difference, const std::vector<Hold>& holds) {
  auto opened = std::ranges::find_if(holds, [&](const Hold& hold) {
    return hold.claim.record.kind == Kind::NetOpen &&
           hold.claim.record.get("ifname") == difference.resource;
  });
  if (opened == holds.end())
    return fail(Errc::NotFound, difference.resource + ": no tenure of it");
  TRY_OK(kernel::move_to_bridge(link_of(opened->claim), difference.expected));
  return {};
}

}  // namespace

std::string_view to_string(OnDrift policy) {
  return std::ranges::find(kPolicies, policy, &PolicyName::policy)->name;
}

Result<OnDrift> parse_on_drift(std::string_view text) {
  auto row = std::ranges::find(kPolicies, text, &PolicyName::name);
  if (row == kPolicies.end())
    return fail(Errc::Invalid, "one of report, repair, pause, stop expected");
  return row->policy;
}

DriftBook::News DriftBook::update(const std::vector<Difference>& now, const LiveParts& parts,
                                  bool complete) {
  News news;
  for (const Difference& difference : known_)
    if (complete && looked_at(difference.kind, parts) && !contains(now, difference))
      news.over.push_back(difference);
  for (const Difference& difference : news.over) forget(difference);
  for (const Difference& difference : now)
    if (!contains(known_, difference)) {
      news.begun.push_back(difference);
      known_.push_back(difference);
    }
  return news;
}

void DriftBook::forget(const Difference& difference) {
  std::erase_if(known_, [&](const Difference& d) { return d.same_as(difference); });
}

std::vector<Difference> AclBaseline::compare(const std::vector<Hold>& holds,
                                             const RunSeams& seams) {
  std::vector<Difference> differences;
  std::map<std::string, std::vector<std::string>> held;
  for (const Hold& hold : holds) {
    if (hold.claim.record.kind != Kind::FileAcl)
      continue;
    const std::string& path = hold.claim.id;
    auto fd = seams.open_held(hold.claim);
    auto now = fd ? kernel::file_acl_words(fd->get(), ours_) : Result<std::vector<std::string>>{};
    auto before = files_.find(path);
    if (!fd || !now) {
      if (before != files_.end())
        held.insert(*before);
      continue;
    }
    if (before == files_.end()) {
      held.emplace(path, std::move(*now));
      continue;
    }
    auto differ = [&](const std::string& word, bool added) {
      differences.push_back(
          {.kind = LiveKind::FileAcl,
           .resource = path + " " + word,
           .expected = added ? "" : word,
           .found = added ? word : "",
           .text = fmt::format("{}: {} {}", printable(path), word, added ? "was added" : "is gone"),
           .path = path});
    };
    for (const std::string& word : *now)
      if (std::ranges::find(before->second, word) == before->second.end())
        differ(word, true);
    for (const std::string& word : before->second)
      if (std::ranges::find(*now, word) == now->end())
        differ(word, false);
    held.insert(*before);
  }
  files_ = std::move(held);
  return differences;
}

trail::Record drift_record(const Difference& difference, std::string_view phase,
                           const kernel::Culprit& who, const std::string& cgroup) {
  trail::Record record(Kind::Drift);
  record.set("cgroup", or_unknown(cgroup)).set("phase", phase);
  record.set("what", to_string(difference.kind)).set("resource", difference.resource);
  record.set("expected", or_unknown(difference.expected))
      .set("found", or_unknown(difference.found));
  if (difference.rule)
    set_device(record, difference);
  if (!difference.path.empty())
    record.set("path", difference.path);
  set_culprit(record, who);
  return record;
}

Result<> repair(const Difference& difference, RunSeams& seams, const RunState& state,
                const std::vector<Hold>& holds) {
  bool fenced = seams.fence() != nullptr;
  switch (difference.kind) {
    case LiveKind::Fence:
      return fenced ? repair_rules(seams, holds) : fail(Errc::NotFound, "it has no fence");
    case LiveKind::Program:
      return fenced ? seams.fence()->remove_program(difference.program_id)
                    : fail(Errc::NotFound, "it has no fence");
    case LiveKind::Rule:
      return fenced ? repair_rule(seams, difference, holds)
                    : fail(Errc::NotFound, "it has no fence");
    case LiveKind::Member:
      return repair_member(seams, difference, state);
    case LiveKind::FileAcl:
      return repair_acl(seams, difference, holds);
    case LiveKind::Node:
      return repair_node(seams, difference, state, holds);
    case LiveKind::Port:
      return repair_port(difference, holds);
    case LiveKind::Identity:
    case LiveKind::Descriptor:
      break;
    case LiveKind::Driver:
      return fail(Errc::Unsupported, "whoever changed a driver has the device: pause or stop it");
  }
  return fail(Errc::Unsupported, "nobody can take that from a running QEMU: pause or stop it");
}

}  // namespace tenure::guest
