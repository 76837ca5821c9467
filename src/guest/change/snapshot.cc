// SPDX-License-Identifier: Apache-2.0
#include "guest/change/snapshot.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/file.h"
#include "guest/change/chain.h"
#include "guest/run/ask.h"
#include "guest/run/confirm.h"
#include "qemu/chain_commands.h"

namespace tenure::guest {
namespace {

using model::Claim;
using registrar::Hold;
using registrar::Txn;

constexpr std::string_view kFormat = "qcow2";
constexpr std::string_view kReason = "snapshot";

// One disk and its new image.
struct Overlay {
  domain::Disk disk;
  qemu::DiskChain before;
  qemu::ChainMember member;
  bool made = false;  // the file is ours to remove
  kernel::NodeFacts node;
};

class Snapshotter {
 public:
  Snapshotter(Live& live, SnapshotRequest request, Txn txn)
      : live_(live),
        request_(std::move(request)),
        txn_(std::move(txn)),
        operation_(live.context.journal, live.state.ref, txn_, *live.seams, &live.holds) {}

  asio::awaitable<Result<>> run() {
    Result<> done = co_await prepare();
    if (done)
      done = co_await steps();
    if (!done && !taken_) {
      Error why = std::move(done).error();
      co_await undo(why);
      co_return std::unexpected(std::move(why));
    }
    for (Hold& hold : operation_.take_holds()) live_.holds.push_back(std::move(hold));
    for (const Overlay& overlay : overlays_) {
      std::string alias = overlay.disk.info.alias, reason(kReason), why;
      Txn own = txn_;
      Result<> followed = co_await follow_chain(live_, std::move(alias), std::move(reason),
                                                std::move(why), std::move(own));
      if (!followed && done)
        done = std::move(followed);
    }
    // It cannot be taken back.
    if (!done)
      co_return std::unexpected(
          std::move(done).error().context("the guest writes to the new images, and yet"));
    co_return Result<>{};
  }

 private:
  asio::awaitable<Result<>> prepare() {
    if (request_.disks.empty())
      co_return fail(Errc::Invalid, "no disk is named");
    for (const SnapshotDisk& wanted : request_.disks) {
      CO_TRY(Overlay overlay, co_await overlay_of(wanted));
      overlays_.push_back(std::move(overlay));
    }
    // Files come last: nothing else can be refused after them but by the host or QEMU.
    for (Overlay& overlay : overlays_) CO_TRY_OK(take_file(overlay));
    co_return Result<>{};
  }

  asio::awaitable<Result<Overlay>> overlay_of(const SnapshotDisk& wanted) {
    CO_TRY(domain::Disk disk, chain_disk(live_, wanted.disk));
    const std::string name = disk.target;
    auto same = [&](const Overlay& other) {
      return other.disk.target == name || other.member.storage.path == wanted.path;
    };
    if (std::ranges::any_of(overlays_, same))
      co_return fail(Errc::Invalid, name + ": the disk or the file is named twice");
    if (disk.readonly)
      co_return fail(Errc::Unsupported, name + ": the guest does not write to it");
    if (live_.state.jobs.contains(disk.info.alias))
      co_return fail(Errc::Busy, name + ": a job is under way on it; see `tenure blockjob`");
    if (!wanted.path.starts_with('/'))
      co_return fail(Errc::Invalid, wanted.path + ": not an absolute path");
    domain::Disk copy = disk;
    CO_TRY(qemu::DiskChain before, co_await look_at_chain(live_, std::move(copy)));
    if (before.members.empty())
      co_return fail(Errc::Internal, name + ": QEMU shows no image of it");
    auto named = [&](const qemu::ChainMember& one) { return one.storage.path == wanted.path; };
    if (std::ranges::any_of(before.members, named))
      co_return fail(Errc::Exists, wanted.path + ": it is in the chain of the disk already");
    Overlay overlay{.disk = std::move(disk), .before = std::move(before), .member = {}, .node = {}};
    overlay.member.storage.path = wanted.path;
    co_return overlay;
  }

  Result<> take_file(Overlay& overlay) const {
    const std::string path = overlay.member.storage.path;
    if (request_.existing) {
      TRY_OK(check_existing(overlay, path));
    } else {
      TRY(overlay.made, make_image_file(path));
    }
    TRY(overlay.node, kernel::node_facts(path));
    overlay.member = qemu::new_member(overlay.disk, overlay.before.next, path, std::string(kFormat),
                                      overlay.node);
    return {};
  }

  // Else the guest would see another disk from one moment to the next.
  static Result<> check_existing(const Overlay& overlay, const std::string& path) {
    TRY(qemu::ImageChain there, qemu::read_chain(path, std::string(kFormat), false));
    const std::string& top = overlay.before.members.front().storage.path;
    if (there.size() < 2 || there[1].data_file || there[1].path != top)
      return fail(Errc::Invalid, fmt::format("{}: its backing image is not {}", path, top));
    return {};
  }

  Result<std::vector<Claim>> plan() {
    std::vector<Claim> claims;
    for (const Overlay& overlay : overlays_) {
      std::vector<qemu::ChainMember> members = overlay.before.members;
      members.insert(members.begin(), overlay.member);
      TRY(qemu::ImageChain images, images_of(members, true));
      TRY(ChainPlan one, plan_images(live_, overlay.disk, std::move(images), kReason));
      std::ranges::move(not_held(live_.holds, std::move(one.plan.claims)),
                        std::back_inserter(claims));
      std::ranges::move(one.plan.nodes, std::back_inserter(nodes_));
      facts_.chains.merge(one.facts.chains);
    }
    return claims;
  }

  asio::awaitable<Result<>> steps() {
    CO_TRY(std::vector<Claim> claims, plan());
    CO_TRY_OK(co_await operation_.intend(std::move(claims), std::nullopt));
    CO_TRY_OK(co_await operation_.apply());
    CO_TRY_OK(live_.seams->add_nodes(nodes_));
    Result<> done = co_await act();
    if (!done && !taken_)
      operation_.refuse_unconfirmed();
    CO_TRY_OK(done);
    std::vector<Claim*> unconfirmed = operation_.unconfirmed();
    CO_TRY_OK(co_await confirm(live_.qmp, live_.state.process, facts_, *live_.seams,
                               std::move(unconfirmed)));
    co_return co_await operation_.conclude(std::nullopt);
  }

  asio::awaitable<Result<>> act() {
    nlohmann::json actions = nlohmann::json::array();
    for (const Overlay& overlay : overlays_) {
      CO_TRY_OK(co_await open(overlay));
      actions.push_back(qemu::snapshot_action(overlay.before.members.front(), overlay.member));
    }
    qemu::Command command{"transaction", {{"actions", std::move(actions)}}};
    auto answer = co_await ask(live_, std::move(command));
    // After a timeout QEMU may have done it all the same.
    taken_ = answer || co_await is_taken();
    if (!taken_)
      co_return std::unexpected(std::move(answer).error());
    co_return Result<>{};
  }

  asio::awaitable<bool> is_taken() {
    domain::Disk disk = overlays_.front().disk;
    auto now = co_await look_at_chain(live_, std::move(disk));
    co_return now && !now->members.empty() &&
        now->members.front().node == overlays_.front().member.node;
  }

  asio::awaitable<Result<>> open(const Overlay& overlay) {
    const qemu::ChainMember& top = overlay.before.members.front();
    qemu::Command storage = qemu::add_storage(overlay.disk, overlay.member);
    CO_TRY_OK(co_await ask(live_, std::move(storage)));
    if (!request_.existing)
      CO_TRY_OK(co_await create_image(live_, overlay.member, top.size, &top));
    qemu::Command format = qemu::add_format(overlay.disk, overlay.member);
    CO_TRY_OK(co_await ask(live_, std::move(format)));
    co_return Result<>{};
  }

  // Out of QEMU first, then out of the host.
  asio::awaitable<void> undo(const Error& why) {
    for (const Overlay& overlay : overlays_) {
      domain::Disk disk = overlay.disk;
      auto now = co_await look_at_chain(live_, std::move(disk));
      for (const std::string& node : now ? now->strays : std::vector<std::string>()) {
        qemu::Command command{"blockdev-del", {{"node-name", node}}};
        auto answer = co_await ask(live_, std::move(command));
        if (!answer)
          log(std::move(answer).error());
      }
    }
    Result<> undone = co_await operation_.roll_back(std::nullopt, why);
    if (!undone)
      log(std::move(undone).error());
    std::vector<Hold> left = operation_.take_holds();
    Result<> dropped = live_.seams->drop_nodes(nodes_, live_.holds);
    if (!dropped)
      log(std::move(dropped).error());
    bool gone = left.empty();
    for (Hold& hold : left) live_.holds.push_back(std::move(hold));
    if (gone)
      remove_files();
  }

  void remove_files() {
    for (const Overlay& overlay : overlays_)
      if (overlay.made)
        unlink(overlay.member.storage.path.c_str());
  }

  void log(const Error& error) {
    live_.context.log(fmt::format("{}: snapshot: {}", live_.state.ref.vm, error.what()));
  }

  Live& live_;
  SnapshotRequest request_;
  Txn txn_;
  registrar::Operation operation_;
  std::vector<Overlay> overlays_;
  std::vector<kernel::DevNode> nodes_;
  Facts facts_;
  bool taken_ = false;  // the guest writes to the new images
};

}  // namespace

Result<bool> make_image_file(const std::string& path) {
  auto made = open_file(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (made)
    return true;
  auto there = kernel::node_facts(path);
  if (!there)
    return fail(std::move(made).error());
  if (there->type != kernel::FileType::Block)
    return fail(Errc::Exists, path +
                                  ": there is a file already; name another one, or give "
                                  "--existing if it was made for this");
  // EBUSY if it is mounted or part of another device (open(2)).
  auto device = open_file(path, O_RDWR | O_EXCL);
  if (!device)
    return fail(std::move(device).error().context("take device"));
  return false;
}

asio::awaitable<Result<>> snapshot(Live& live, SnapshotRequest request, Txn txn) {
  if (!live.qmp)
    co_return fail(Errc::Unsupported, "snapshot: no monitor to this guest");
  auto snapshotter = std::make_unique<Snapshotter>(live, std::move(request), std::move(txn));
  co_return co_await snapshotter->run();
}

}  // namespace tenure::guest
