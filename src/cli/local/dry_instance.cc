// SPDX-License-Identifier: Apache-2.0
#include "cli/local/dry_instance.h"

#include <fmt/format.h>
#include <unistd.h>

#include <map>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/text.h"
#include "cli/answer.h"
#include "daemon/config.h"
#include "domain/guest_word.h"
#include "guest/change/save.h"
#include "guest/run/run_state.h"

namespace tenure::cli {
namespace {

using kernel::CgroupVersion;

constexpr uint32_t kExampleUid = 720'000;  // where tenured has no range: the first of the default
constexpr size_t kMaxGuests = 1'000'000;
constexpr size_t kMaxUids = 16U << 20U;  // bytes

Result<DryDefinition> defined_guest(const std::string& guest, const Paths& paths) {
  const std::string folder = paths.state + "/guests";
  auto names = folder_names(folder, kMaxGuests);
  if (!names && names.error().code() != Errc::NotFound)
    return fail(std::move(names).error());
  std::map<std::string, std::string> known;  // name by uuid
  std::map<std::string, DryDefinition> definitions;
  for (const std::string& name : names ? *names : std::vector<std::string>{}) {
    if (!name.ends_with(".xml"))
      continue;
    const std::string path = folder + "/" + name;
    TRY(std::string xml, read_file(path, domain::kMaxXml));
    auto domain = domain::parse(xml, path);
    if (!domain)
      continue;  // tenured leaves it out as well
    const std::string uuid = to_string(domain->uuid);
    known[uuid] = domain->name;
    definitions[uuid] = {std::move(xml), path};
  }
  TRY(const std::string uuid, domain::uuid_of_word(known, guest));
  return definitions[uuid];
}

// The uid that the guest has got; 0 if it has none yet, or that cannot be read.
uint32_t known_uid(const Paths& paths, const std::string& uuid) {
  auto text = read_file(paths.state + "/uids.json", kMaxUids);
  const auto uids = nlohmann::json::parse(text ? *text : "", nullptr, false);
  if (!uids.is_object() || !uids.contains(uuid) || !uids.at(uuid).is_number_unsigned())
    return 0;
  return uids.at(uuid).get<uint32_t>();
}

uint32_t uid_of(const Paths& paths, const guest::Settings& settings, const std::string& uuid,
                std::vector<std::string>& notes) {
  if (const uint32_t uid = known_uid(paths, uuid); uid != 0)
    return uid;
  const uint32_t first = settings.uid_first.value_or(kExampleUid);
  notes.push_back(
      settings.uid_first
          ? fmt::format("uid {} stands for the one that tenured gives it at its first start", first)
          : fmt::format("uid {} is an example: shown as root's tenured would start it; one that "
                        "cannot give a guest a uid of its own makes no ACL entries",
                        first));
  return first;
}

// Whether a fence can be loaded is tried by tenured, and by nobody else.
CgroupVersion fence_of(const Options& options, const daemon::Config& config,
                       const kernel::CgroupMounts& mounts, std::vector<std::string>& notes) {
  const auto name = [](CgroupVersion version) {
    return version == CgroupVersion::V1 ? "v1" : "v2";
  };
  std::optional<CgroupVersion> wanted = config.fence;
  if (options.fence == "v1" || options.fence == "v2")
    wanted = options.fence == "v1" ? CgroupVersion::V1 : CgroupVersion::V2;
  if (wanted && config.fence && *wanted != *config.fence)
    notes.push_back(fmt::format("tenure.conf has fence = \"{}\", so that tenured has no fence {}",
                                name(*config.fence), name(*wanted)));
  if (wanted)
    return *wanted;
  const bool only_v1 = mounts.v2.empty() && !mounts.v1_devices.empty();
  const CgroupVersion likely = only_v1 ? CgroupVersion::V1 : CgroupVersion::V2;
  notes.push_back(fmt::format("shown with fence {}; which one works here is found out by tenured",
                              name(likely)));
  return likely;
}

void set_cgroup(guest::HostOptions& options, const kernel::CgroupMounts& mounts,
                const std::string& parent, const std::string& uuid,
                std::vector<std::string>& notes) {
  const bool v1 = options.fence == CgroupVersion::V1;
  std::string mount = v1 ? mounts.v1_devices : mounts.v2;
  if (mount.empty()) {
    mount = v1 ? "/sys/fs/cgroup/devices" : "/sys/fs/cgroup";
    notes.push_back(fmt::format("no {} hierarchy is mounted here; shown as if it were at {}",
                                v1 ? "devices" : "cgroup2", mount));
  }
  (v1 ? options.cgroup_v1 : options.cgroup_v2) =
      mount + (parent.empty() ? "" : "/" + parent) + "/tenure-" + uuid;
}

}  // namespace

Result<DryDefinition> dry_definition(const Options& options, const Paths& paths) {
  if (!names_file(options.guest))
    return defined_guest(options.guest, paths);
  TRY(std::string xml, read_definition(options.guest));
  return DryDefinition{std::move(xml), options.guest};
}

Result<guest::HostOptions> dry_host_options(const Options& options, const Paths& paths,
                                            domain::Domain& domain,
                                            std::vector<std::string>& notes) {
  TRY(const daemon::Config config, daemon::load_config(paths));
  const std::string uuid = to_string(domain.uuid);
  const std::string saved = guest::managed_save_path(paths, uuid);
  if (!options.discard_saved && access(saved.c_str(), F_OK) == 0)
    notes.push_back(
        fmt::format("its state is saved in {}: by its name it would go on from there, "
                    "with the devices that it had then",
                    saved));
  if (!config.guest.emulator.empty())
    domain.emulator = config.guest.emulator;
  const kernel::CgroupMounts mounts = kernel::find_cgroup_mounts().value_or(kernel::CgroupMounts{});
  guest::HostOptions host;
  host.base_devices = config.guest.base_devices;
  host.runtime_dir = guest::run_dir(paths, uuid) + "/sockets";
  host.uid = uid_of(paths, config.guest, uuid, notes);
  host.fence = fence_of(options, config, mounts, notes);
  set_cgroup(host, mounts, config.guest.cgroup_parent, uuid, notes);
  return host;
}

}  // namespace tenure::cli
