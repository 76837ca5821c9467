// SPDX-License-Identifier: Apache-2.0
#include "guest/run_state.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/text.h"
#include "base/uuid.h"

namespace tenure::guest {
namespace {

using nlohmann::json;
constexpr size_t kMaxState = 8U << 20U;  // bytes; the definition in it is at most 4 MiB

std::string state_path(const Paths& paths, const std::string& uuid) {
  return run_dir(paths, uuid) + "/state.json";
}

json to_json(const RunState& s) {
  return {{"virt", s.ref.virt},
          {"vm", s.ref.vm},
          {"uuid", s.ref.uuid},
          {"run", s.ref.run},
          {"fence", s.fence},
          {"slot", s.slot},
          {"cgroup_v2", s.cgroup_v2},
          {"cgroup_v1", s.cgroup_v1},
          {"uid", s.uid ? json(*s.uid) : json()},
          {"pid", s.process.pid},
          {"start_ticks", s.process.start_ticks},
          {"xml", s.xml},
          {"started", s.started},
          {"boot_id", s.boot_id}};
}

RunState from_json(const json& j) {
  RunState s;
  s.ref = {j.at("virt"), j.at("vm"), j.at("uuid"), j.at("run")};
  s.fence = j.at("fence");
  s.slot = j.at("slot");
  s.cgroup_v2 = j.at("cgroup_v2");
  s.cgroup_v1 = j.at("cgroup_v1");
  if (!j.at("uid").is_null())
    s.uid = j.at("uid").get<uint32_t>();
  s.process = {j.at("pid"), j.at("start_ticks")};
  s.xml = j.at("xml");
  s.started = j.at("started");
  s.boot_id = j.at("boot_id");
  return s;
}

}  // namespace

std::string run_dir(const Paths& paths, const std::string& uuid) {
  return paths.runtime + "/runs/" + uuid;
}

std::string monitor_path(const Paths& paths, const std::string& uuid) {
  return run_dir(paths, uuid) + "/monitor.sock";
}

std::string guest_log_path(const Paths& paths, const std::string& uuid) {
  return paths.logs + "/" + uuid + ".log";
}

Result<> save_run(const Paths& paths, const RunState& state) {
  TRY_OK(make_dirs(run_dir(paths, state.ref.uuid), 0711));
  std::string text = to_json(state).dump(1, ' ', false, json::error_handler_t::replace);
  return write_file_atomic(state_path(paths, state.ref.uuid), text);
}

Result<RunState> load_run(const std::string& path) {
  TRY(std::string text, read_file(path, kMaxState));
  try {
    RunState state = from_json(json::parse(text));
    // It names the folder that will be removed.
    auto uuid = parse_uuid(state.ref.uuid);
    if (!uuid || to_string(*uuid) != state.ref.uuid)
      return fail(Errc::Corrupt,
                  fmt::format("{}: '{}' is no uuid", path, printable(state.ref.uuid)));
    return state;
  } catch (const json::exception& error) {
    return fail(Errc::Corrupt, fmt::format("{}: {}", path, error.what()));
  }
}

Result<std::vector<Result<RunState>>> load_runs(const Paths& paths) {
  std::vector<Result<RunState>> runs;
  std::error_code error;
  std::filesystem::directory_iterator folder(paths.runtime + "/runs", error);
  if (error == std::errc::no_such_file_or_directory)
    return runs;
  if (error)
    return fail_sys("read folder", paths.runtime + "/runs", error.value());
  for (const auto& entry : folder) {
    std::string path = entry.path().string() + "/state.json";
    if (std::filesystem::exists(path, error))
      runs.push_back(load_run(path));
  }
  return runs;
}

Result<> forget_run(const Paths& paths, const std::string& uuid) {
  std::error_code error;
  std::filesystem::remove_all(run_dir(paths, uuid), error);
  if (error)
    return fail_sys("remove", run_dir(paths, uuid), error.value());
  return {};
}

}  // namespace tenure::guest
