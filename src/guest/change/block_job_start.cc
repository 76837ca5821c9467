// SPDX-License-Identifier: Apache-2.0
// The start of a block job: claims of the image that it writes to, intents, acts, that image opened
// for writing, the job, read-back, results.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "guest/change/block_job.h"
#include "guest/change/chain.h"
#include "guest/change/snapshot.h"
#include "guest/run/ask.h"
#include "guest/run/confirm.h"
#include "qemu/chain_commands.h"

namespace tenure::guest {
namespace {

using model::Claim;
using registrar::Hold;
using registrar::Txn;

class JobStarter {
 public:
  JobStarter(Live& live, domain::Disk disk, BlockJobRequest request, Txn txn)
      : live_(live),
        disk_(std::move(disk)),
        request_(std::move(request)),
        txn_(std::move(txn)),
        operation_(live.context.journal, live.state.ref, txn_, *live.seams, &live.holds) {}

  asio::awaitable<Result<std::string>> run() {
    CO_TRY_OK(co_await prepare());
    co_await dismiss_former();
    // A tenured that comes later finds it here, and asks QEMU what came of it.
    live_.state.jobs[alias()] = job_;
    Result<> done = save();
    if (done)
      done = co_await steps();
    if (!done) {
      Error why = std::move(done).error();
      co_await undo(why);
      co_return std::unexpected(std::move(why));
    }
    for (Hold& hold : operation_.take_holds()) live_.holds.push_back(std::move(hold));
    live_.job_ends.erase(alias());
    live_.state.jobs.at(alias()).told = "started";
    CO_TRY_OK(save());
    co_return alias();
  }

 private:
  const std::string& alias() const { return disk_.info.alias; }
  Result<> save() const { return save_run(live_.context.paths, live_.state); }
  bool copies() const { return request_.op == "blockcopy"; }

  asio::awaitable<Result<>> prepare() {
    domain::Disk disk = disk_;
    CO_TRY(chain_, co_await look_at_chain(live_, std::move(disk)));
    CO_TRY(plan_, plan_job(chain_, request_));
    job_ = {.op = request_.op, .then = request_.then, .who = txn_.who};
    if (plan_.writes_base) {
      written_ = chain_.members[*plan_.base];
      job_.writes = written_.storage.path;
      job_.format = written_.format;
    }
    if (!copies())
      co_return Result<>{};
    if (request_.format.empty())
      request_.format = chain_.members.front().format;
    job_.writes = request_.dest;
    job_.format = request_.format;
    co_return take_copy();
  }

  Result<> take_copy() {
    static constexpr std::string_view kFormats[] = {"raw", "qcow2"};
    if (std::ranges::find(kFormats, request_.format) == std::end(kFormats))
      return fail(Errc::Unsupported, request_.format + ": copies are raw or qcow2");
    if (request_.shallow && request_.format == "raw")
      return fail(Errc::Invalid, "a raw image has no backing: a shallow copy must be qcow2");
    if (request_.existing) {
      TRY_OK(check_existing());
    } else {
      TRY(made_, make_image_file(request_.dest));
    }
    auto facts = kernel::node_facts(request_.dest);
    Result<> sized = facts ? size_copy(*facts) : fail(std::move(facts).error());
    if (!sized) {
      remove_file();
      return sized;
    }
    written_ = qemu::new_member(disk_, chain_.next, request_.dest, request_.format, *facts);
    return {};
  }

  // What its header says of other images must be what the copy will stand on.
  Result<> check_existing() const {
    TRY(qemu::ImageChain there, qemu::read_chain(request_.dest, request_.format, false));
    bool has_backing = request_.shallow && chain_.members.size() > 1;
    if (there.size() > 1 && there[1].data_file)
      return fail(Errc::Unsupported, request_.dest + ": it has an external data file");
    if (there.size() > 1 && !has_backing)
      return fail(Errc::Invalid, request_.dest + ": it has a backing image, and all is copied");
    if (has_backing && (there.size() < 2 || there[1].path != chain_.members[1].storage.path))
      return fail(Errc::Invalid, fmt::format("{}: its backing image is not {}", request_.dest,
                                             chain_.members[1].storage.path));
    return {};
  }

  // QEMU formats a qcow2 image itself; a raw one is as long as the disk.
  Result<> size_copy(const kernel::NodeFacts& facts) const {
    uint64_t size = chain_.members.front().size;
    bool raw_file = made_ && request_.format == "raw";
    if (raw_file && truncate(request_.dest.c_str(), static_cast<off_t>(size)) < 0)
      return fail_sys("truncate", request_.dest);
    bool device = facts.type == kernel::FileType::Block && request_.format == "raw";
    if (device && facts.size < size)
      return fail(Errc::Invalid, fmt::format("{}: {} bytes, and the disk has {}", request_.dest,
                                             facts.size, size));
    return {};
  }

  void remove_file() const {
    if (made_)
      unlink(request_.dest.c_str());
  }

  // Once its start was told, what undoes it is an end.
  trail::Record control(bool success) const {
    bool ends = !success && operation_.announced();
    trail::Record record =
        control_record(request_.op, ends ? "cancelled" : "started", live_.state, live_.domain->kvm);
    record.success = success || ends;
    return std::move(record.set("device", alias()));
  }

  Result<std::vector<Claim>> plan() {
    if (job_.writes.empty())
      return std::vector<Claim>{};
    TRY(qemu::Image image, image_at(job_.writes, job_.format, true));
    TRY(ChainPlan extra, plan_images(live_, disk_, {std::move(image)}, request_.op));
    nodes_ = std::move(extra.plan.nodes);
    facts_ = std::move(extra.facts);
    std::vector<Claim> claims = not_held(live_.holds, std::move(extra.plan.claims));
    for (Claim& claim : claims)
      if (claim.record.kind == trail::Kind::Disk && plan_.base)
        claim.record.set("depth", *plan_.base);
    return claims;
  }

  asio::awaitable<Result<>> steps() {
    CO_TRY(std::vector<Claim> claims, plan());
    CO_TRY_OK(co_await operation_.intend(std::move(claims), control(true)));
    CO_TRY_OK(co_await operation_.apply());
    CO_TRY_OK(live_.seams->add_nodes(nodes_));
    Result<> acted = co_await act();
    if (!acted)
      operation_.refuse_unconfirmed();
    CO_TRY_OK(acted);
    std::vector<Claim*> unconfirmed = operation_.unconfirmed();
    CO_TRY_OK(co_await confirm(live_.qmp, live_.state.process, facts_, *live_.seams,
                               std::move(unconfirmed)));
    co_return co_await operation_.conclude(control(true));
  }

  asio::awaitable<Result<>> act() {
    if (plan_.writes_base)
      CO_TRY_OK(co_await open_base());
    if (copies())
      CO_TRY_OK(co_await open_copy());
    qemu::Command command = job_command(chain_, plan_, request_, job_id(alias()), written_.node);
    CO_TRY_OK(co_await ask(live_, std::move(command)));
    co_return Result<>{};
  }

  // An earlier job of this disk that has ended, and whose monitor was lost before QEMU heard that
  // it may forget it, has the id. QEMU mostly knows of none, and dismisses none that goes on.
  asio::awaitable<void> dismiss_former() {
    qemu::Command dismiss{"job-dismiss", {{"id", job_id(alias())}}};
    (void)co_await ask(live_, std::move(dismiss));
  }

  asio::awaitable<Result<>> open_base() {
    size_t below = *plan_.base + 1;
    std::string backing = below < chain_.members.size() ? chain_.members[below].node : "";
    qemu::Command command = qemu::reopen(disk_, written_, backing, true);
    CO_TRY_OK(co_await ask(live_, std::move(command)));
    co_return Result<>{};
  }

  asio::awaitable<Result<>> open_copy() {
    bool has_backing = request_.shallow && chain_.members.size() > 1;
    const qemu::ChainMember* backing = has_backing ? &chain_.members[1] : nullptr;
    if (qemu::has_format_layer(written_.format)) {
      qemu::Command storage = qemu::add_storage(disk_, written_);
      CO_TRY_OK(co_await ask(live_, std::move(storage)));
      if (!request_.existing)
        CO_TRY_OK(co_await create_image(live_, written_, chain_.members.front().size, backing));
    }
    qemu::Command format = qemu::add_format(disk_, written_);
    if (backing != nullptr)
      format.arguments["backing"] = backing->node;
    CO_TRY_OK(co_await ask(live_, std::move(format)));
    co_return Result<>{};
  }

  // Out of QEMU first, then out of the host.
  asio::awaitable<void> undo(const Error& why) {
    co_await stop_job();
    live_.state.jobs.erase(alias());
    std::string disk = alias(), reason = request_.op, word = "it did not start";
    Txn own = txn_;
    log(co_await follow_chain(live_, std::move(disk), std::move(reason), std::move(word),
                              std::move(own)));
    log(co_await operation_.roll_back(control(false), why));
    std::vector<Hold> left = operation_.take_holds();
    log(live_.seams->drop_nodes(nodes_, live_.holds));
    bool gone = left.empty();
    for (Hold& hold : left) live_.holds.push_back(std::move(hold));
    log(save());
    if (gone)
      remove_file();
  }

  // If it started all the same, after a timeout or before something else failed.
  asio::awaitable<void> stop_job() {
    std::string id = job_id(alias());
    auto over = live_.events.expect([id](const qemu::QmpEvent& event) {
      return event.name == "JOB_STATUS_CHANGE" && event.data->value("id", "") == id &&
             event.data->value("status", "") == "concluded";
    });
    qemu::Command cancel{"job-cancel", {{"id", id}}};
    auto cancelled = co_await ask(live_, std::move(cancel));
    if (!cancelled)
      co_return;
    co_await over->wait(kCommandTimeout);
    qemu::Command dismiss{"job-dismiss", {{"id", id}}};
    auto dismissed = co_await ask(live_, std::move(dismiss));
    if (!dismissed)
      log(std::unexpected(std::move(dismissed).error()));
  }

  void log(const Result<>& step) {
    if (!step)
      live_.context.log(
          fmt::format("{}: {}: {}", live_.state.ref.vm, request_.op, step.error().what()));
  }

  Live& live_;
  domain::Disk disk_;
  BlockJobRequest request_;
  Txn txn_;
  registrar::Operation operation_;
  qemu::DiskChain chain_;
  JobPlan plan_;
  BlockJob job_;
  qemu::ChainMember written_;  // the base of a commit, the copy
  std::vector<kernel::DevNode> nodes_;
  Facts facts_;
  bool made_ = false;  // the copy's file is ours to remove
};

}  // namespace

asio::awaitable<Result<std::string>> start_job(Live& live, BlockJobRequest request, Txn txn) {
  if (!live.qmp)
    co_return fail(Errc::Unsupported, request.op + ": no monitor to this guest");
  CO_TRY(domain::Disk disk, chain_disk(live, request.disk));
  if (live.state.jobs.contains(disk.info.alias))
    co_return fail(Errc::Busy, disk.target + ": a job is under way on it; see `tenure blockjob`");
  if (disk.copy_on_read.value_or(false))
    co_return fail(Errc::Unsupported, disk.target + ": a job on a disk with copy_on_read");
  if (disk.readonly && request.op != "blockcopy")
    co_return fail(Errc::Unsupported, disk.target + ": the guest does not write to it");
  auto starter =
      std::make_unique<JobStarter>(live, std::move(disk), std::move(request), std::move(txn));
  co_return co_await starter->run();
}

}  // namespace tenure::guest
