// SPDX-License-Identifier: Apache-2.0
// `tenure verify` and `tenure prove`: the ledger's library with a face. Neither needs the daemon or
// more than read permission.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/paths.h"
#include "base/text.h"
#include "cli/client.h"
#include "cli/exit_code.h"
#include "cli/local/commands.h"
#include "cli/local/verify_trail.h"
#include "ledger/note.h"
#include "ledger/proof.h"
#include "ledger/verify.h"
#include "reader/files.h"
#include "reader/pipeline.h"

namespace tenure::cli {
namespace {

constexpr size_t kShown = 10;  // entries named in one line

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
}

int complain(const Error& error) {
  std::fprintf(stderr, "tenure: %s\n", printable(error.what()).c_str());
  if (error.code() == Errc::Corrupt)
    return to_int(ExitCode::VerifyFailed);
  return to_int(exit_code_of(error));
}

struct Place {
  std::string dir;
  std::string key;  // file of the public key
};

Place place_of(const Options& options) {
  Paths paths = paths_below(choose_root(options.root));
  Place place{options.ledger_dir.empty() ? paths.ledger : options.ledger_dir,
              paths.state + "/ledger.key.pub"};
  if (!options.key_file.empty())
    place.key = options.key_file;
  return place;
}

// --key takes a .pub file, or the key itself.
Result<std::string> vkey_of(const std::string& key) {
  if (ledger::Verifier::from_vkey(key))
    return key;
  auto text = read_file(key, ledger::kMaxNote);
  if (!text)
    return std::unexpected(std::move(text).error().context("public key"));
  std::string vkey(trim(*text));
  auto verifier = ledger::Verifier::from_vkey(vkey);
  if (!verifier)
    return std::unexpected(std::move(verifier).error().context(key));
  return vkey;
}

std::string joined(const std::vector<uint64_t>& entries) {
  std::string text;
  for (size_t i = 0; i < entries.size() && i < kShown; ++i)
    text += fmt::format("{}{}", i == 0 ? "" : ", ", entries[i]);
  return entries.size() > kShown ? text + fmt::format(" and {} more", entries.size() - kShown)
                                 : text;
}

// Everything that one verification has found.
struct Findings {
  ledger::VerifyReport ledger;
  std::optional<LogComparison> log;
  std::vector<std::string> notes;

  std::optional<nlohmann::json> recorded;  // what tenured found (--record)
  std::optional<nlohmann::json> live;      // guests (--live)

  bool log_ok() const { return !log || (log->missing.empty() && log->altered.empty()); }
  bool live_ok() const {
    return !live || std::ranges::all_of(*live, [](const nlohmann::json& guest) {
      return guest.at("differences").empty();
    });
  }
  bool recorded_ok() const { return !recorded || recorded->at("ok").get<bool>(); }
  bool ok() const { return ledger.ok() && log_ok() && live_ok() && recorded_ok(); }
  // Something could not be looked at, and nothing is known to be wrong.
  bool incomplete() const {
    return ledger.only_torn() || (live && std::ranges::any_of(*live, [](const nlohmann::json& g) {
                                    return !g.at("unknown").empty();
                                  }));
  }
  ExitCode exit_code() const {
    const bool wrong = ledger.problem_count > 0 || !log_ok() || !live_ok() ||
                       (recorded && recorded->at("problem_count") != 0);
    if (wrong)
      return ExitCode::VerifyFailed;
    return incomplete() || !recorded_ok() ? ExitCode::Incomplete : ExitCode::Ok;
  }
};

// A line a guest, and a line a difference.
std::string live_text(const nlohmann::json& guests) {
  std::string text;
  for (const nlohmann::json& guest : guests) {
    const std::string name = printable(guest.at("name").get<std::string>());
    if (guest.at("gone").get<bool>()) {
      text += fmt::format("{}: has ended, nothing was compared\n", name);
      for (const nlohmann::json& one : guest.value("still_held", nlohmann::json::array()))
        text += fmt::format("still held: {}: run {}: {}\n", name, guest.at("run").dump(),
                            printable(one.value("text", "")));
      continue;
    }
    text += fmt::format("{}: {} open tenures, {} differences from the kernel\n", name,
                        guest.at("tenures").dump(), guest.at("differences").size());
    for (const nlohmann::json& one : guest.at("differences"))
      text +=
          fmt::format("difference: {}: {}\n", name, printable(one.at("text").get<std::string>()));
    for (const nlohmann::json& one : guest.at("unknown"))
      text += fmt::format("not looked at: {}: {}\n", name, printable(one.get<std::string>()));
  }
  return guests.empty() ? "no guest runs\n" : text;
}

// The confirmed entries against the audit logs, as far as they can be read.
Result<> compare_with_logs(const Options& options, TrailCheck& trail, Findings& findings) {
  reader::SourceRequest request;
  request.logs = options.logs;
  TRY(reader::SourceSet sources, reader::open_sources(request));
  for (const Error& problem : sources.problems)
    findings.notes.push_back(fmt::format("not compared with the audit log: {}", problem.what()));
  if (sources.sources.empty()) {
    if (sources.problems.empty())
      findings.notes.push_back("not compared with the audit log: there is none");
    return {};
  }
  TRY_OK(reader::read_sources(sources, {}, [&](reader::Batch batch) {
    for (const reader::Event& event : batch.events) trail.log_record(event.view);
    return true;
  }));
  findings.log = trail.comparison();
  return {};
}

std::string to_text(const Findings& findings) {
  std::string text;
  for (const std::string& note : findings.notes) text += fmt::format("note: {}\n", note);
  if (findings.log) {
    const LogComparison& log = *findings.log;
    text += fmt::format(
        "audit log: {} records found with the same text, {} rotated away, {} newer than the log\n",
        log.same, log.rotated_away, log.not_yet);
    if (!log.missing.empty())
      text += fmt::format("problem: missing from the audit log: entries {}\n", joined(log.missing));
    if (!log.altered.empty())
      text +=
          fmt::format("problem: another text in the audit log: entries {}\n", joined(log.altered));
  }
  if (findings.live)
    text += live_text(*findings.live);
  if (findings.recorded)
    text += fmt::format("tenured verified {} entries: {}; recorded\n",
                        findings.recorded->at("entries").dump(),
                        findings.recorded_ok() ? "whole" : "NOT whole");
  return text + ledger::to_text(findings.ledger);
}

std::string to_json(const Findings& findings) {
  const ledger::VerifyReport& report = findings.ledger;
  nlohmann::json problems = nlohmann::json::array();
  for (const ledger::Problem& problem : report.problems) {
    nlohmann::json one{{"where", problem.where}, {"what", printable(problem.what)}};
    if (problem.entry)
      one["entry"] = *problem.entry;
    problems.push_back(std::move(one));
  }
  nlohmann::json all{
      {"ok", findings.ok()},
      {"origin", report.origin},
      {"entries", report.size},
      {"published", report.published},
      {"checkpoints", report.checkpoints},
      {"tiles", report.tiles},
      {"root", to_hex({reinterpret_cast<const char*>(report.root.data()), report.root.size()})},
      {"torn_bytes", report.torn_bytes},
      {"problem_count", report.problem_count},
      {"problems", std::move(problems)},
      {"notes", findings.notes}};
  for (const std::string& note : report.notes) all["notes"].push_back(note);
  if (findings.live)
    all["live"] = *findings.live;
  if (findings.recorded)
    all["recorded"] = *findings.recorded;
  if (report.first_bad_entry)
    all["first_bad_entry"] = *report.first_bad_entry;
  if (findings.log)
    all["audit_log"] = {{"same", findings.log->same},
                        {"rotated_away", findings.log->rotated_away},
                        {"not_yet", findings.log->not_yet},
                        {"missing", findings.log->missing},
                        {"altered", findings.log->altered}};
  return all.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

Result<Findings> verify_ledger(const Options& options) {
  Place place = place_of(options);
  TRY(std::string vkey, vkey_of(place.key));
  TrailCheck trail;
  ledger::VerifyOptions checks{.vkey = std::move(vkey)};
  checks.check_entry = [&](uint64_t index, std::string_view entry) {
    return trail.entry(index, entry);
  };
  Findings findings;
  // What a witness has seen binds the ledger as any checkpoint seen elsewhere does.
  if (auto seen = read_file(place.dir + "/checkpoint.witnessed", ledger::kMaxNote))
    checks.known_checkpoints.push_back(std::move(*seen));
  TRY(findings.ledger, ledger::verify(place.dir, checks));
  findings.notes = trail.notes();
  TRY_OK(compare_with_logs(options, trail, findings));
  return findings;
}

std::unexpected<CallError> unanswered(CallError error, std::string_view option) {
  return std::unexpected(CallError{std::move(error.error).context(option), error.reached});
}

// --record and --live: what only the daemon can do. It records both.
std::expected<void, CallError> ask_daemon(const Options& options, Findings& findings) {
  Paths paths = paths_below(choose_root(options.root));
  if (options.record) {
    auto reply = call(paths, "VerifyLedger", nlohmann::json::object());
    if (!reply)
      return unanswered(std::move(reply).error(), "verify --record");
    findings.recorded = std::move(*reply);
  }
  if (options.live) {
    auto reply = call(paths, "VerifyLive", {{"guest", options.filter_guest}});
    if (!reply)
      return unanswered(std::move(reply).error(), "verify --live");
    findings.live = reply->at("guests");
  }
  return {};
}

int verify_proof(const Options& options) {
  auto vkey = vkey_of(place_of(options).key);
  if (!vkey)
    return complain(vkey.error());
  auto text = read_file(options.proof_file, ledger::kMaxProof);
  if (!text)
    return complain(text.error());
  auto proved = ledger::check_proof(*text, *vkey);
  if (!proved)
    return complain(proved.error());
  if (options.output() == OutputFormat::Json) {
    nlohmann::json all{{"ok", true},
                       {"origin", proved->origin},
                       {"index", proved->index},
                       {"published", proved->size},
                       {"entry", proved->entry}};
    print(all.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    return to_int(ExitCode::Ok);
  }
  if (!options.quiet)
    print(fmt::format("entry {} of {}, signed among {} entries:\n", proved->index, proved->origin,
                      proved->size));
  print(printable(proved->entry) + "\n");
  return to_int(ExitCode::Ok);
}

}  // namespace

int run_verify(const Options& options) {
  if (!options.proof_file.empty())
    return verify_proof(options);
  auto findings = verify_ledger(options);
  if (!findings)
    return complain(findings.error());
  if (auto asked = ask_daemon(options, *findings); !asked) {
    const int code = complain(asked.error().error);
    return asked.error().reached ? code : exit_code(asked.error());
  }
  bool json = options.output() == OutputFormat::Json;
  if (json || !options.quiet || !findings->ok())
    print(json ? to_json(*findings) : to_text(*findings));
  return to_int(findings->exit_code());
}

int run_prove(const Options& options) {
  auto index = parse_int<uint64_t>(options.entry);
  if (!index)
    return complain(Error{
        Errc::Invalid,
        "prove: RECORD is the index of a ledger entry, the key ledger of `tenure log -o json`"});
  auto proof = ledger::make_proof(place_of(options).dir, *index);
  if (!proof)
    return complain(proof.error());
  print(*proof);
  return to_int(ExitCode::Ok);
}

}  // namespace tenure::cli
