// SPDX-License-Identifier: Apache-2.0
#include "cli/local/commands.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/paths.h"
#include "base/text.h"
#include "cli/exit_code.h"
#include "cli/local/dry_instance.h"
#include "cli/output.h"
#include "domain/domain.h"
#include "guest/change/amount.h"
#include "guest/plan/facts.h"
#include "guest/plan/plan.h"
#include "qemu/command_line.h"
#include "registrar/operation.h"

namespace tenure::cli {
namespace {

using nlohmann::json;

struct Preview {
  std::vector<std::string> argv;
  std::vector<model::Claim> claims;
  std::vector<std::string> records;
  std::vector<std::string> notes;
};

// Fds that a start would open are "?" in the preview.
qemu::Wiring preview_wiring(const domain::Domain& domain, const guest::Facts& facts,
                            const guest::HostOptions& options) {
  qemu::Wiring wiring;
  wiring.kvm = domain.kvm;
  wiring.images = facts.chains;
  wiring.runtime_dir = options.runtime_dir;
  wiring.preview = true;
  return wiring;
}

Result<std::vector<std::string>> preview_records(const std::vector<model::Claim>& claims,
                                                 const domain::Domain& domain) {
  std::vector<std::string> records;
  registrar::RunRef ref{
      .virt = domain.kvm ? "kvm" : "qemu", .vm = domain.name, .uuid = to_string(domain.uuid)};
  auto add = [&](trail::Record record) -> Result<> {
    record.set("virt", ref.virt).set("vm", ref.vm).set("uuid", ref.uuid);
    TRY(std::string body, trail::encode(record));
    records.push_back(fmt::format(
        "type={} msg='{}'",
        trail::spec(record.kind).type == trail::kVirtControl ? "VIRT_CONTROL" : "VIRT_RESOURCE",
        body));
    return {};
  };
  for (const model::Claim& claim : claims) TRY_OK(add(claim.record));
  trail::Record control(trail::Kind::Control);
  control.set("op", "start").set("reason", "booted").set("vm-pid", uint64_t{0});
  TRY_OK(add(std::move(control)));
  return records;
}

Result<Preview> preview(const Options& cli, const Paths& paths) {
  Preview preview;
  TRY(const DryDefinition definition, dry_definition(cli, paths));
  TRY(domain::Domain domain, domain::parse(definition.xml, definition.source));
  if (!domain.has_uuid) {
    TRY(domain.uuid, random_uuid());
    preview.notes.push_back("the definition has no uuid; one was made up");
  }
  TRY_OK(domain::complete(domain));
  TRY(const guest::HostOptions options, dry_host_options(cli, paths, domain, preview.notes));
  TRY(guest::Facts facts, guest::look_up(domain, options, guest::Missing::Note));
  TRY(preview.argv, qemu::command_line(domain, preview_wiring(domain, facts, options)));
  preview.claims = guest::make_plan(domain, facts, options).claims;
  TRY(preview.records, preview_records(preview.claims, domain));
  if (std::string ignored = guest::ignored_current_memory(domain); !ignored.empty())
    preview.notes.push_back(std::move(ignored));
  preview.notes.insert(preview.notes.end(), facts.notes.begin(), facts.notes.end());
  return preview;
}

json claim_json(const model::Claim& claim) {
  json rdev;
  if (claim.rdev) {
    std::string hex = rdev_hex(*claim.rdev);
    rdev = claim.any_minor ? hex.substr(0, hex.find(':')) + ":*" : hex;
  }
  return {{"kind", claim.kind},
          {"id", claim.id},
          {"access", to_string(claim.access)},
          {"rdev", rdev},
          {"for", claim.holder}};
}

void put_text(Out& out, const Preview& preview) {
  auto section = [&](std::string_view title, const std::vector<std::string>& lines) {
    if (lines.empty())
      return;
    out.line(title);
    for (const std::string& line : lines) out.line("  " + printable(line));
  };
  section("command line:", preview.argv);
  std::vector<std::string> claims;
  for (const model::Claim& c : preview.claims)
    claims.push_back(fmt::format("{} {} {} {}", c.kind, c.id, to_string(c.access), c.holder));
  section("claims:", claims);
  section("records:", preview.records);
  section("notes:", preview.notes);
}

int fail_with(const Error& error) {
  complain("start --dry-run: " + printable(error.what()));
  return to_int(exit_code_of(error));
}

}  // namespace

int run_dry_start(const Options& options) {
  auto shown = preview(options, paths_below(choose_root(options.root)));
  if (!shown)
    return fail_with(shown.error());
  Out out;
  if (options.output() != OutputFormat::Json) {
    put_text(out, *shown);
    return 0;
  }
  json claims = json::array();
  for (const model::Claim& claim : shown->claims) claims.push_back(claim_json(claim));
  json whole = {{"argv", shown->argv},
                {"claims", claims},
                {"records", shown->records},
                {"notes", shown->notes}};
  out.line(whole.dump(-1, ' ', false, json::error_handler_t::replace));
  return 0;
}

}  // namespace tenure::cli
