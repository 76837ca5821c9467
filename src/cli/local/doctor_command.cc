// SPDX-License-Identifier: Apache-2.0
// `tenure doctor`: asks a daemon that runs (none is started), looks itself, prints.
#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "base/paths.h"
#include "base/text.h"
#include "cli/client.h"
#include "cli/exit_code.h"
#include "cli/local/commands.h"
#include "cli/output.h"
#include "doctor/doctor.h"

namespace tenure::cli {
namespace {

using doctor::Finding;
using doctor::Level;
using nlohmann::json;

std::string text_at(const json& object, const char* key) {
  auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

uint64_t number_at(const json& object, const char* key) {
  auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<uint64_t>() : 0;
}

json object_at(const json& object, const char* key) {
  auto found = object.find(key);
  return found != object.end() && found->is_object() ? *found : json::object();
}

doctor::DaemonView view_of(const json& info) {
  doctor::DaemonView view;
  const json audit = object_at(info, "audit");
  const json gap = object_at(audit, "gap");
  const json ledger = object_at(info, "ledger");
  view.pid = static_cast<int64_t>(number_at(info, "pid"));
  view.fence = text_at(info, "fence");
  view.no_fence_reason = text_at(info, "no_fence_reason");
  view.audit_state = text_at(audit, "state");
  view.audit_cause = text_at(audit, "cause");
  if (!gap.empty())
    view.gap = fmt::format("{} records since {} ms, {}", number_at(gap, "count"),
                           number_at(gap, "from_ms"), text_at(gap, "cause"));
  view.ledger_size = number_at(info, "ledger_size");
  view.published = number_at(info, "published");
  view.witnessed = number_at(ledger, "witnessed");
  view.has_witness = ledger.value("witness", false);
  view.publish_error = text_at(ledger, "publish_error");
  return view;
}

void put(Out& out, const Finding& finding, const Options& options) {
  if (options.output() == OutputFormat::Json) {
    json line = {{"level", to_string(finding.level)},
                 {"check", finding.check},
                 {"what", finding.what},
                 {"remedy", finding.remedy}};
    return out.line(line.dump(-1, ' ', false, json::error_handler_t::replace));
  }
  if (options.quiet && finding.level == Level::Pass)
    return;
  out.line(
      printable(fmt::format("{:6} {:14} {}{}", to_string(finding.level), finding.check,
                            finding.what, finding.remedy.empty() ? "" : "; " + finding.remedy)));
}

}  // namespace

int run_doctor(const Options& options) {
  Paths paths = paths_below(choose_root(options.root));
  auto info = call_running(paths, "Info", json::object());
  std::optional<doctor::DaemonView> view;
  std::string no_daemon;
  if (info)
    view = view_of(*info);
  else
    no_daemon = "tenured cannot be asked: " + info.error().error.what();
  Out out;
  std::array<size_t, 4> counts{};
  for (const Finding& finding :
       doctor::examine(doctor::make_scope(std::move(paths), std::move(view), no_daemon))) {
    ++counts[static_cast<size_t>(finding.level)];
    put(out, finding, options);
  }
  if (options.output() != OutputFormat::Json && !options.no_legend && !options.quiet)
    out.line(fmt::format("{} pass, {} warn, {} fail, {} not seen", counts[0], counts[1], counts[2],
                         counts[3]));
  return to_int(counts[2] > 0 ? ExitCode::CheckFailed : ExitCode::Ok);
}

}  // namespace tenure::cli
