// SPDX-License-Identifier: Apache-2.0
#include "guest/change/block_look.h"

#include <fmt/format.h>

#include <set>
#include <string>

#include "guest/change/block_job.h"
#include "guest/run/ask.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

// For what a pull has in flight; on storage that does not answer there is no end of it.
constexpr auto kStillTimeout = 10s;
constexpr std::string_view kPull = "stream";

struct Job {
  std::string id, type, status, error;
};

std::vector<Job> jobs_in(const json& answer) {
  std::vector<Job> jobs;
  for (const json& one : answer) {
    auto text = [&one](const char* key) {
      auto it = one.find(key);
      return it != one.end() && it->is_string() ? it->get<std::string>() : std::string();
    };
    if (one.is_object())
      jobs.push_back({text("id"), text("type"), text("status"), text("error")});
  }
  return jobs;
}

class Look {
 public:
  explicit Look(Live& live) : live_(live) {}

  asio::awaitable<Result<std::vector<json>>> run(std::vector<qemu::Command> queries) {
    std::vector<json> answers;
    Result<> done = co_await calm();
    for (size_t i = 0; done && i < queries.size(); ++i) {
      auto answer = co_await ask(live_, std::move(queries[i]));
      if (answer)
        answers.push_back(std::move(*answer));
      else
        done = std::unexpected(std::move(answer).error());
    }
    co_await resume();
    if (!done)
      co_return std::unexpected(std::move(done).error());
    co_return answers;
  }

 private:
  asio::awaitable<Result<>> calm() {
    const auto deadline = std::chrono::steady_clock::now() + kStillTimeout;
    for (;;) {
      auto changed = live_.events.expect(
          [](const qemu::QmpEvent& event) { return event.name == "JOB_STATUS_CHANGE"; });
      qemu::Command query{"query-jobs", json::object()};
      CO_TRY(json answer, co_await ask(live_, std::move(query)));
      bool all = true;
      for (Job& job : jobs_in(answer)) {
        CO_TRY(bool is_calm, co_await settle(std::move(job)));
        all = all && is_calm;
      }
      if (all)
        co_return Result<>{};
      if (std::chrono::steady_clock::now() > deadline)
        co_return fail(Errc::Timeout,
                       fmt::format("a pull does not stand still within {} s, so QEMU's block nodes "
                                   "cannot be looked at",
                                   kStillTimeout.count()));
      co_await changed->wait(kLookAgain);
    }
  }

  // False if it is to be asked for again.
  asio::awaitable<Result<bool>> settle(Job job) {
    if (job.status == "concluded" && !disk_of_job(job.id).empty()) {
      CO_TRY_OK(co_await dismiss(std::move(job)));
      co_return true;
    }
    // What waits to be finalized has its filter still, and nobody else finalizes it.
    if (job.type != kPull || job.status == "pending" || job.status == "null")
      co_return true;
    const bool is_still = job.status == "paused";
    const bool first = paused_.insert(job.id).second;
    if (is_still || !first)
      co_return is_still;
    // One that cannot be paused any more is on its way to its end.
    qemu::Command pause{"job-pause", {{"id", job.id}}};
    auto answer = co_await ask(live_, std::move(pause));
    if (!answer && answer.error().code() == Errc::Lost)
      co_return std::unexpected(std::move(answer).error());
    co_return false;
  }

  asio::awaitable<Result<>> dismiss(Job job) {
    auto known = live_.state.jobs.find(disk_of_job(job.id));
    if (known != live_.state.jobs.end() && known->second.outcome.empty()) {
      note_outcome(known->second, good_end(known->second), job.error);
      CO_TRY_OK(save_run(live_.context.paths, live_.state));
    }
    paused_.erase(job.id);
    qemu::Command command{"job-dismiss", {{"id", std::move(job.id)}}};
    CO_TRY_OK(co_await ask(live_, std::move(command)));
    co_return Result<>{};
  }

  // Also what a tenured that died meanwhile had paused: nobody else does.
  asio::awaitable<void> resume() {
    for (const std::string& id : paused_) {
      qemu::Command command{"job-resume", {{"id", id}}};
      auto answer = co_await ask(live_, std::move(command));
      if (!answer && answer.error().code() != Errc::NotFound)
        live_.context.log(fmt::format("{}: {}", live_.state.ref.vm, answer.error().what()));
    }
  }

  Live& live_;
  std::set<std::string> paused_;  // ids
};

}  // namespace

asio::awaitable<Result<std::vector<json>>> look_at_blocks(Live& live,
                                                          std::vector<qemu::Command> queries) {
  auto look = std::make_unique<Look>(live);
  co_return co_await look->run(std::move(queries));
}

}  // namespace tenure::guest
