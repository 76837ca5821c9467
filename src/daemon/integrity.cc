// SPDX-License-Identifier: Apache-2.0
#include "daemon/integrity.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <chrono>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/text.h"
#include "daemon/status.h"
#include "kernel/process.h"
#include "ledger/note.h"
#include "ledger/verify.h"
#include "registrar/offload.h"

namespace tenure::daemon {
namespace {

using guest::Difference;
using guest::LiveReport;
using nlohmann::json;
using namespace std::chrono_literals;

constexpr auto kSettle = 200ms;  // an operation's steps are some ms apart

std::string root_hex(const ledger::Hash& root) {
  return to_hex({reinterpret_cast<const char*>(root.data()), root.size()});
}

json problems_of(const ledger::VerifyReport& report) {
  json problems = json::array();
  for (const ledger::Problem& problem : report.problems) {
    problems.push_back({{"where", problem.where}, {"what", problem.what}, {"entry", nullptr}});
    if (problem.entry)
      problems.back()["entry"] = *problem.entry;
  }
  return problems;
}

trail::Record record_of(const ledger::VerifyReport& report) {
  trail::Record record(trail::Kind::Integrity);
  record.set("what", "ledger").set("count", report.size).set("root", root_hex(report.root));
  if (report.first_bad_entry)
    record.set("first-bad", *report.first_bad_entry);
  if (!report.problems.empty())
    record.set("cause", report.problems[0].where + ": " + report.problems[0].what);
  record.success = report.ok();
  return record;
}

// A run that has ended is not compared with the kernel: what is left of it, and by which record.
json to_json(const guest::LeftOver& left) {
  json found = {{"name", left.ref.vm},          {"uuid", left.ref.uuid},
                {"run", left.ref.run},          {"gone", true},
                {"tenures", left.holds.size()}, {"differences", json::array()},
                {"unknown", json::array()},     {"still_held", json::array()}};
  for (const registrar::Hold& hold : left.holds)
    found["still_held"].push_back({{"grant", hold.grant}, {"text", guest::still_held(hold)}});
  return found;
}

// What both looks have found.
std::vector<Difference> lasting(const LiveReport& first, const LiveReport& second) {
  std::vector<Difference> both;
  for (const Difference& now : second.differences) {
    auto same = [&](const Difference& before) { return now.same_as(before); };
    if (std::ranges::any_of(first.differences, same))
      both.push_back(now);
  }
  return both;
}

}  // namespace

asio::awaitable<void> Integrity::record(trail::Record record, Requester who) {
  record.set("txn", context_.new_txn());
  trail::set_requester(record, who);
  std::vector<trail::Record> records{std::move(record)};
  Result<> written = co_await context_.journal.write(std::move(records));
  if (!written && written.error().code() != Errc::Lost)
    context_.log("record of a verification: " + written.error().what());
}

asio::awaitable<Result<json>> Integrity::verify_ledger(Requester who) {
  auto work = [dir = context_.paths.ledger,
               key = context_.paths.state + "/ledger.key.pub"]() -> Result<ledger::VerifyReport> {
    TRY(std::string vkey, read_file(key, ledger::kMaxNote));
    ledger::VerifyOptions options{.vkey = std::string(trim(vkey))};
    return ledger::verify(dir, options);
  };
  Result<ledger::VerifyReport> report = co_await registrar::offload(worker_, std::move(work));
  if (!report)
    co_return std::unexpected(std::move(report).error().context("verify"));
  co_await record(record_of(*report), std::move(who));
  if (!report->ok())
    context_.log("the ledger does not verify: " + ledger::to_text(*report));
  json reply = {{"ok", report->ok()},
                {"entries", report->size},
                {"published", report->published},
                {"root", root_hex(report->root)},
                {"problem_count", report->problem_count},
                {"problems", problems_of(*report)},
                {"first_bad_entry", nullptr}};
  if (report->first_bad_entry)
    reply["first_bad_entry"] = *report->first_bad_entry;
  co_return reply;
}

asio::awaitable<json> Integrity::look_at(std::shared_ptr<guest::Guest> guest, Requester who) {
  LiveReport report = guest::live_check(*guest);
  if (!report.differences.empty()) {
    asio::steady_timer timer(context_.executor, kSettle);
    asio::error_code error;
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
    LiveReport again = guest::live_check(*guest);
    again.differences = lasting(report, again);
    report = std::move(again);
  }
  report.gone = report.gone || guest->ended();
  json found = {{"name", guest->state().ref.vm},    {"uuid", guest->state().ref.uuid},
                {"run", guest->state().ref.run},    {"gone", report.gone},
                {"tenures", guest->holds().size()}, {"differences", json::array()},
                {"unknown", report.unknown}};
  for (const Difference& difference : report.differences)
    found["differences"].push_back(to_json(difference));
  if (report.gone)
    co_return found;  // nothing was compared, so nothing is recorded
  trail::Record record(trail::Kind::Integrity);
  record.set("what", "live")
      .set("count", guest->holds().size())
      .set("differences", report.differences.size())
      .set("vm", guest->state().ref.vm)
      .set("uuid", guest->state().ref.uuid);
  record.set("run", guest->state().ref.run);
  if (!report.differences.empty())
    record.set("cause", report.differences[0].text);
  else if (!report.unknown.empty())
    record.set("cause", "not looked at: " + report.unknown[0]);
  record.success = report.differences.empty() && report.unknown.empty();
  co_await this->record(std::move(record), std::move(who));
  co_return found;
}

asio::awaitable<Result<json>> Integrity::verify_live(std::string guest, Requester who) {
  std::vector<std::shared_ptr<guest::Guest>> chosen;
  std::string uuid;
  if (guest.empty()) {
    for (const auto& [each, running] : guests_.all_running()) chosen.push_back(running);
  } else {
    CO_TRY(GuestName name, guests_.find(guest));
    uuid = name.uuid;
    auto running = guests_.running(uuid);
    bool left = std::ranges::any_of(guests_.left_over(),
                                    [&](const auto& one) { return one->ref.uuid == uuid; });
    if (!running && !left)
      co_return fail(Errc::Busy, fmt::format("{} is not running", name.name));
    if (running)
      chosen.push_back(std::move(running));
  }
  json reply = {{"guests", json::array()}};
  for (const auto& one : chosen) {
    json found = co_await look_at(one, who);
    reply["guests"].push_back(std::move(found));
  }
  for (const auto& left : guests_.left_over())
    if (uuid.empty() || left->ref.uuid == uuid)
      reply["guests"].push_back(to_json(*left));
  co_return reply;
}

asio::awaitable<void> Integrity::run_schedule(uint32_t hours) {
  asio::steady_timer timer(context_.executor);
  while (hours > 0) {
    timer.expires_after(std::chrono::hours(hours));
    asio::error_code error;
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
    if (error)
      co_return;
    Requester who = kernel::own_requester();
    auto done = co_await verify_ledger(std::move(who));
    if (!done)
      context_.log(done.error().what());
  }
}

}  // namespace tenure::daemon
