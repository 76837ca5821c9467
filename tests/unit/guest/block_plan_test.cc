// SPDX-License-Identifier: Apache-2.0
// Which images a block job is about, and what QEMU is told.
#include "guest/plan/block_plan.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace tenure::guest {
namespace {

using nlohmann::json;

qemu::DiskChain chain(std::initializer_list<const char*> paths) {
  qemu::DiskChain all;
  for (const char* path : paths) {
    const std::string node = "d." + std::to_string(all.members.size());
    all.members.push_back({.node = node,
                           .format = "qcow2",
                           .storage = {.name = node + ".storage", .driver = "file", .path = path},
                           .data = {}});
  }
  all.root = "d.0";
  return all;
}

const qemu::DiskChain kThree = chain({"/a/top", "/a/middle", "/a/base"});

json arguments_of(const BlockJobRequest& request, const qemu::DiskChain& of = kThree) {
  auto plan = plan_job(of, request);
  EXPECT_TRUE(plan) << plan.error().what();
  if (!plan)
    return {};
  json arguments = job_command(of, *plan, request, "job-d", "d.9").arguments;
  EXPECT_EQ(arguments.at("auto-finalize"), false);
  EXPECT_EQ(arguments.at("auto-dismiss"), false);
  return arguments;
}

TEST(BlockPlan, ACommitOfTheTopWaitsToBeTold) {
  const BlockJobRequest request{.op = "blockcommit"};
  auto plan = plan_job(kThree, request);
  ASSERT_TRUE(plan);
  EXPECT_TRUE(plan->becomes_ready);
  EXPECT_TRUE(plan->writes_base);
  EXPECT_EQ(plan->base, 2U);
  const json arguments = arguments_of(request);
  EXPECT_EQ(arguments.at("base-node"), "d.2");
  EXPECT_FALSE(arguments.contains("top-node"));
  EXPECT_FALSE(arguments.contains("backing-file"));
}

TEST(BlockPlan, ACommitBelowTheTopEndsByItself) {
  const BlockJobRequest request{.op = "blockcommit", .top = "/a/middle", .bandwidth = 5};
  auto plan = plan_job(kThree, request);
  ASSERT_TRUE(plan);
  EXPECT_FALSE(plan->becomes_ready);
  const json arguments = arguments_of(request);
  EXPECT_EQ(arguments.at("top-node"), "d.1");
  EXPECT_EQ(arguments.at("backing-file"), "/a/base");
  EXPECT_EQ(arguments.at("speed"), 5);
  EXPECT_EQ(arguments_of({.op = "blockcommit", .shallow = true}).at("base-node"), "d.1");
}

TEST(BlockPlan, APullKeepsItsBase) {
  EXPECT_FALSE(arguments_of({.op = "blockpull"}).contains("base-node"));
  const json arguments = arguments_of({.op = "blockpull", .base = "/a/base"});
  EXPECT_EQ(arguments.at("base-node"), "d.2");
  EXPECT_EQ(arguments.at("backing-file"), "/a/base");
}

TEST(BlockPlan, ACopyIsOfAllOrOfTheTop) {
  BlockJobRequest request{.op = "blockcopy", .dest = "/a/copy"};
  EXPECT_EQ(arguments_of(request).at("sync"), "full");
  EXPECT_EQ(arguments_of(request).at("target"), "d.9");
  request.shallow = true;
  EXPECT_EQ(arguments_of(request).at("sync"), "top");
}

TEST(BlockPlan, WhatMakesNoSenseIsRefused) {
  const std::vector<std::pair<BlockJobRequest, Errc>> bad = {
      {{.op = "blockcommit", .top = "/a/none"}, Errc::NotFound},
      {{.op = "blockcommit", .base = "/a/top"}, Errc::Invalid},
      {{.op = "blockcommit", .top = "/a/base"}, Errc::Invalid},
      {{.op = "blockcommit", .top = "/a/base", .shallow = true}, Errc::Invalid},
      {{.op = "blockcommit", .base = "/a/base", .shallow = true}, Errc::Invalid},
      {{.op = "blockcommit", .top = "/a/middle", .then = "pivot"}, Errc::Invalid},
      {{.op = "blockcommit", .then = "stop"}, Errc::Invalid},
      {{.op = "blockpull", .base = "/a/top"}, Errc::Invalid},
      {{.op = "blockcopy", .dest = "copy"}, Errc::Invalid},
      {{.op = "blockcopy", .dest = "/a/base"}, Errc::Exists},
      {{.op = "blockfold"}, Errc::Invalid}};
  for (const auto& [request, code] : bad) {
    auto plan = plan_job(kThree, request);
    ASSERT_FALSE(plan) << request.op << " " << request.top << " " << request.base;
    EXPECT_EQ(plan.error().code(), code) << plan.error().what();
  }
  const qemu::DiskChain one = chain({"/a/only"});
  EXPECT_FALSE(plan_job(one, {.op = "blockcommit"}));
  EXPECT_FALSE(plan_job(one, {.op = "blockpull"}));
  EXPECT_FALSE(plan_job(chain({}), {.op = "blockcopy", .dest = "/x"}));
}

}  // namespace
}  // namespace tenure::guest
