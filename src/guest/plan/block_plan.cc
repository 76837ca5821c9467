// SPDX-License-Identifier: Apache-2.0
#include "guest/plan/block_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace tenure::guest {
namespace {

using nlohmann::json;

Result<size_t> place_of(const qemu::DiskChain& chain, const std::string& path) {
  auto named = [&](const qemu::ChainMember& one) { return one.storage.path == path; };
  auto member = std::ranges::find_if(chain.members, named);
  if (member != chain.members.end())
    return static_cast<size_t>(member - chain.members.begin());
  std::string all;
  for (const qemu::ChainMember& one : chain.members)
    all += (all.empty() ? "" : ", ") + one.storage.path;
  return fail(Errc::NotFound, fmt::format("{}: not in the chain, which is {}", path, all));
}

Result<JobPlan> plan_commit(const qemu::DiskChain& chain, const BlockJobRequest& request) {
  if (chain.members.size() < 2)
    return fail(Errc::Invalid, "the disk has one image only: there is nothing to commit");
  if (request.shallow && !request.base.empty())
    return fail(Errc::Invalid, "either a base or shallow");
  JobPlan plan{.base = chain.members.size() - 1, .writes_base = true};
  if (!request.top.empty()) {
    TRY(plan.top, place_of(chain, request.top));
  }
  if (!request.base.empty()) {
    TRY(plan.base, place_of(chain, request.base));
  }
  if (request.shallow)
    plan.base = plan.top + 1;
  if (*plan.base <= plan.top || *plan.base >= chain.members.size())
    return fail(Errc::Invalid, "the base must lie below the top");
  if (chain.members[*plan.base].data)
    return fail(Errc::Unsupported,
                chain.members[*plan.base].storage.path + ": it has an external data file");
  plan.becomes_ready = plan.top == 0;
  if (!plan.becomes_ready && !request.then.empty())
    return fail(Errc::Invalid, "the guest does not write to that top: the commit ends by itself");
  return plan;
}

Result<JobPlan> plan_pull(const qemu::DiskChain& chain, const BlockJobRequest& request) {
  if (chain.members.size() < 2)
    return fail(Errc::Invalid, "the disk has one image only: there is nothing to pull");
  JobPlan plan;
  if (request.base.empty())
    return plan;
  TRY(size_t base, place_of(chain, request.base));
  if (base == 0)
    return fail(Errc::Invalid, "the base must lie below the top");
  plan.base = base;
  return plan;
}

Result<JobPlan> plan_copy(const qemu::DiskChain& chain, const BlockJobRequest& request) {
  if (!request.dest.starts_with('/'))
    return fail(Errc::Invalid, request.dest + ": not an absolute path");
  auto taken = [&](const qemu::ChainMember& one) { return one.storage.path == request.dest; };
  if (std::ranges::any_of(chain.members, taken))
    return fail(Errc::Exists, request.dest + ": it is in the chain of the disk already");
  return JobPlan{.becomes_ready = true};
}

struct Row {
  std::string_view op;
  Result<JobPlan> (*plan)(const qemu::DiskChain&, const BlockJobRequest&);
};
constexpr Row kRows[] = {
    {"blockcommit", plan_commit}, {"blockpull", plan_pull}, {"blockcopy", plan_copy}};

void add_commit(json& arguments, const qemu::DiskChain& chain, const JobPlan& plan) {
  const qemu::ChainMember& base = chain.members[*plan.base];
  arguments["base-node"] = base.node;
  if (plan.becomes_ready)
    return;
  arguments["top-node"] = chain.members[plan.top].node;
  // What the image above will name as its backing; QEMU's own name may be a "json:" one.
  arguments["backing-file"] = base.storage.path;
}

void add_pull(json& arguments, const qemu::DiskChain& chain, const JobPlan& plan) {
  if (!plan.base)
    return;
  const qemu::ChainMember& base = chain.members[*plan.base];
  arguments["base-node"] = base.node;
  arguments["backing-file"] = base.storage.path;
}

}  // namespace

Result<JobPlan> plan_job(const qemu::DiskChain& chain, const BlockJobRequest& request) {
  auto row = std::ranges::find(kRows, request.op, &Row::op);
  if (row == std::end(kRows))
    return fail(Errc::Invalid, request.op + ": no such job");
  if (chain.members.empty())
    return fail(Errc::Invalid, "QEMU shows no image of the disk");
  bool waits = request.then.empty() || request.then == "pivot" || request.then == "finish";
  if (!waits)
    return fail(Errc::Invalid, request.then + ": pivot or finish");
  return row->plan(chain, request);
}

qemu::Command job_command(const qemu::DiskChain& chain, const JobPlan& plan,
                          const BlockJobRequest& request, const std::string& id,
                          const std::string& target) {
  json arguments = {
      {"job-id", id}, {"device", chain.root}, {"auto-finalize", false}, {"auto-dismiss", false}};
  if (request.bandwidth > 0)
    arguments["speed"] = request.bandwidth;
  if (request.op == "blockcommit") {
    add_commit(arguments, chain, plan);
    return {"block-commit", std::move(arguments)};
  }
  if (request.op == "blockpull") {
    add_pull(arguments, chain, plan);
    return {"block-stream", std::move(arguments)};
  }
  arguments["target"] = target;
  arguments["sync"] = request.shallow ? "top" : "full";
  return {"blockdev-mirror", std::move(arguments)};
}

}  // namespace tenure::guest
