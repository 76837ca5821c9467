// SPDX-License-Identifier: Apache-2.0
#include "daemon/drift_sight.h"

namespace tenure::daemon {
namespace {

using guest::Difference;
using guest::Guest;
using guest::LiveKind;
using guest::LiveParts;
using kernel::Culprit;
using kernel::Sighting;

bool is_group(const Guest& guest, uint64_t inode) {
  for (const kernel::Cgroup* group : {guest.seams().cgroup_v2(), guest.seams().cgroup_v1()})
    if (group != nullptr && group->inode() == inode)
      return true;
  return false;
}

// Its QEMU or a helper.
bool is_process(const Guest& guest, pid_t pid) {
  for (const auto& [alias, helper] : guest.seams().helpers())
    if (helper.state.process.pid == pid)
      return true;
  return pid == guest.state().process.pid;
}

// A denial in a parent's devices.deny reaches the guest's list as well. A move is written to the
// file of where it goes, so without the tracepoint any such write may concern any guest.
LiveParts concerned_by_write(const Sighting& seen, const Guest& guest, const Told& told) {
  LiveParts parts = kNothing;
  std::string folder = seen.path.substr(0, seen.path.rfind('/'));
  bool of_devices = seen.path.find("/devices.", folder.size()) != seen.path.npos;
  const guest::RunState& state = guest.state();
  auto at_or_above = [&](const std::string& path) {
    return path == folder || (path.starts_with(folder) && path[folder.size()] == '/');
  };
  if (of_devices)
    parts.fence = !state.cgroup_v1.empty() && at_or_above(state.cgroup_v1);
  else
    parts.members = !told.moves || folder == state.cgroup_v1 || folder == state.cgroup_v2;
  return parts;
}

}  // namespace

LiveParts concerned(const Sighting& seen, const Guest& guest, const Told& told) {
  using enum Sighting::What;
  LiveParts parts = kNothing;
  bool v2 = guest.state().fence == "v2";
  const auto* group = guest.seams().cgroup_v2();
  switch (seen.what) {
    case Write:
      return concerned_by_write(seen, guest, told);
    case Map:
      parts.fence = v2 && told.map;
      return parts;
    case Attach:
      parts.fence = v2 && (seen.object == 0 || (group != nullptr && seen.object == group->inode()));
      return parts;
    case Move:
      parts.members =
          told.stranger || is_process(guest, seen.moved) || is_group(guest, seen.object);
      return parts;
    case File:
      parts.acls = told.file;
      return parts;
    case Missed:
      break;
  }
  return {};
}

Culprit culprit(const Difference& difference, const Guest& guest,
                const std::vector<Sighting>& sightings) {
  bool v2 = guest.state().fence == "v2";
  auto fits = [&](const Sighting& seen) {
    using enum Sighting::What;
    bool of_devices = seen.path.find("/devices.") != seen.path.npos;
    switch (difference.kind) {
      case LiveKind::Rule:
        return v2 ? seen.what == Map : seen.what == Write && of_devices;
      case LiveKind::Fence:
        return v2 ? seen.what == Map || seen.what == Attach : seen.what == Write && of_devices;
      case LiveKind::Program:
        return seen.what == Attach && seen.object != 0;
      case LiveKind::Member:
        return (seen.what == Move && seen.moved == difference.pid) ||
               (seen.what == Write && !of_devices && seen.path.starts_with(difference.path + "/"));
      case LiveKind::Identity:
      case LiveKind::Descriptor:
      case LiveKind::FileAcl:
      case LiveKind::Node:
      case LiveKind::Driver:
      case LiveKind::Port:
        break;
    }
    return false;
  };
  Culprit who;
  for (const Sighting& seen : sightings) {
    if (seen.what == Sighting::What::Missed)
      return {};
    if (!fits(seen))
      continue;
    if (who.pid != 0 && who.pid != seen.who.pid)
      return {};
    if (who.exe.empty())
      who = seen.who;
  }
  if (who.exe.empty())
    kernel::complete(who);
  return who;
}

}  // namespace tenure::daemon
