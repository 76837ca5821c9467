// SPDX-License-Identifier: Apache-2.0
// The commands of a guest's life: each is one call to the daemon and a way to print its answer.
#include <fmt/format.h>

#include <unistd.h>
#include <map>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/paths.h"
#include "base/text.h"
#include "cli/answer.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/device_words.h"
#include "cli/exit_code.h"
#include "cli/output.h"
#include "domain/domain.h"

namespace tenure::cli {
namespace {

using nlohmann::json;

void put_status(Out& out, const json& status) {
  auto text = [&](const char* key) {
    const json& value = status.at(key);
    return value.is_string() ? printable(value.get<std::string>())
           : value.is_null() ? "-"
                             : value.dump();
  };
  auto joined = [](const json& names) {
    std::string all;
    for (const json& name : names) all += (all.empty() ? "" : " ") + name.get<std::string>();
    return printable(all);
  };
  out.line(fmt::format("{} ({})", text("name"), text("uuid")));
  for (const char* key : {"state", "saved", "run", "pid", "uid", "fence", "denials", "log"})
    if (status.contains(key))
      out.line(fmt::format("  {:9} {}", key, text(key)));
  for (const json& path : status.at("cgroup_paths"))
    out.line(fmt::format("  {:9} {}", "cgroup", printable(path.get<std::string>())));
  for (const json& rule : status.at("acl"))
    out.line(fmt::format("  {:9} {}", "allowed", rule.get<std::string>()));
  if (status.contains("acl_error"))
    out.line(fmt::format("  {:9} {}", "acl", text("acl_error")));
  for (const json& helper : status.value("helpers", json::array()))
    out.line(printable(fmt::format("  {:9} {} ({}) of {}", "helper", helper.value("kind", ""),
                                   helper.value("pid", 0), helper.value("device", ""))));
  for (const json& tenure : status.at("tenures"))
    if (const json& why = tenure.at("still_held"); !why.is_null())
      out.line(
          printable(fmt::format("  {:9} grant {} of run {}: {}", "held", tenure["grant"].dump(),
                                tenure["run"].dump(), why.get<std::string>())));
  for (const json& difference : status.at("drift"))
    out.line(fmt::format("  {:9} {}", "drift", printable(difference.value("text", ""))));
  if (status.value("definition_differs", false))
    out.line(fmt::format("  {:9} {} (of the definition for the next run)", "differs",
                         joined(status.at("differences"))));
  const json& audit = status.at("audit");
  if (audit.at("ledger_only").get<bool>())
    out.line("  audit     off: the ledger alone is the trail");
  else
    out.line(printable(
        fmt::format("  audit     {}{}", audit.value("state", ""),
                    audit.value("cause", "").empty() ? "" : ": " + audit.value("cause", ""))));
  const json ledger = status.value("ledger", json::object());
  if (!ledger.value("publish_error", "").empty())
    out.line(printable(fmt::format("  ledger    {} entries not published: {}",
                                   ledger.value("unpublished", uint64_t{0}),
                                   ledger.value("publish_error", ""))));
  if (ledger.value("witness", false))
    out.line(printable(fmt::format(
        "  witness   {} entries not witnessed{}", ledger.value("unwitnessed", uint64_t{0}),
        ledger.value("witness_error", "").empty() ? ""
                                                  : ": " + ledger.value("witness_error", ""))));
  if (!audit.at("gap").is_null())
    out.line(fmt::format("  audit     {} records lost: {}", audit["gap"]["count"].dump(),
                         printable(audit["gap"]["cause"].get<std::string>())));
}

void put_tenures(Out& out, const json& tenures, const Options& options) {
  Table table({"GRANT", "KIND", "ID", "ACCESS", "RDEV", "FOR"},
              options.output() == OutputFormat::Csv, !options.no_legend);
  auto text = [](const json& value) {
    return value.is_null() ? std::string("-") : value.get<std::string>();
  };
  for (const json& t : tenures)
    table.row({t.at("grant").dump(), text(t.at("kind")), text(t.at("id")), text(t.at("access")),
               text(t.at("rdev")), text(t.at("for"))});
  table.print(out);
}

// -p KEY: the value alone, as `systemctl show -p KEY` does with --value.
int put_properties(Out& out, const Options& options, const json& status) {
  for (const std::string& key : options.properties) {
    auto value = status.find(key);
    if (value == status.end()) {
      complain(fmt::format("show: no property {}", printable(key)));
      return to_int(ExitCode::Usage);
    }
    out.line(fmt::format(
        "{}={}", key, value->is_string() ? printable(value->get<std::string>()) : value->dump()));
  }
  return 0;
}

json start_parameters(const Options& options, const json& what) {
  json parameters = what;
  if (!options.require_fence.empty())
    parameters["require_fence"] = options.require_fence == "yes";
  if (!options.fence.empty())
    parameters["fence"] = options.fence;
  if (options.discard_saved)
    parameters["discard_saved"] = true;
  return parameters;
}

// "256MiB" in KiB. A bare number would be taken for KiB by some and for MiB by others.
Result<uint64_t> size_kib(std::string_view text) {
  static constexpr std::pair<std::string_view, uint64_t> kUnits[] = {
      {"KiB", 1}, {"MiB", 1024}, {"GiB", 1024 * 1024}, {"K", 1}, {"M", 1024}, {"G", 1024 * 1024}};
  for (const auto& [unit, kib] : kUnits) {
    if (!text.ends_with(unit))
      continue;
    auto number = parse_int<uint64_t>(text.substr(0, text.size() - unit.size()));
    if (number && *number < (1ULL << 40U))
      return *number * kib;
  }
  return fail(Errc::Invalid, fmt::format("memory={}: a size such as 512MiB", text));
}

Result<json> amount_parameters(const std::vector<std::string>& words) {
  json parameters = json::object();
  for (const std::string& word : words) {
    size_t equals = word.find('=');
    std::string key = word.substr(0, equals);
    std::string value = equals == word.npos ? "" : word.substr(equals + 1);
    if (key == "memory") {
      TRY(parameters["memory_kib"], size_kib(value));
      continue;
    }
    auto number = parse_int<uint32_t>(value);
    if ((key != "vcpus" && key != "iothreads") || !number)
      return fail(Errc::Invalid,
                  fmt::format("'{}': memory=SIZE, vcpus=N or iothreads=N", printable(word)));
    parameters[key] = *number;
  }
  return parameters;
}

int begin_run(const Options& options, const std::string& method, const json& what,
              std::string_view done) {
  return run_call(
      options, method, start_parameters(options, what), [&](Out& out, const json& reply) {
        out.line(fmt::format("{} ({}) {}: run {}, pid {}", printable(reply.value("name", "")),
                             reply.value("uuid", ""), done, reply.value("run", 0),
                             reply.value("pid", 0)));
      });
}

}  // namespace

int run_define(const Options& options) {
  auto xml = read_definition(options.file);
  if (!xml)
    return failed_locally(options, xml.error());
  json parameters = {{"xml", *xml}, {"source", options.file}};
  return run_call(options, "Define", parameters, [](Out& out, const json& reply) {
    out.line(fmt::format("{} ({}) defined", printable(reply.value("name", "")),
                         reply.value("uuid", "")));
  });
}

int run_undefine(const Options& options) {
  return run_simple(options, "Undefine",
                    {{"guest", options.guest}, {"discard_saved", options.discard_saved}},
                    "undefined");
}

int run_list(const Options& options) {
  auto reply = call(paths_of(options), "List", json::object());
  if (!reply)
    return failed(options, reply.error());
  const json& guests = reply->at("guests");
  Out out;
  if (wants_json(options)) {
    for (const json& guest : guests) put_json(out, guest);
  } else {
    Table table({"NAME", "UUID", "STATE", "RUN", "PID"}, options.output() == OutputFormat::Csv,
                !options.no_legend);
    for (const json& g : guests)
      table.row({g.at("name").get<std::string>(), g.at("uuid").get<std::string>(),
                 g.at("state").get<std::string>() + (g.at("saved") == true ? ", saved" : ""),
                 g.at("run").dump(), g.at("pid").dump()});
    table.print(out);
  }
  return to_int(guests.empty() ? ExitCode::NothingFound : ExitCode::Ok);
}

int run_status(const Options& options) {
  auto reply = call(paths_of(options), "Status", {{"guest", options.guest}});
  if (!reply)
    return failed(options, reply.error());
  const json& status = reply->at("status");
  Out out;
  if (wants_json(options)) {
    put_json(out, status);
    return 0;
  }
  put_status(out, status);
  put_tenures(out, status.at("tenures"), options);
  return 0;
}

int run_show(const Options& options) {
  Out out;
  if (!options.properties.empty() || (wants_json(options) && !options.xml && !options.running)) {
    auto reply = call(paths_of(options), "Status", {{"guest", options.guest}});
    if (!reply)
      return failed(options, reply.error());
    if (!options.properties.empty())
      return put_properties(out, options, reply->at("status"));
    put_json(out, reply->at("status"));
    return 0;
  }
  auto reply = call(paths_of(options), "Show", {{"guest", options.guest}});
  if (!reply)
    return failed(options, reply.error());
  bool running = options.running || reply->at("xml").is_null();
  const json& xml = reply->at(running ? "running_xml" : "xml");
  if (xml.is_null()) {
    return failed_locally(options, Error(Errc::Busy, options.guest + " is not running"));
  }
  out.put(evidence(xml.get<std::string>()));
  return 0;
}

int run_start(const Options& options) {
  json what = {{"guest", options.guest}};
  if (names_file(options.guest)) {
    auto xml = read_definition(options.guest);
    if (!xml)
      return failed_locally(options, xml.error());
    what = {{"xml", *xml}, {"source", options.guest}};
  }
  return begin_run(options, "Start", what, "started");
}

int run_restore(const Options& options) {
  return begin_run(options, "Restore", {{"file", absolute_path(options.file)}}, "restored");
}

// save, dump, screenshot: the daemon opens the file.
int run_to_file(const Options& options) {
  static const std::map<std::string, std::pair<std::string, std::string>> kMethods = {
      {"save", {"Save", "saved to"}},
      {"dump", {"Dump", "dumped to"}},
      {"screenshot", {"Screenshot", "shown in"}}};
  const auto& [method, done] = kMethods.at(options.command);
  std::string file = absolute_path(options.words.front());
  json parameters = {{"guest", options.guest}, {"file", file}};
  if (!options.image_format.empty())
    parameters["format"] = options.image_format;
  return run_simple(options, method, parameters, done + " " + file);
}

int run_stop(const Options& options) {
  return run_simple(options, "Stop",
                    {{"guest", options.guest},
                     {"timeout_s", options.timeout_s.value_or(60)},
                     {"save", options.save}},
                    options.save ? "stopped, its state is saved" : "stopped");
}

int run_kill(const Options& options) {
  return run_simple(options, "Kill", {{"guest", options.guest}}, "killed");
}

int run_control(const Options& options) {
  static const std::map<std::string, std::string> kDone = {{"pause", "paused"},
                                                           {"resume", "resumed"},
                                                           {"reboot", "rebooted"},
                                                           {"reset", "reset"},
                                                           {"inject-nmi", "got an NMI"}};
  return run_simple(options, "Control", {{"guest", options.guest}, {"verb", options.command}},
                    kDone.at(options.command));
}

int run_attach(const Options& options) {
  auto xml = device_element(options);
  if (!xml)
    return failed_locally(options, xml.error());
  bool file = options.words.size() == 1 && !options.words.front().starts_with('<');
  std::string source = file ? options.words.front() : "device";
  json parameters = {{"guest", options.guest}, {"xml", *xml}, {"source", source}};
  return run_call(options, "Attach", parameters, [&](Out& out, const json& reply) {
    out.line(printable(fmt::format("{}: {} attached", options.guest, reply.value("alias", ""))));
  });
}

int run_detach(const Options& options) {
  std::string device = options.words.front();
  if (device == "-" || device.ends_with(".xml")) {
    auto xml = read_definition(device);
    if (!xml)
      return failed_locally(options, xml.error());
    device = *xml;
  }
  return run_simple(options, "Detach",
                    {{"guest", options.guest},
                     {"device", device},
                     {"timeout_s", options.timeout_s.value_or(10)},
                     {"force", options.force}},
                    "detached");
}

int run_set(const Options& options) {
  auto parameters = amount_parameters(options.words);
  if (!parameters)
    return failed_locally(options, parameters.error());
  (*parameters)["guest"] = options.guest;
  (*parameters)["timeout_s"] = options.timeout_s.value_or(10);
  return run_simple(options, "Set", *parameters, "changed");
}

int run_console(const Options& options) {
  auto reply = call(paths_of(options), "Console", {{"guest", options.guest}});
  if (!reply)
    return failed(options, reply.error());
  Result<> done = relay_console(reply->value("type", ""), reply->value("path", ""));
  if (!done)
    return failed_locally(options, done.error());
  return 0;
}

}  // namespace tenure::cli
