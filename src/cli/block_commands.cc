// SPDX-License-Identifier: Apache-2.0
// The images of a running guest's disks: snapshots, and the jobs that merge and copy them.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/text.h"
#include "cli/answer.h"
#include "cli/commands.h"

namespace tenure::cli {
namespace {

using nlohmann::json;

// DISK FILE, or DISK=FILE as often as wanted.
Result<json> disks_of(const std::vector<std::string>& words) {
  auto entry = [](const std::string& disk, const std::string& path) {
    return json{{"disk", disk}, {"path", absolute_path(path)}};
  };
  if (words.size() == 2 && words[0].find('=') == std::string::npos)
    return json::array({entry(words[0], words[1])});
  json disks = json::array();
  for (const std::string& word : words) {
    size_t equals = word.find('=');
    if (equals == 0 || equals == word.npos || equals + 1 == word.size())
      return fail(Errc::Invalid, word + ": DISK FILE, or DISK=FILE such as vda=/images/vda.1");
    disks.push_back(entry(word.substr(0, equals), word.substr(equals + 1)));
  }
  return disks;
}

// How the job ends once two images are alike: "" leaves it to a later `tenure blockjob`.
Result<std::string> ending_of(const Options& options) {
  if (int{options.pivot} + int{options.finish} + int{options.abort} > 1)
    return fail(Errc::Invalid, "one of --pivot, --finish and --abort");
  return options.pivot    ? std::string("pivot")
         : options.finish ? std::string("finish")
         : options.abort  ? std::string("abort")
                          : std::string();
}

json absolute_or_null(const std::string& path) {
  return path.empty() ? json() : json(absolute_path(path));
}

// One of the three jobs; `parameters` are what it has of its own.
int start_job(const Options& options, const std::string& method, size_t words, json parameters) {
  auto then = ending_of(options);
  if (!then)
    return failed_locally(options, then.error());
  if (options.words.size() != words)
    return failed_locally(options, Error(Errc::Invalid, words == 1 ? "one disk, such as vda"
                                                                   : "a disk and a destination"));
  bool wait = options.wait || !then->empty();
  parameters.update({{"guest", options.guest},
                     {"disk", options.words.front()},
                     {"shallow", options.shallow},
                     {"bandwidth", options.bandwidth.value_or(0) << 20U},
                     {"wait", wait}});
  if (!then->empty())
    parameters["then"] = *then;
  return run_call(options, method, parameters, [&](Out& out, const json& reply) {
    out.line(printable(fmt::format("{}: {} of {}: {}", options.guest, options.command,
                                   options.words.front(), reply.value("status", ""))));
  });
}

void put_jobs(Out& out, const json& jobs) {
  for (const json& job : jobs) {
    uint64_t done = job.value("done", uint64_t{0}), total = job.value("total", uint64_t{0});
    uint64_t percent = total == 0 ? 100 : done / (total / 100 + 1);
    out.line(printable(fmt::format(
        "{}: {} {}, {}% ({} of {} bytes){}", job.value("alias", ""), job.value("op", ""),
        job.value("status", ""), percent, done, total,
        job.value("writes", "").empty() ? "" : ", writes to " + job.value("writes", ""))));
  }
}

}  // namespace

int run_blockcommit(const Options& options) {
  return start_job(
      options, "BlockCommit", 1,
      {{"top", absolute_or_null(options.top)}, {"base", absolute_or_null(options.base)}});
}

int run_blockpull(const Options& options) {
  return start_job(options, "BlockPull", 1, {{"base", absolute_or_null(options.base)}});
}

int run_blockcopy(const Options& options) {
  std::string dest = options.words.size() == 2 ? absolute_path(options.words[1]) : "";
  json format = options.image_format.empty() ? json() : json(options.image_format);
  return start_job(options, "BlockCopy", 2,
                   {{"dest", dest}, {"format", format}, {"existing", options.existing}});
}

int run_blockjob(const Options& options) {
  auto action = ending_of(options);
  if (action && options.words.size() != 1)
    action = fail(Errc::Invalid, "one disk, such as vda");
  if (!action)
    return failed_locally(options, action.error());
  json parameters = {{"guest", options.guest}, {"disk", options.words.front()}};
  if (!action->empty())
    parameters["action"] = *action;
  if (options.bandwidth)
    parameters["bandwidth"] = *options.bandwidth << 20U;
  auto reply = call(paths_of(options), "BlockJob", std::move(parameters));
  if (!reply)
    return failed(options, reply.error());
  Out out;
  if (wants_json(options))
    put_json(out, *reply);
  else
    put_jobs(out, reply->at("jobs"));
  return 0;
}

int run_snapshot(const Options& options) {
  auto disks = disks_of(options.words);
  if (!disks)
    return failed_locally(options, disks.error());
  json parameters = {{"guest", options.guest}, {"disks", *disks}, {"existing", options.existing}};
  return run_call(options, "Snapshot", parameters, [&](Out& out, const json&) {
    for (const json& disk : *disks)
      out.line(printable(fmt::format("{}: {} writes to {}", options.guest, disk.value("disk", ""),
                                     disk.value("path", ""))));
  });
}

}  // namespace tenure::cli
