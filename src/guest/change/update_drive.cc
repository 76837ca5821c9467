// SPDX-License-Identifier: Apache-2.0
// The medium of a cdrom or floppy drive. Out: tray open, medium removed, nodes deleted, its tenures
// ended. In: claims, intents, acts, nodes, medium, tray closed, read-back, results. Two steps, for
// between them the drive is empty, and the trail says so.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "domain/change.h"
#include "domain/text.h"
#include "guest/change/block_look.h"
#include "guest/change/steps.h"
#include "guest/change/update.h"
#include "guest/change/update_parts.h"
#include "guest/plan/plan.h"
#include "guest/run/confirm.h"

namespace tenure::guest {
namespace {

using nlohmann::json;
using registrar::Hold;
using registrar::Txn;

domain::Disk without_medium(domain::Disk drive) {
  drive.path.clear();
  drive.backing.reset();
  return drive;
}

// The definition has the drive like this from now on, also for a tenured that comes after this one.
Result<> note_drive(Live& live, const domain::Disk& drive) {
  const std::string& alias = drive.info.alias;
  TRY(const std::string element, element_of(live.state, alias));
  auto known = std::ranges::find_if(live.domain->disks,
                                    [&](const auto& disk) { return disk.info.alias == alias; });
  if (known == live.domain->disks.end())
    return fail(Errc::NotFound, "no drive " + alias);
  *known = drive;
  std::string changed = domain::with_medium(element, drive);
  note_changed(live.state, alias, domain::pinned_element(*live.domain, alias, changed));
  return save_run(live.context.paths, live.state);
}

asio::awaitable<Result<qemu::DriveState>> look_at_drive(Live& live, const std::string& alias) {
  std::vector<qemu::Command> queries{{"query-block", json::object()}};
  CO_TRY(std::vector<json> answers, co_await look_at_blocks(live, std::move(queries)));
  co_return qemu::drive_state(answers.front(), alias);
}

std::shared_ptr<Events::Expected> expect_tray(Live& live, const std::string& alias, bool open) {
  return live.events.expect([alias, open](const qemu::QmpEvent& event) {
    return event.name == "DEVICE_TRAY_MOVED" && event.data->value("id", "") == alias &&
           event.data->value("tray-open", !open) == open;
  });
}

asio::awaitable<Result<>> open_tray(Live& live, const std::string& alias, Patience patience) {
  auto moved = expect_tray(live, alias, true);
  qemu::Command open{"blockdev-open-tray", {{"id", alias}, {"force", patience.force}}};
  CO_TRY_OK(co_await ask(live, std::move(open)));
  CO_TRY(qemu::DriveState drive, co_await look_at_drive(live, alias));
  if (!drive.has_tray || drive.tray_open)
    co_return Result<>{};
  // QEMU has asked the guest for it.
  if (co_await moved->wait(patience.timeout))
    co_return Result<>{};
  co_return fail(Errc::Timeout,
                 fmt::format("{}: the guest has locked the tray and has not opened it within {} "
                             "ms; nothing changed; --force opens it whatever the guest does",
                             alias, patience.timeout.count()));
}

asio::awaitable<Result<>> remove_medium(Live& live, const std::string& alias) {
  qemu::Command remove{"blockdev-remove-medium", {{"id", alias}}};
  CO_TRY_OK(co_await ask(live, std::move(remove)));
  co_return Result<>{};
}

// QEMU has no medium in the drive: its nodes go, its tenures end.
asio::awaitable<Result<>> end_medium(Live& live, domain::Disk drive, std::string why, Txn txn) {
  domain::Domain device = domain::only_device(*live.domain, drive.info.alias);
  Result<> removed = co_await remove_backends(live, device);
  std::string reason = "update";
  CO_TRY_OK(
      co_await release_device(live, device, std::move(reason), std::move(why), std::move(txn)));
  CO_TRY_OK(removed);
  co_return note_drive(live, without_medium(std::move(drive)));
}

asio::awaitable<Result<>> take_out(Live& live, const domain::Disk& now, Patience patience,
                                   Txn txn) {
  const std::string& alias = now.info.alias;
  Result<> opened = co_await open_tray(live, alias, patience);
  if (opened)
    opened = co_await remove_medium(live, alias);
  if (!opened) {
    std::set<std::string> names = holder_names(domain::only_device(*live.domain, alias));
    co_await record_refusal(live, names, txn, "update", opened.error().what());
    co_return opened;
  }
  if (now.path.empty())
    co_return Result<>{};
  domain::Disk drive = now;
  std::string why;
  co_return co_await end_medium(live, std::move(drive), std::move(why), std::move(txn));
}

// One insertion into an empty drive, to its last record or to the empty drive again.
class Inserter {
 public:
  Inserter(Live& live, domain::Disk drive, Facts facts, Txn txn)
      : live_(live),
        drive_(std::move(drive)),
        facts_(std::move(facts)),
        operation_(live.context.journal, live.state.ref, std::move(txn), *live.seams, &live.holds) {
  }

  asio::awaitable<Result<>> run() {
    // The acts and a daemon that comes after this one find the medium in the definition.
    Result<> done = note_drive(live_, drive_);
    if (done)
      done = co_await steps();
    if (!done) {
      Error why = std::move(done).error().context(alias() + ": the drive is empty");
      co_await undo(why);
      co_return std::unexpected(std::move(why));
    }
    for (Hold& hold : operation_.take_holds()) live_.holds.push_back(std::move(hold));
    co_return Result<>{};
  }

 private:
  const std::string& alias() const { return drive_.info.alias; }

  asio::awaitable<Result<>> steps() {
    domain::Domain device = domain::only_device(*live_.domain, alias());
    Plan plan = plan_devices(device, facts_, live_.options, "update");
    nodes_ = std::move(plan.nodes);
    std::vector<model::Claim> claims = std::move(plan.claims);
    CO_TRY_OK(co_await operation_.intend(std::move(claims), std::nullopt));
    CO_TRY_OK(co_await operation_.apply());
    CO_TRY_OK(live_.seams->add_nodes(nodes_));
    Result<> inserted = co_await insert(device);
    if (!inserted)
      operation_.refuse_unconfirmed();
    CO_TRY_OK(inserted);
    std::vector<model::Claim*> unconfirmed = operation_.unconfirmed();
    CO_TRY_OK(co_await confirm(live_.qmp, live_.state.process, facts_, *live_.seams,
                               std::move(unconfirmed)));
    co_return co_await operation_.conclude(std::nullopt);
  }

  asio::awaitable<Result<>> insert(const domain::Domain& device) {
    qemu::Wiring wiring{
        .kvm = device.kvm, .images = facts_.chains, .runtime_dir = live_.options.runtime_dir};
    CO_TRY(std::vector<qemu::Command> commands,
           qemu::medium_commands(device, *live_.domain, wiring));
    std::vector<std::string> nodes;
    for (const qemu::Command& command : commands)
      nodes.push_back(command.arguments.at("node-name"));
    // Where one fails, so does the insertion, which is the last.
    std::vector<Result<json>> answers = co_await ask_all(live_, std::move(commands));
    inserted_ = may_be_done(answers.back());
    for (size_t i = 0; i + 1 < answers.size(); ++i)
      if (may_be_done(answers[i]))
        added_.push_back(std::move(nodes[i]));
    CO_TRY_OK(first_failure(answers));
    auto moved = expect_tray(live_, alias(), false);
    qemu::Command close{"blockdev-close-tray", {{"id", alias()}}};
    CO_TRY_OK(co_await ask(live_, std::move(close)));
    CO_TRY(qemu::DriveState drive, co_await look_at_drive(live_, alias()));
    if (drive.node.empty() || drive.tray_open)
      co_return fail(Errc::Internal, alias() + ": QEMU shows no medium in the closed drive");
    co_return Result<>{};
  }

  asio::awaitable<void> undo(const Error& why) {
    Result<> out = co_await take_back();
    Result<> undone = co_await operation_.roll_back(std::nullopt, why);
    std::vector<Hold> left = operation_.take_holds();
    Result<> dropped = live_.seams->drop_nodes(nodes_, live_.holds);
    for (Hold& hold : left) live_.holds.push_back(std::move(hold));
    Result<> noted = note_drive(live_, without_medium(drive_));
    log_failure(out);
    log_failure(undone);
    log_failure(dropped);
    log_failure(noted);
  }

  void log_failure(const Result<>& step) {
    if (!step)
      live_.context.log(
          fmt::format("{}: update {}: undo: {}", live_.state.ref.vm, alias(), step.error().what()));
  }

  asio::awaitable<Result<>> take_back() {
    Result<> outcome;
    if (inserted_) {
      Patience none{.timeout = {}, .force = true};
      outcome = co_await open_tray(live_, alias(), none);
      if (outcome)
        outcome = co_await remove_medium(live_, alias());
    }
    std::vector<qemu::Command> removing;
    for (size_t i = added_.size(); i-- > 0;)
      removing.push_back({"blockdev-del", {{"node-name", added_[i]}}});
    Result<> removed = co_await remove_parts(live_, std::move(removing));
    co_return outcome ? removed : outcome;
  }

  Live& live_;
  domain::Disk drive_;  // with its new medium
  Facts facts_;
  registrar::Operation operation_;
  std::vector<kernel::DevNode> nodes_;
  std::vector<std::string> added_;  // block nodes
  bool inserted_ = false;
};

}  // namespace

asio::awaitable<Result<>> change_medium(Live& live, domain::Disk drive, Patience patience,
                                        Txn txn) {
  const std::string alias = drive.info.alias;
  auto now = std::ranges::find_if(live.domain->disks,
                                  [&](const auto& disk) { return disk.info.alias == alias; });
  if (now == live.domain->disks.end())
    co_return fail(Errc::NotFound, "no drive " + alias);
  domain::Disk before = *now;
  Facts facts;
  if (!drive.path.empty()) {
    // A medium that cannot be had does not cost the one that is there.
    domain::Domain device = domain::only_device(*live.domain, alias);
    device.disks.front() = drive;
    CO_TRY(facts, look_up_devices(device, live.options));
  }
  Txn own = txn;
  CO_TRY_OK(co_await take_out(live, before, patience, std::move(own)));
  if (drive.path.empty())
    co_return Result<>{};
  auto inserter =
      std::make_unique<Inserter>(live, std::move(drive), std::move(facts), std::move(txn));
  co_return co_await inserter->run();
}

asio::awaitable<Result<>> settle_drives(Live& live, Txn txn) {
  std::vector<domain::Disk> loaded;
  for (const domain::Disk& disk : live.domain->disks)
    if (disk.device != "disk" && !disk.path.empty())
      loaded.push_back(disk);
  for (domain::Disk& drive : loaded) {
    CO_TRY(qemu::DriveState state, co_await look_at_drive(live, drive.info.alias));
    if (!state.node.empty())
      continue;
    std::string why = "recovered: QEMU has no medium in the drive";
    Txn own = txn;
    CO_TRY_OK(co_await end_medium(live, std::move(drive), std::move(why), std::move(own)));
  }
  co_return Result<>{};
}

}  // namespace tenure::guest
