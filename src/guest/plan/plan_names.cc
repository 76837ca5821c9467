// SPDX-License-Identifier: Apache-2.0
// The names by which a plan calls what it makes, and by which its claims are found again.
#include <fmt/format.h>

#include "guest/plan/plan.h"

namespace tenure::guest {

std::string macvtap_name(const domain::Domain& domain, const domain::Interface& nic) {
  if (!nic.target.empty())
    return nic.target;
  // FNV-1a: the same in every build, unlike std::hash. 15 characters are the limit (IFNAMSIZ).
  uint32_t hash = 2166136261U;
  auto mix = [&](uint8_t byte) { hash = (hash ^ byte) * 16777619U; };
  for (uint8_t byte : domain.uuid.bytes) mix(byte);
  for (char c : nic.info.alias) mix(static_cast<uint8_t>(c));
  return fmt::format("tnm{:08x}", hash);
}

std::string socket_path(const domain::Chardev& chardev, const HostOptions& options) {
  if (!chardev.path.empty())
    return chardev.path;
  return options.runtime_dir + "/" + (chardev.name.empty() ? chardev.info.alias : chardev.name);
}

std::set<std::string> holder_names(const domain::Domain& devices) {
  std::set<std::string> names;
  for (const domain::Disk& disk : devices.disks) {
    names.insert(disk.info.alias);
    names.insert("disk:" + disk.target);
  }
  for (const domain::Interface& nic : devices.interfaces) names.insert(nic.info.alias);
  auto add = [&](std::string_view prefix, const auto& list) {
    for (const auto& device : list) {
      names.insert(device.info.alias);
      names.insert(std::string(prefix) + device.info.alias);
    }
  };
  add("chardev:", devices.chardevs);
  add("rng:", devices.rngs);
  add("input:", devices.inputs);
  add("sound:", devices.sounds);
  add("hostdev:", devices.hostdevs);
  add("shmem:", devices.shmems);
  add("fs:", devices.filesystems);
  return names;
}

}  // namespace tenure::guest
