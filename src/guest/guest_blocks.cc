// SPDX-License-Identifier: Apache-2.0
// What Guest does with the images of its disks.
#include <fmt/format.h>

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <nlohmann/json.hpp>

#include "domain/change.h"
#include "guest/change/block_job.h"
#include "guest/guest.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr std::chrono::milliseconds kFirstPause = 100ms, kLongestPause = 60s;

std::string text_of(const json& object, const char* key) {
  auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

}  // namespace

asio::awaitable<Result<>> Guest::snapshot(SnapshotRequest request, registrar::Txn txn) {
  registrar::Turns::Turn turn = co_await live_.turns.next();
  if (ended_)
    co_return fail(Errc::Busy, live_.state.ref.vm + " is not running");
  co_return co_await guest::snapshot(live_, std::move(request), std::move(txn));
}

asio::awaitable<Result<std::string>> Guest::start_job(BlockJobRequest request, bool wait,
                                                      registrar::Txn txn) {
  std::string alias;
  {
    registrar::Turns::Turn turn = co_await live_.turns.next();
    if (ended_)
      co_return fail(Errc::Busy, live_.state.ref.vm + " is not running");
    CO_TRY(alias, co_await guest::start_job(live_, std::move(request), std::move(txn)));
  }
  if (!wait)
    co_return std::string("started");
  std::string copy = alias;
  CO_TRY_OK(co_await until_job(std::move(copy), true));
  co_return std::string(live_.state.jobs.contains(alias) ? "ready" : "ended");
}

asio::awaitable<Result<>> Guest::steer_job(std::string disk, std::string action,
                                           registrar::Txn txn) {
  std::string alias;
  {
    registrar::Turns::Turn turn = co_await live_.turns.next();
    if (ended_)
      co_return fail(Errc::Busy, live_.state.ref.vm + " is not running");
    CO_TRY(alias, domain::find_device(*live_.domain, disk));
    std::string copy = alias;
    CO_TRY_OK(co_await guest::steer_job(live_, std::move(copy), std::move(action), std::move(txn)));
  }
  co_return co_await until_job(std::move(alias), false);
}

asio::awaitable<Result<>> Guest::limit_job(std::string disk, uint64_t bandwidth) {
  registrar::Turns::Turn turn = co_await live_.turns.next();
  if (ended_)
    co_return fail(Errc::Busy, live_.state.ref.vm + " is not running");
  CO_TRY(std::string alias, domain::find_device(*live_.domain, disk));
  co_return co_await guest::limit_job(live_, std::move(alias), bandwidth);
}

asio::awaitable<Result<json>> Guest::list_jobs(std::string disk) {
  if (ended_ || !live_.qmp)
    co_return fail(Errc::Busy, live_.state.ref.vm + " is not running");
  std::string alias;
  if (!disk.empty()) {
    CO_TRY(alias, domain::find_device(*live_.domain, disk));
  }
  CO_TRY(json jobs, co_await guest::list_jobs(live_));
  json list = json::array();
  for (json& job : jobs)
    if (alias.empty() || job.at("alias") == alias)
      list.push_back(std::move(job));
  co_return list;
}

void Guest::handle_job(const qemu::QmpEvent& event) {
  static constexpr std::string_view kCalls[] = {"ready", "pending", "concluded"};
  if (event.name != "JOB_STATUS_CHANGE")
    return;
  std::string alias = disk_of_job(text_of(*event.data, "id"));
  std::string status = text_of(*event.data, "status");
  if (alias.empty() || std::ranges::find(kCalls, status) == std::end(kCalls))
    return;
  auto self = shared_from_this();
  auto task = [self, alias]() mutable -> asio::awaitable<void> {
    co_await self->follow_job(std::move(alias));
  };
  asio::co_spawn(live_.context.executor, std::move(task), asio::detached);
}

// QEMU tells it once: what cannot be done now, since the ledger cannot be written, is tried again.
asio::awaitable<void> Guest::follow_job(std::string alias) {
  asio::steady_timer pause(live_.context.executor);
  for (auto delay = kFirstPause;; delay = std::min(2 * delay, kLongestPause)) {
    Result<> driven;
    {
      registrar::Turns::Turn turn = co_await live_.turns.next();
      if (ended_)
        co_return;
      std::string copy = alias;
      driven = co_await drive_job(live_, std::move(copy));
    }
    if (!driven)
      live_.context.log(fmt::format("{}: {}", live_.state.ref.vm, driven.error().what()));
    // A monitor that is lost is looked for, and then for the jobs (catch_up).
    if (driven || driven.error().code() == Errc::Lost || !live_.state.jobs.contains(alias))
      co_return;
    pause.expires_after(delay);
    asio::error_code error;
    co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
  }
}

asio::awaitable<Result<>> Guest::until_job(std::string alias, bool or_ready) {
  auto timer = std::make_shared<asio::steady_timer>(live_.context.executor);
  live_.job_waiters.push_back(timer);
  auto waiting = [&] {
    auto job = live_.state.jobs.find(alias);
    if (ended_ || job == live_.state.jobs.end())
      return false;
    return !or_ready || !job->second.then.empty() || job->second.told != "ready";
  };
  while (waiting()) {
    timer->expires_at(asio::steady_timer::time_point::max());
    asio::error_code error;
    co_await timer->async_wait(asio::redirect_error(asio::use_awaitable, error));
    if (live_.events.closed())
      break;
  }
  std::erase(live_.job_waiters, timer);
  auto end = live_.job_ends.find(alias);
  if (end != live_.job_ends.end())
    co_return end->second;
  if (live_.state.jobs.contains(alias) && !ended_ && !live_.events.closed())
    co_return Result<>{};
  co_return fail(Errc::Lost, live_.state.ref.vm + ": it ended before the job did");
}

}  // namespace tenure::guest
