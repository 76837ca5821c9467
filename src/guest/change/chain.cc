// SPDX-License-Identifier: Apache-2.0
#include "guest/change/chain.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "domain/change.h"
#include "domain/text.h"
#include "guest/change/block_look.h"
#include "guest/change/steps.h"
#include "guest/run/ask.h"
#include "guest/run/confirm.h"
#include "qemu/chain_commands.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;
using model::Claim;
using nlohmann::json;
using registrar::Hold;
using registrar::Txn;

constexpr auto kJobTimeout = 60s;  // of the creation of an empty image
constexpr std::string_view kCreation = "create-";

domain::Disk* find_disk(Live& live, const std::string& alias) {
  auto disk = std::ranges::find_if(live.domain->disks,
                                   [&](const auto& one) { return one.info.alias == alias; });
  return disk == live.domain->disks.end() ? nullptr : &*disk;
}

// The number of a device node is that of the grant, whatever has its name now.
bool same_claim(const Claim& one, const Claim& other) {
  return one.record.kind == other.record.kind && one.id == other.id && one.access == other.access &&
         one.holder == other.holder && one.record.get("acl") == other.record.get("acl");
}

bool has_job_access(const Live& live, const std::string& alias, const std::string& path) {
  auto job = live.state.jobs.find(alias);
  return job != live.state.jobs.end() && job->second.writes == path;
}

domain::BackingStore backing_of(const qemu::ChainMember& member) {
  bool block = member.storage.driver != "file";
  return {.kind = block ? domain::SourceKind::Block : domain::SourceKind::File,
          .path = member.storage.path,
          .format = member.format};
}

// The definition has the chain like this from now on, also for a tenured that comes after this one.
Result<> note_chain(Live& live, domain::Disk& disk, const qemu::DiskChain& chain) {
  std::vector<domain::BackingStore> below;
  for (size_t i = 1; i < chain.members.size(); ++i) below.push_back(backing_of(chain.members[i]));
  domain::BackingStore top = backing_of(chain.members.front());
  disk.kind = top.kind;
  disk.path = top.path;
  disk.format = top.format;
  disk.backing = std::move(below);
  if (disk.format != "qcow2")
    disk.metadata_cache_bytes.reset();
  const std::string& alias = disk.info.alias;
  TRY(const std::string element, element_of(live.state, alias));
  std::string changed = domain::with_chain(element, disk);
  note_changed(live.state, alias, domain::pinned_element(*live.domain, alias, changed));
  return save_run(live.context.paths, live.state);
}

bool is_noted(const domain::Disk& disk, const qemu::DiskChain& chain) {
  if (disk.path != chain.members.front().storage.path)
    return false;
  if (!disk.backing)
    return true;  // not stated: the images say it
  bool same = disk.backing->size() + 1 == chain.members.size();
  for (size_t i = 0; same && i < disk.backing->size(); ++i)
    same = (*disk.backing)[i].path == chain.members[i + 1].storage.path;
  return same;
}

// One disk on its way to what QEMU has.
class Follower {
 public:
  Follower(Live& live, domain::Disk& disk, std::string reason, std::string why, Txn txn)
      : live_(live),
        disk_(disk),
        reason_(std::move(reason)),
        why_(std::move(why)),
        txn_(std::move(txn)) {}

  asio::awaitable<Result<>> run() {
    domain::Disk disk = disk_;
    CO_TRY(chain_, co_await look_at_chain(live_, std::move(disk)));
    if (chain_.members.empty())
      co_return Result<>{};
    note(co_await sweep());
    note(co_await reopen());
    CO_TRY(std::vector<Claim> wanted, claims());
    note(co_await grant(wanted));
    note(co_await release(wanted));
    bool noted = is_noted(disk_, chain_);
    if (!noted)
      co_await move();
    co_return outcome_;
  }

 private:
  void note(Result<> step) {
    if (!step && outcome_)
      outcome_ = std::unexpected(std::move(step).error().context(disk_.target));
  }

  asio::awaitable<void> move() {
    DiskMoved moved{.uuid = live_.state.ref.uuid, .before = disk_, .after = {}, .who = txn_.who};
    note(note_chain(live_, disk_, chain_));
    moved.after = disk_;
    if (moved.before.path != moved.after.path && live_.context.disk_moved)
      co_await live_.context.disk_moved(std::move(moved));
  }

  asio::awaitable<Result<>> sweep() {
    Result<> outcome;
    for (const std::string& node : chain_.strays) {
      qemu::Command command{"blockdev-del", {{"node-name", node}}};
      auto answer = co_await ask(live_, std::move(command));
      if (!answer && outcome)
        outcome = std::unexpected(std::move(answer).error().context(node));
    }
    co_return outcome;
  }

  bool is_writable(size_t at) const {
    bool top = at == 0 && !disk_.readonly;
    return top || has_job_access(live_, disk_.info.alias, chain_.members[at].storage.path);
  }

  asio::awaitable<Result<>> reopen() {
    Result<> outcome;
    for (size_t i = 0; i < chain_.members.size(); ++i) {
      const qemu::ChainMember& member = chain_.members[i];
      if (member.storage.readonly != is_writable(i))
        continue;
      bool last = i + 1 == chain_.members.size();
      std::string backing = last ? "" : chain_.members[i + 1].node;
      qemu::Command command = qemu::reopen(disk_, member, backing, is_writable(i));
      auto answer = co_await ask(live_, std::move(command));
      if (!answer && outcome)
        outcome = std::unexpected(std::move(answer).error().context(member.storage.path));
    }
    co_return outcome;
  }

  Result<std::vector<Claim>> claims() {
    TRY(qemu::ImageChain images, images_of(chain_.members, !disk_.readonly));
    TRY(ChainPlan whole, plan_images(live_, disk_, std::move(images), reason_));
    facts_ = std::move(whole.facts);
    nodes_ = std::move(whole.plan.nodes);
    std::vector<Claim> wanted = std::move(whole.plan.claims);
    auto job = live_.state.jobs.find(disk_.info.alias);
    if (job == live_.state.jobs.end() || job->second.writes.empty())
      return wanted;
    TRY(qemu::Image image, image_at(job->second.writes, job->second.format, true));
    TRY(ChainPlan extra, plan_images(live_, disk_, {std::move(image)}, reason_));
    std::ranges::move(extra.plan.claims, std::back_inserter(wanted));
    return wanted;
  }

  // Only after a restart: an operation grants what its chain needs before it changes the chain.
  asio::awaitable<Result<>> grant(const std::vector<Claim>& wanted) {
    std::vector<Claim> missing = not_held(live_.holds, wanted);
    if (missing.empty())
      co_return Result<>{};
    for (Claim& claim : missing)
      if (!why_.empty())
        claim.record.set("why", why_);
    registrar::Operation operation(live_.context.journal, live_.state.ref, txn_, *live_.seams,
                                   &live_.holds);
    Result<> done = co_await operation.intend(std::move(missing), std::nullopt);
    if (done)
      done = co_await operation.apply();
    if (done)
      done = live_.seams->add_nodes(nodes_);
    std::vector<Claim*> unconfirmed = operation.unconfirmed();
    if (done)
      done = co_await confirm(live_.qmp, live_.state.process, facts_, *live_.seams,
                              std::move(unconfirmed));
    if (done)
      done = co_await operation.conclude(std::nullopt);
    else
      co_await undo(operation, done.error());
    for (Hold& hold : operation.take_holds()) live_.holds.push_back(std::move(hold));
    co_return done;
  }

  asio::awaitable<void> undo(registrar::Operation& operation, Error why) {
    Result<> undone = co_await operation.roll_back(std::nullopt, why);
    if (!undone)
      live_.context.log(fmt::format("{}: {}", live_.state.ref.vm, undone.error().what()));
  }

  asio::awaitable<Result<>> release(const std::vector<Claim>& wanted) {
    std::set<std::string> names = holder_names(domain::only_device(*live_.domain, alias()));
    std::vector<Hold> going, staying;
    for (Hold& hold : live_.holds) {
      auto same = [&](const Claim& claim) { return same_claim(claim, hold.claim); };
      bool stays = !names.contains(hold.claim.holder) || std::ranges::any_of(wanted, same);
      (stays ? staying : going).push_back(std::move(hold));
    }
    live_.holds = std::move(staying);
    if (going.empty())
      co_return Result<>{};
    co_return co_await release_holds(live_, std::move(going), reason_, why_, txn_);
  }

  const std::string& alias() const { return disk_.info.alias; }

  Live& live_;
  domain::Disk& disk_;
  std::string reason_, why_;
  Txn txn_;
  qemu::DiskChain chain_;
  Facts facts_;
  std::vector<kernel::DevNode> nodes_;
  Result<> outcome_;
};

// The creation of an image that a daemon did not see the end of keeps its file open.
asio::awaitable<void> dismiss_creations(Live& live) {
  qemu::Command query{"query-jobs", json::object()};
  auto jobs = co_await ask(live, std::move(query));
  for (const json& job : jobs ? *jobs : json::array()) {
    if (!job.is_object() || !job.value("id", "").starts_with(kCreation))
      continue;
    qemu::Command dismiss{"job-dismiss", {{"id", job.value("id", "")}}};
    auto answer = co_await ask(live, std::move(dismiss));
    if (!answer)
      live.context.log(fmt::format("{}: {}", live.state.ref.vm, answer.error().what()));
  }
}

}  // namespace

asio::awaitable<Result<BlockNodes>> ask_block_nodes(Live& live) {
  std::vector<qemu::Command> queries{{"x-debug-query-block-graph", json::object()},
                                     {"query-named-block-nodes", {{"flat", true}}}};
  CO_TRY(std::vector<json> answers, co_await look_at_blocks(live, std::move(queries)));
  BlockNodes known{.graph = std::move(answers[0]), .nodes = std::move(answers[1])};
  co_return known;
}

asio::awaitable<Result<qemu::DiskChain>> look_at_chain(Live& live, domain::Disk disk) {
  CO_TRY(BlockNodes known, co_await ask_block_nodes(live));
  co_return qemu::disk_chain(known.graph, known.nodes, disk);
}

Result<domain::Disk> chain_disk(const Live& live, const std::string& word) {
  TRY(std::string alias, domain::find_device(*live.domain, word));
  auto disk = std::ranges::find_if(live.domain->disks,
                                   [&](const auto& one) { return one.info.alias == alias; });
  if (disk == live.domain->disks.end())
    return fail(Errc::Invalid, word + ": not a disk");
  if (disk->device != "disk")
    return fail(Errc::Unsupported, word + ": a drive with media has no chain that can change");
  if (live.state.leaving.contains(alias))
    return fail(Errc::Busy, word + ": it was asked to leave the guest");
  return *disk;
}

Result<qemu::Image> image_at(const std::string& path, const std::string& format, bool writable) {
  TRY(kernel::NodeFacts node, kernel::node_facts(path));
  return qemu::Image{.path = path, .format = format, .writable = writable, .node = std::move(node)};
}

Result<qemu::ImageChain> images_of(const std::vector<qemu::ChainMember>& members, bool writable) {
  qemu::ImageChain images;
  for (const qemu::ChainMember& member : members) {
    bool top = images.empty() && writable;
    TRY(qemu::Image image, image_at(member.storage.path, member.format, top));
    images.push_back(std::move(image));
    if (!member.data)
      continue;
    TRY(qemu::Image data, image_at(member.data->path, "raw", top));
    data.data_file = true;
    images.push_back(std::move(data));
  }
  return images;
}

Result<ChainPlan> plan_images(const Live& live, const domain::Disk& disk, qemu::ImageChain images,
                              std::string_view reason) {
  domain::Domain device = domain::only_device(*live.domain, disk.info.alias);
  TRY(Facts facts, look_up_images(disk, std::move(images), live.options));
  Plan plan = plan_devices(device, facts, live.options, reason);
  return ChainPlan{.plan = std::move(plan), .facts = std::move(facts)};
}

std::vector<Claim> not_held(const std::vector<Hold>& holds, std::vector<Claim> wanted) {
  std::erase_if(wanted, [&](const Claim& claim) {
    return std::ranges::any_of(holds,
                               [&](const Hold& hold) { return same_claim(hold.claim, claim); });
  });
  return wanted;
}

asio::awaitable<Result<>> follow_chain(Live& live, std::string alias, std::string reason,
                                       std::string why, Txn txn) {
  domain::Disk* disk = find_disk(live, alias);
  if (disk == nullptr)
    co_return fail(Errc::NotFound, "no disk " + alias);
  auto follower =
      std::make_unique<Follower>(live, *disk, std::move(reason), std::move(why), std::move(txn));
  co_return co_await follower->run();
}

asio::awaitable<Result<>> settle_chains(Live& live, Txn txn) {
  co_await dismiss_creations(live);
  std::vector<std::string> aliases;
  for (const domain::Disk& disk : live.domain->disks)
    if (disk.device == "disk")
      aliases.push_back(disk.info.alias);
  Result<> outcome;
  for (std::string& alias : aliases) {
    std::string reason = "update";
    std::string why = "recovered: the chain as QEMU has it";
    Txn own = txn;
    Result<> done = co_await follow_chain(live, std::move(alias), std::move(reason), std::move(why),
                                          std::move(own));
    if (!done && outcome)
      outcome = done;
  }
  co_return outcome;
}

asio::awaitable<Result<>> create_image(Live& live, const qemu::ChainMember& member, uint64_t size,
                                       const qemu::ChainMember* backing) {
  std::string job = std::string(kCreation) + member.node;
  qemu::Command command = qemu::create_image(job, member, size, backing);
  auto over = live.events.expect([job](const qemu::QmpEvent& event) {
    return event.name == "JOB_STATUS_CHANGE" && event.data->value("id", "") == job &&
           event.data->value("status", "") == "concluded";
  });
  CO_TRY_OK(co_await ask(live, std::move(command)));
  bool ended = (co_await over->wait(kJobTimeout)).has_value();
  qemu::Command query{"query-jobs", json::object()};
  CO_TRY(json jobs, co_await ask(live, std::move(query)));
  std::string error = ended ? "" : "QEMU has not finished it";
  for (const json& one : jobs)
    if (one.is_object() && one.value("id", "") == job && one.contains("error"))
      error = one.value("error", "");
  qemu::Command dismiss{ended ? "job-dismiss" : "job-cancel", {{"id", job}}};
  CO_TRY_OK(co_await ask(live, std::move(dismiss)));
  if (!error.empty())
    co_return fail(Errc::Io, job + ": " + error);
  co_return Result<>{};
}

}  // namespace tenure::guest
