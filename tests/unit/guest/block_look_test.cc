// SPDX-License-Identifier: Apache-2.0
// QEMU's block nodes are never looked at while a pull runs or has ended undismissed, and what a
// dismissed job said is not lost.
#include "guest/change/block_look.h"

#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>

#include "guest/change/block_job.h"
#include "guest/change/chain.h"
#include "qemu/qmp_fake.h"
#include "tests/unit/guest/folder.h"
#include "tests/unit/registrar/world.h"

namespace tenure::guest {
namespace {

using nlohmann::json;

constexpr char kJob[] = "job-virtio-disk1";

class BlockLook : public test::FolderTest {
 protected:
  BlockLook() {
    live.state.ref = {.virt = "qemu", .vm = "web", .uuid = test::kUuid, .run = 1};
    live.qmp = qemu;
    qemu->answer("query-jobs", [this](const json&) -> Result<json> { return jobs(); });
    for (const char* look : {"x-debug-query-block-graph", "query-named-block-nodes", "query-block"})
      qemu->answer(look, [this](const json&) -> Result<json> {
        bool harmless = type != "stream" || status == "paused" || status == "pending";
        crashed = crashed || !(harmless || status == "null");
        looked = true;
        return json::array();
      });
    qemu->answer("job-pause", [this](const json& of) -> Result<json> {
      if (of.at("id") != kJob || status != "running")
        return fail(Errc::Internal, "not now");
      change(on_pause);
      return json::object();
    });
    qemu->answer("job-resume", [this](const json&) -> Result<json> {
      if (status != "paused")
        return fail(Errc::Internal, "not paused");
      change("running");
      return json::object();
    });
    qemu->answer("job-dismiss", [this](const json&) -> Result<json> {
      change("null");
      return json::object();
    });
    qemu->on_event([this](const qemu::QmpEvent& event) { live.events.deliver(event); });
  }
  void pull(std::string now) {
    status = std::move(now);
    live.state.jobs["virtio-disk1"] = {.op = "blockpull", .told = "started"};
  }
  json jobs() const {
    if (status == "null")
      return json::array();
    json job = {{"id", kJob}, {"type", type}, {"status", status}};
    if (!error.empty())
      job["error"] = error;
    return json::array({job});
  }
  void change(const std::string& to) {
    status = to;
    qemu->emit("JOB_STATUS_CHANGE", {{"id", kJob}, {"status", to}});
  }
  template <class T>
  T run(asio::awaitable<T> task) {
    std::optional<T> result;
    asio::co_spawn(loop, std::move(task),
                   [&](std::exception_ptr, T value) { result = std::move(value); });
    loop.restart();
    loop.run();
    return std::move(*result);
  }
  std::string status = "null", type = "stream", error, on_pause = "paused";
  bool crashed = false, looked = false;

  asio::io_context loop;
  asio::thread_pool pool{1};
  test::Fate fate;
  test::MemoryLedger ledger{fate};
  test::SteppedAudit audit{fate};
  registrar::Journal journal{ledger, audit, pool, system_clock(), {}};
  Context context{.executor = loop.get_executor(),
                  .pool = pool,
                  .journal = journal,
                  .paths = paths,
                  .settings = {},
                  .mounts = {},
                  .no_fence_reason = "",
                  .boot_id = "b",
                  .log = [](const std::string&) {},
                  .new_txn = [] { return std::string("t1"); }};
  std::shared_ptr<qemu::FakeQmp> qemu = std::make_shared<qemu::FakeQmp>(loop.get_executor());
  Live live{.context = context,
            .domain = std::make_unique<domain::Domain>(),
            .options = {},
            .state = {},
            .seams = nullptr,
            .holds = {},
            .qmp = nullptr,
            .events = Events(loop.get_executor()),
            .turns = {},
            .balloon_txn = {}};
};

TEST_F(BlockLook, APullThatRunsStandsStillMeanwhile) {
  pull("running");
  ASSERT_TRUE(run(ask_block_nodes(live)));
  EXPECT_TRUE(looked);
  EXPECT_FALSE(crashed);
  EXPECT_EQ(status, "running") << "it goes on";
}

TEST_F(BlockLook, OneThatAnEarlierDaemonLeftStandingGoesOn) {
  pull("paused");
  ASSERT_TRUE(run(ask_block_nodes(live)));
  EXPECT_FALSE(crashed);
  EXPECT_EQ(status, "running");
}

TEST_F(BlockLook, OneThatFailsInsteadOfStandingStillIsDismissed) {
  pull("running");
  on_pause = "concluded";
  error = "Input/output error";
  ASSERT_TRUE(run(ask_block_nodes(live)));
  EXPECT_FALSE(crashed);
  EXPECT_EQ(status, "null");
}

// The event of its end waits for the turn that another operation has.
TEST_F(BlockLook, WhatHasFailedIsDismissedAndNotForgotten) {
  pull("concluded");
  error = "Input/output error";
  ASSERT_TRUE(run(ask_block_nodes(live)));
  EXPECT_FALSE(crashed);
  EXPECT_EQ(status, "null");
  auto kept = load_run(run_dir(paths, test::kUuid) + "/state.json");
  ASSERT_TRUE(kept) << "a daemon that dies now must find how it ended";
  EXPECT_EQ(kept->jobs.at("virtio-disk1").outcome, "failed");
  EXPECT_NE(kept->jobs.at("virtio-disk1").why.find("Input/output error"), std::string::npos);
}

TEST_F(BlockLook, WhatIsRecordedAndNotDismissedIsDismissed) {
  status = "concluded";
  ASSERT_TRUE(run(ask_block_nodes(live)));
  EXPECT_FALSE(crashed);
  EXPECT_EQ(qemu->count("job-dismiss"), 1U);
}

TEST_F(BlockLook, WhatCannotBeDismissedIsNotLookedAt) {
  pull("concluded");
  qemu->refuse("job-dismiss", Error(Errc::Internal, "no"));
  EXPECT_FALSE(run(ask_block_nodes(live)));
  EXPECT_FALSE(looked);
}

TEST_F(BlockLook, WhatWaitsToBeFinalizedAndOtherJobsAreLeftAlone) {
  pull("pending");
  ASSERT_TRUE(run(ask_block_nodes(live)));
  type = "mirror";
  status = "running";
  ASSERT_TRUE(run(ask_block_nodes(live)));
  EXPECT_EQ(qemu->count("job-pause") + qemu->count("job-resume"), 0U);
}

}  // namespace
}  // namespace tenure::guest
