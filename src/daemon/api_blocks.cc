// SPDX-License-Identifier: Apache-2.0
// The methods for the images of a guest's disks.
#include <nlohmann/json.hpp>

#include "daemon/api.h"
#include "daemon/api_parameters.h"

namespace tenure::daemon {
namespace {

using nlohmann::json;

guest::BlockJobRequest job_request(std::string op, const json& parameters) {
  return {.op = std::move(op),
          .disk = text(parameters, "disk"),
          .top = text(parameters, "top"),
          .base = text(parameters, "base"),
          .shallow = flag(parameters, "shallow").value_or(false),
          .dest = text(parameters, "dest"),
          .format = text(parameters, "format"),
          .existing = flag(parameters, "existing").value_or(false),
          .then = text(parameters, "then"),
          .bandwidth = number<uint64_t>(parameters, "bandwidth").value_or(0)};
}

asio::awaitable<Result<json>> start_on(Guests& guests, std::string op, json parameters,
                                       Requester who) {
  guest::BlockJobRequest request = job_request(std::move(op), parameters);
  std::string guest = text(parameters, "guest");
  bool wait = flag(parameters, "wait").value_or(false);
  CO_TRY(std::string status,
         co_await guests.start_job(std::move(guest), std::move(request), wait, std::move(who)));
  json reply = {{"status", status}};
  co_return reply;
}

}  // namespace

Api::Reply Api::snapshot(json parameters, Requester who) {
  std::string guest = text(parameters, "guest");
  guest::SnapshotRequest request{.disks = {},
                                 .existing = flag(parameters, "existing").value_or(false)};
  for (const json& one : parameters.at("disks"))
    request.disks.push_back({.disk = one.at("disk"), .path = one.at("path")});
  CO_TRY_OK(co_await guests_.snapshot(std::move(guest), std::move(request), std::move(who)));
  co_return json::object();
}

Api::Reply Api::block_commit(json parameters, Requester who) {
  std::string op = "blockcommit";
  co_return co_await start_on(guests_, std::move(op), std::move(parameters), std::move(who));
}

Api::Reply Api::block_pull(json parameters, Requester who) {
  std::string op = "blockpull";
  co_return co_await start_on(guests_, std::move(op), std::move(parameters), std::move(who));
}

Api::Reply Api::block_copy(json parameters, Requester who) {
  std::string op = "blockcopy";
  co_return co_await start_on(guests_, std::move(op), std::move(parameters), std::move(who));
}

Api::Reply Api::block_job(json parameters, Requester who) {
  std::string guest = text(parameters, "guest");
  std::string disk = text(parameters, "disk");
  std::string action = text(parameters, "action");
  bool limits = parameters.contains("bandwidth") && !parameters.at("bandwidth").is_null();
  if (!action.empty()) {
    CO_TRY_OK(co_await guests_.steer_job(guest, disk, std::move(action), std::move(who)));
  }
  CO_TRY(GuestName name, guests_.find(guest));
  auto running = guests_.running(name.uuid);
  if (!running)
    co_return fail(Errc::Busy, name.name + " is not running");
  if (limits) {
    std::string limited = disk;
    CO_TRY_OK(co_await running->limit_job(std::move(limited),
                                          number<uint64_t>(parameters, "bandwidth").value_or(0)));
  }
  CO_TRY(json jobs, co_await running->list_jobs(std::move(disk)));
  json reply = {{"jobs", std::move(jobs)}};
  co_return reply;
}

}  // namespace tenure::daemon
