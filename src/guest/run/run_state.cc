// SPDX-License-Identifier: Apache-2.0
#include "guest/run/run_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/text.h"
#include "base/uuid.h"
#include "domain/change.h"
#include "domain/text.h"

namespace tenure::guest {
namespace {

using nlohmann::json;
constexpr size_t kMaxState = 8U << 20U;  // bytes; the definition in it is at most 4 MiB

std::string state_path(const Paths& paths, const std::string& uuid) {
  return run_dir(paths, uuid) + "/state.json";
}

void put_requester(json& j, const Requester& who) {
  j.update({{"auid", who.auid},
            {"ses", who.ses},
            {"uid", who.uid},
            {"pid", who.pid},
            {"exe", who.exe},
            {"tty", who.tty}});
}

Requester requester_in(const json& j) {
  return {.auid = j.at("auid"),
          .ses = j.at("ses"),
          .uid = j.at("uid"),
          .pid = j.at("pid"),
          .exe = j.at("exe"),
          .tty = j.at("tty")};
}

json to_json(const std::map<std::string, BlockJob>& jobs) {
  json list = json::array();
  for (const auto& [alias, job] : jobs) {
    list.push_back({{"disk", alias},
                    {"op", job.op},
                    {"writes", job.writes},
                    {"format", job.format},
                    {"then", job.then},
                    {"told", job.told},
                    {"outcome", job.outcome},
                    {"why", job.why}});
    put_requester(list.back(), job.who);
  }
  return list;
}

std::map<std::string, BlockJob> jobs_from_json(const json& list) {
  std::map<std::string, BlockJob> jobs;
  for (const json& j : list)
    jobs[j.at("disk")] = {.op = j.at("op"),
                          .writes = j.at("writes"),
                          .format = j.at("format"),
                          .then = j.at("then"),
                          .told = j.at("told"),
                          .outcome = j.at("outcome"),
                          .why = j.at("why"),
                          .who = requester_in(j)};
  return jobs;
}

json to_json(const std::map<std::string, Leaving>& leaving) {
  json list = json::array();
  for (const auto& [alias, one] : leaving) {
    list.push_back({{"device", alias}, {"txn", one.txn.id}, {"heard", one.heard}});
    put_requester(list.back(), one.txn.who);
  }
  return list;
}

std::map<std::string, Leaving> leaving_from_json(const json& list) {
  std::map<std::string, Leaving> leaving;
  for (const json& j : list)
    leaving[j.at("device")] = {.txn = {.id = j.at("txn"), .who = requester_in(j)},
                               .heard = j.value("heard", true)};
  return leaving;
}

json to_json(const std::map<std::string, HelperState>& helpers) {
  json list = json::array();
  for (const auto& [alias, helper] : helpers)
    list.push_back({{"device", alias},
                    {"kind", helper.kind},
                    {"pid", helper.process.pid},
                    {"start_ticks", helper.process.start_ticks},
                    {"dev", helper.dev},
                    {"ino", helper.ino}});
  return list;
}

std::map<std::string, HelperState> helpers_from_json(const json& list) {
  std::map<std::string, HelperState> helpers;
  for (const json& j : list)
    helpers[j.at("device")] = {.kind = j.at("kind"),
                               .process = {j.at("pid"), j.at("start_ticks")},
                               .dev = j.at("dev"),
                               .ino = j.at("ino")};
  return helpers;
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
          {"attached", s.attached},
          {"detached", s.detached},
          {"suspended", s.suspended},
          {"jobs", to_json(s.jobs)},
          {"helpers", to_json(s.helpers)},
          {"leaving", to_json(s.leaving)},
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
  s.attached = j.at("attached").get<decltype(s.attached)>();
  s.detached = j.at("detached").get<std::set<std::string>>();
  s.suspended = j.value("suspended", false);
  s.jobs = jobs_from_json(j.value("jobs", json::array()));
  s.helpers = helpers_from_json(j.value("helpers", json::array()));
  s.leaving = leaving_from_json(j.value("leaving", json::array()));
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
  return write_file_atomic(state_path(paths, state.ref.uuid), run_text(state));
}

std::string run_text(const RunState& state) {
  return to_json(state).dump(1, ' ', false, json::error_handler_t::replace);
}

Result<RunState> load_run(const std::string& path) {
  TRY(std::string text, read_file(path, kMaxState));
  return parse_run(text, path);
}

Result<RunState> parse_run(const std::string& text, const std::string& path) {
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

// What is there is none, and will be none when it is read again.
static bool is_no_state(const Error& error) {
  const int err = error.sys_errno();
  return err == 0 || err == ENOTDIR || err == EISDIR || err == ELOOP;
}

Result<std::vector<Result<RunState>>> load_runs(const Paths& paths) {
  std::vector<Result<RunState>> runs;
  std::error_code error;
  std::filesystem::directory_iterator folder(paths.runtime + "/runs", error);
  if (error == std::errc::no_such_file_or_directory)
    return runs;
  if (error)
    return fail_sys("read folder", paths.runtime + "/runs", error.value());
  for (; folder != std::filesystem::directory_iterator(); folder.increment(error)) {
    Result<RunState> run = load_run(folder->path().string() + "/state.json");
    if (!run && run.error().code() == Errc::NotFound)
      continue;
    // That it cannot be read just now does not mean that it says nothing.
    if (!run && !is_no_state(run.error()))
      return fail(std::move(run).error());
    runs.push_back(std::move(run));
  }
  if (error)
    return fail_sys("read folder", paths.runtime + "/runs", error.value());
  return runs;
}

std::vector<std::string> stateless_runs(const Paths& paths) {
  std::vector<std::string> found;
  std::error_code error;
  std::filesystem::directory_iterator folder(paths.runtime + "/runs", error);
  for (; !error && folder != std::filesystem::directory_iterator(); folder.increment(error)) {
    std::error_code unknown;
    if (!std::filesystem::exists(folder->path() / "state.json", unknown) && !unknown)
      found.push_back(folder->path().filename().string());
  }
  return found;
}

Result<> forget_run(const Paths& paths, const std::string& uuid) {
  std::error_code error;
  std::filesystem::remove_all(run_dir(paths, uuid), error);
  if (error)
    return fail_sys("remove", run_dir(paths, uuid), error.value());
  return {};
}

Result<domain::Domain> live_domain(const RunState& state) {
  TRY(domain::Domain domain, domain::parse_complete(state.xml, "the run's own definition"));
  for (const std::string& alias : state.detached) TRY_OK(domain::remove_device(domain, alias));
  for (const auto& [alias, xml] : state.attached) {
    TRY(domain::Addition addition, domain::add_device(domain, xml, "device " + alias));
    domain = std::move(addition.domain);
  }
  return domain;
}

void note_attached(RunState& state, const std::string& alias, const std::string& xml) {
  state.attached.emplace_back(alias, xml);
}

void note_detached(RunState& state, const std::string& alias) {
  if (std::erase_if(state.attached, [&](const auto& one) { return one.first == alias; }) == 0)
    state.detached.insert(alias);
}

void note_changed(RunState& state, const std::string& alias, const std::string& xml) {
  auto known = std::ranges::find(state.attached, alias, [](const auto& one) { return one.first; });
  if (known != state.attached.end()) {
    known->second = xml;
    return;
  }
  state.detached.insert(alias);
  state.attached.emplace_back(alias, xml);
}

Result<std::string> element_of(const RunState& state, const std::string& alias) {
  for (const auto& [name, xml] : state.attached)
    if (name == alias)
      return xml;
  return domain::device_text(state.xml, alias);
}

Result<std::string> live_text(const RunState& state) {
  return domain::definition_text(state.xml, state.detached, state.attached);
}

trail::Record control_record(std::string_view op, std::string_view reason, const RunState& state,
                             bool kvm) {
  trail::Record record(trail::Kind::Control);
  record.set("op", op).set("reason", reason);
  record.set("vm-pid", static_cast<uint64_t>(state.process.pid));
  if (!state.fence.empty())  // lost with the runtime folder
    record.set("fence", state.fence);
  record.set("accel", kvm ? "kvm" : "tcg");
  const std::string& cgroup = state.cgroup_v2.empty() ? state.cgroup_v1 : state.cgroup_v2;
  if (!cgroup.empty())
    record.set("cgroup", cgroup);
  if (state.uid)
    record.set("uid", uint64_t{*state.uid});
  return record;
}

}  // namespace tenure::guest
