// SPDX-License-Identifier: Apache-2.0
#include "guest/change/block_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "guest/change/block_look.h"
#include "guest/change/chain.h"
#include "guest/run/ask.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using registrar::Txn;

constexpr std::string_view kPrefix = "job-";
constexpr auto kEndTimeout = 60s;  // for QEMU to change the chain, or to give up what is in flight

// A job as query-jobs has it; status "null": QEMU has none of that id.
struct JobState {
  std::string status = "null";
  std::string error;
};

std::string text_of(const json& object, const char* key) {
  auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

bool has_ended(const JobState& state) {
  return state.status == "concluded" || state.status == "null";
}

asio::awaitable<Result<JobState>> ask_state(Live& live, std::string id) {
  qemu::Command query{"query-jobs", json::object()};
  CO_TRY(json jobs, co_await ask(live, std::move(query)));
  JobState state;
  for (const json& job : jobs)
    if (job.is_object() && text_of(job, "id") == id)
      state = {.status = text_of(job, "status"), .error = text_of(job, "error")};
  co_return state;
}

// As it is when it has ended, or at the deadline. QEMU's events tell when to look; while a guest is
// being adopted none are delivered, so it is looked at now and then all the same.
asio::awaitable<Result<JobState>> until_ended(Live& live, std::string id) {
  const auto deadline = std::chrono::steady_clock::now() + kEndTimeout;
  for (;;) {
    auto over = live.events.expect([id](const qemu::QmpEvent& event) {
      return event.name == "JOB_STATUS_CHANGE" && text_of(*event.data, "id") == id &&
             text_of(*event.data, "status") == "concluded";
    });
    std::string asked = id;
    CO_TRY(JobState state, co_await ask_state(live, std::move(asked)));
    if (has_ended(state) || std::chrono::steady_clock::now() > deadline)
      co_return state;
    co_await over->wait(kLookAgain);
  }
}

Result<> save(const Live& live) {
  return save_run(live.context.paths, live.state);
}

trail::Record job_record(const Live& live, const BlockJob& job, const std::string& alias,
                         std::string_view reason) {
  trail::Record record = control_record(job.op, reason, live.state, live.domain->kvm);
  return std::move(record.set("device", alias));
}

Txn txn_of(const Live& live, const BlockJob& job) {
  return {.id = live.context.new_txn(), .who = job.who};
}

// A word about a job that changes nothing.
asio::awaitable<void> tell(Live& live, std::string alias, std::string reason, std::string why) {
  BlockJob& job = live.state.jobs.at(alias);
  trail::Record record = job_record(live, job, alias, reason);
  if (!why.empty())
    record.set("why", why);
  registrar::stamp(record, live.state.ref, txn_of(live, job));
  std::vector<trail::Record> records{std::move(record)};
  Result<> written = co_await live.context.journal.write(std::move(records));
  job.told = reason;
  Result<> saved = save(live);
  for (const Result<>& step : {written, saved})
    if (!step)
      live.context.log(fmt::format("{}: {}: {}", live.state.ref.vm, job.op, step.error().what()));
}

// One job on its way out.
class Ender {
 public:
  // `act` is what QEMU is told; with an empty name it has ended the job by itself. `reason` is what
  // the record says when that goes well.
  Ender(Live& live, std::string alias, qemu::Command act, std::string reason)
      : live_(live),
        alias_(std::move(alias)),
        id_(job_id(alias_)),
        job_(live.state.jobs.at(alias_)),
        act_(std::move(act)),
        reason_(std::move(reason)),
        txn_(txn_of(live, job_)),
        operation_(live.context.journal, live.state.ref, txn_, *live.seams, &live.holds) {}

  asio::awaitable<Result<>> run() {
    trail::Record control = job_record(live_, job_, alias_, reason_);
    std::vector<model::Claim> none;
    CO_TRY_OK(co_await operation_.intend(std::move(none), control));
    Result<> acted = co_await act();
    if (!acted) {
      control.success = false;
      Result<> told = co_await operation_.roll_back(std::move(control), acted.error());
      co_return told ? acted : told;
    }
    Result<> saved = save(live_);
    co_await dismiss();
    // From here on the job has no rights of its own, and its nodes are in nobody's way.
    live_.state.jobs.erase(alias_);
    std::string alias = alias_, reason = job_.op, why = followed_why();
    Txn own = txn_;
    Result<> followed = co_await follow_chain(live_, std::move(alias), std::move(reason),
                                              std::move(why), std::move(own));
    if (saved)
      saved = save(live_);
    Result<> told = co_await conclude();
    Result<> outcome = job_.outcome == "failed" ? fail(Errc::Io, job_.why) : Result<>{};
    for (const Result<>& step : {followed, saved, told})
      if (!step && outcome)
        outcome = step;
    live_.job_ends.insert_or_assign(alias_, outcome);
    wake_job_waiters(live_);
    co_return outcome;
  }

 private:
  // Told to QEMU, and what came of it.
  asio::awaitable<Result<>> act() {
    if (!act_.name.empty())
      CO_TRY_OK(co_await ask(live_, std::move(act_)));
    std::string id = id_;
    CO_TRY(JobState state, co_await until_ended(live_, std::move(id)));
    if (!has_ended(state))
      co_return fail(Errc::Timeout, fmt::format("{}: QEMU has not ended the job within {} s; it is "
                                                "recorded when it does",
                                                job_.op, kEndTimeout.count()));
    if (job_.outcome.empty())
      note_outcome(job_, reason_, state.error);
    BlockJob& kept = live_.state.jobs.at(alias_);
    kept.outcome = job_.outcome;
    kept.why = job_.why;
    co_return Result<>{};
  }

  asio::awaitable<void> dismiss() {
    qemu::Command command{"job-dismiss", {{"id", id_}}};
    auto answer = co_await ask(live_, std::move(command));
    if (!answer && answer.error().code() != Errc::NotFound)
      live_.context.log(
          fmt::format("{}: {}: {}", live_.state.ref.vm, job_.op, answer.error().what()));
  }

  std::string followed_why() const {
    return job_.outcome == "failed" ? "it failed" : job_.outcome == "cancelled" ? "cancelled" : "";
  }

  asio::awaitable<Result<>> conclude() {
    trail::Record control = job_record(live_, job_, alias_, job_.outcome);
    control.success = job_.outcome != "failed";
    if (!job_.why.empty())
      control.set("why", job_.why);
    co_return co_await operation_.conclude(std::move(control));
  }

  Live& live_;
  std::string alias_, id_;
  BlockJob job_;
  qemu::Command act_;
  std::string reason_;
  Txn txn_;
  registrar::Operation operation_;
};

asio::awaitable<Result<>> end_job(Live& live, std::string alias, qemu::Command act,
                                  std::string reason) {
  auto ender = std::make_unique<Ender>(live, std::move(alias), std::move(act), std::move(reason));
  co_return co_await ender->run();
}

qemu::Command completion_of(const BlockJob& job, const std::string& id) {
  // Cancelled without force a job that is ready finishes its copy and leaves the guest where it is
  // (qapi/block-core.json, block-job-cancel).
  if (job.then == "finish")
    return {"block-job-cancel", {{"device", id}, {"force", false}}};
  return {"job-complete", {{"id", id}}};
}

asio::awaitable<Result<>> become_ready(Live& live, std::string alias) {
  BlockJob job = live.state.jobs.at(alias);
  if (job.told != "ready") {
    std::string copy = alias, reason = "ready", why;
    co_await tell(live, std::move(copy), std::move(reason), std::move(why));
    wake_job_waiters(live);
  }
  if (job.then.empty())
    co_return Result<>{};
  std::string id = job_id(alias);
  qemu::Command command = completion_of(job, id);
  CO_TRY_OK(co_await ask(live, std::move(command)));
  co_return Result<>{};
}

}  // namespace

std::string job_id(const std::string& alias) {
  return std::string(kPrefix) + alias;
}

std::string disk_of_job(std::string_view id) {
  return id.starts_with(kPrefix) ? std::string(id.substr(kPrefix.size())) : std::string();
}

std::string good_end(const BlockJob& job) {
  return job.then == "pivot" ? "pivoted" : "completed";
}

void note_outcome(BlockJob& job, std::string_view reason, const std::string& error) {
  job.outcome = reason;
  if (error.empty())
    return;
  job.outcome = reason == "cancelled" ? "cancelled" : "failed";
  job.why = job.op + ": " + error;
}

void wake_job_waiters(Live& live) {
  for (const auto& timer : live.job_waiters) timer->cancel();
}

asio::awaitable<Result<>> drive_job(Live& live, std::string alias) {
  auto known = live.state.jobs.find(alias);
  if (known == live.state.jobs.end())
    co_return Result<>{};
  BlockJob job = known->second;
  std::string id = job_id(alias);
  CO_TRY(JobState state, co_await ask_state(live, std::move(id)));
  if (state.status == "ready")
    co_return co_await become_ready(live, std::move(alias));
  qemu::Command act;
  std::string reason = good_end(job);
  if (state.status == "pending")
    act = {"job-finalize", {{"id", job_id(alias)}}};
  else if (!has_ended(state))
    co_return Result<>{};
  co_return co_await end_job(live, std::move(alias), std::move(act), std::move(reason));
}

asio::awaitable<Result<>> steer_job(Live& live, std::string alias, std::string action, Txn txn) {
  auto known = live.state.jobs.find(alias);
  if (known == live.state.jobs.end())
    co_return fail(Errc::NotFound, alias + ": no job is under way on it");
  std::string id = job_id(alias);
  CO_TRY(JobState state, co_await ask_state(live, std::move(id)));
  BlockJob& job = known->second;
  if (action == "abort") {
    job.who = std::move(txn.who);
    qemu::Command cancel{"job-cancel", {{"id", job_id(alias)}}};
    std::string reason = "cancelled";
    if (has_ended(state))
      cancel = {};
    co_return co_await end_job(live, std::move(alias), std::move(cancel), std::move(reason));
  }
  if (action != "pivot" && action != "finish")
    co_return fail(Errc::Invalid, action + ": abort, pivot or finish");
  if (state.status != "ready")
    co_return fail(Errc::Busy,
                   fmt::format("{}: the job is not ready yet (it is {})", alias, state.status));
  job.who = std::move(txn.who);
  job.then = std::move(action);
  CO_TRY_OK(save(live));
  co_return co_await become_ready(live, std::move(alias));
}

asio::awaitable<Result<>> limit_job(Live& live, std::string alias, uint64_t bandwidth) {
  if (!live.state.jobs.contains(alias))
    co_return fail(Errc::NotFound, alias + ": no job is under way on it");
  qemu::Command command{"block-job-set-speed", {{"device", job_id(alias)}, {"speed", bandwidth}}};
  CO_TRY_OK(co_await ask(live, std::move(command)));
  co_return Result<>{};
}

asio::awaitable<Result<json>> list_jobs(Live& live) {
  qemu::Command query{"query-block-jobs", json::object()};
  CO_TRY(json jobs, co_await ask(live, std::move(query)));
  json list = json::array();
  for (const json& job : jobs) {
    auto known = live.state.jobs.find(disk_of_job(job.value("device", "")));
    if (known == live.state.jobs.end())
      continue;
    list.push_back({{"alias", known->first},
                    {"op", known->second.op},
                    {"writes", known->second.writes},
                    {"then", known->second.then},
                    {"status", job.value("status", "")},
                    {"done", job.value("offset", uint64_t{0})},
                    {"total", job.value("len", uint64_t{0})},
                    {"bandwidth", job.value("speed", uint64_t{0})}});
  }
  co_return list;
}

asio::awaitable<Result<>> settle_jobs(Live& live) {
  std::vector<std::string> aliases;
  for (const auto& [alias, job] : live.state.jobs) aliases.push_back(alias);
  Result<> outcome;
  for (const std::string& alias : aliases) {
    std::string id = job_id(alias);
    CO_TRY(JobState state, co_await ask_state(live, std::move(id)));
    const BlockJob& job = live.state.jobs.at(alias);
    if (job.told.empty() && state.status == "null" && job.outcome.empty()) {
      // It never got as far as QEMU; what it was granted goes with the rest (settle_chains).
      live.state.jobs.erase(alias);
      CO_TRY_OK(save(live));
      continue;
    }
    if (job.told.empty()) {
      std::string copy = alias, reason = "started";
      std::string why = "recovered: tenured died while it started";
      co_await tell(live, std::move(copy), std::move(reason), std::move(why));
    }
    std::string copy = alias;
    Result<> driven = co_await drive_job(live, std::move(copy));
    if (!driven && outcome)
      outcome = driven;
  }
  co_return outcome;
}

}  // namespace tenure::guest
