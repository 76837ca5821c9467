// SPDX-License-Identifier: Apache-2.0
#include "guest/change/change.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <asio/experimental/awaitable_operators.hpp>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/file.h"
#include "domain/change.h"
#include "guest/change/block_job.h"
#include "guest/change/helper_end.h"
#include "guest/change/let_go.h"
#include "guest/change/module.h"
#include "guest/change/steps.h"
#include "guest/plan/host_devices.h"
#include "guest/plan/plan.h"
#include "guest/run/ask.h"
#include "guest/run/confirm.h"
#include "guest/run/host_access.h"
#include "guest/run/wiring.h"
#include "qemu/hotplug.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using registrar::Hold;
using registrar::Txn;

// What QEMU was given a moment ago and the guest has hardly seen.
constexpr auto kUndoTimeout = 5s;

// A helper ends when QEMU hangs up, which it has done by then.
constexpr auto kHangUpTimeout = 2s;

// DEVICE_DELETED of the device, or the guest's refusal to let it go.
std::shared_ptr<Events::Expected> expect_answer(Live& live, const std::string& alias) {
  return live.events.expect([alias](const qemu::QmpEvent& event) {
    bool answer = event.name == "DEVICE_DELETED" || event.name == "DEVICE_UNPLUG_GUEST_ERROR";
    return answer && event.data->value("device", "") == alias;
  });
}

// Of a descriptor that QEMU is given, and which it takes before the next change of this guest: so
// it need not tell of which device.
std::string name_of_given(std::string_view what, size_t number) {
  return fmt::format("{}{}", what, number);
}

// After a device has gone. It has ended where that cannot be done, or somebody forbids it to us.
void lower_limits(Live& live) {
  Result<> lowered = lower_locked(live.state.process.pid, *live.domain);
  if (!lowered)
    live.context.log(fmt::format("{}: {}", live.state.ref.vm, lowered.error().what()));
}

// One attach, from the definition of the device to its last record.
class Attacher {
 public:
  Attacher(Live& live, domain::Addition addition, Txn txn)
      : live_(live),
        addition_(std::move(addition)),
        device_(domain::only_device(addition_.domain, addition_.alias)),
        operation_(live.context.journal, live.state.ref, std::move(txn), *live.seams, &live.holds) {
  }

  asio::awaitable<Result<std::string>> run() {
    // The acts find the device in the guest's definition; a daemon that dies on the way finds it in
    // the state.
    std::swap(*live_.domain, addition_.domain);
    note_attached(live_.state, addition_.alias, addition_.xml);
    Result<> done = save_run(live_.context.paths, live_.state);
    if (done)
      done = co_await steps();
    if (!done) {
      Error why = std::move(done).error();
      if (!co_await undo(why))
        why = Error{why.code(),
                    why.what() + "; QEMU still holds some of it: see `tenure status`, and detach " +
                        addition_.alias,
                    why.sys_errno()};
      co_return std::unexpected(std::move(why));
    }
    for (Hold& hold : operation_.take_holds()) registrar::add_hold(live_.holds, std::move(hold));
    co_return addition_.alias;
  }

 private:
  asio::awaitable<Result<>> steps() {
    CO_TRY_OK(co_await bind_host_drivers(operation_, device_, live_.options));
    CO_TRY(facts_, look_up_devices(device_, live_.options));
    CO_TRY_OK(check_not_held(facts_, live_.holds));
    CO_TRY_OK(raise_locked(live_.state.process.pid, *live_.domain));
    Plan plan = plan_devices(device_, facts_, live_.options);
    nodes_ = std::move(plan.nodes);
    std::vector<model::Claim> claims = std::move(plan.claims);
    complete_amounts(live_, claims);
    CO_TRY_OK(co_await operation_.intend(std::move(claims), std::nullopt));
    CO_TRY_OK(co_await operation_.apply());
    CO_TRY_OK(live_.seams->add_nodes(nodes_));
    CO_TRY_OK(
        start_helpers(live_.context, device_, facts_, live_.options, *live_.seams, live_.state));
    Result<> plugged = co_await plug();
    if (!plugged)
      operation_.refuse_unconfirmed();
    CO_TRY_OK(plugged);
    std::vector<model::Claim*> unconfirmed = operation_.unconfirmed();
    CO_TRY_OK(co_await confirm(live_.qmp, live_.state.process, facts_, *live_.seams,
                               std::move(unconfirmed)));
    live_.seams->close_lent_fds();
    co_return co_await operation_.conclude(std::nullopt);
  }

  asio::awaitable<Result<>> plug() {
    CO_TRY(ChardevSockets sockets, bind_sockets(device_, live_.options));
    qemu::Wiring wiring{
        .kvm = device_.kvm, .images = facts_.chains, .runtime_dir = live_.options.runtime_dir};
    for (const auto& [alias, hostdev] : facts_.hostdevs) wiring.usb_nodes[alias] = hostdev.node;
    for (const domain::Shmem& shmem : device_.shmems)
      if (live_.options.uid && shmem.kind == domain::ShmemKind::Plain)
        CO_TRY_OK(co_await give_shared(shmem, wiring));
    std::vector<qemu::Command> giving = hand_over(wiring, sockets);
    Result<> plugged = co_await give(std::move(giving));
    if (plugged)
      plugged = co_await add(wiring);
    if (fdset_) {
      qemu::Command command{"remove-fd", {{"fdset-id", *std::exchange(fdset_, std::nullopt)}}};
      auto removed = co_await ask(live_, std::move(command));
      if (!removed && plugged)
        plugged = std::unexpected(std::move(removed).error());
    }
    co_return plugged;
  }

  // QEMU takes the descriptors, which its monitor needs half a millisecond for, while the host's
  // side of them is set up. There is no device before both are done.
  asio::awaitable<Result<>> give(std::vector<qemu::Command> commands) {
    if (commands.empty())
      co_return Result<>{};
    using asio::experimental::awaitable_operators::operator&&;
    asio::awaitable<std::tuple<Result<>, Result<>>> both =
        ask_undoable(std::move(commands)) && set_up_nics();
    auto [given, set_up] = co_await std::move(both);
    CO_TRY_OK(given);
    co_return set_up;
  }

  asio::awaitable<Result<>> set_up_nics() { co_return live_.seams->set_up_nics(); }

  asio::awaitable<Result<>> add(const qemu::Wiring& wiring) {
    CO_TRY(std::vector<qemu::Command> adding, qemu::plug_commands(device_, *live_.domain, wiring));
    CO_TRY_OK(co_await ask_undoable(std::move(adding)));
    // Goes with the device; no undo of its own.
    std::vector<qemu::Command> finishing = qemu::finish_commands(device_);
    std::vector<Result<json>> answers = co_await ask_all(live_, std::move(finishing));
    co_return first_failure(answers);
  }

  // Whatever fails makes the later ones fail that refer to it, up to the device.
  asio::awaitable<Result<>> ask_undoable(std::vector<qemu::Command> commands) {
    std::vector<qemu::Command> undoing;
    for (const qemu::Command& command : commands) undoing.push_back(qemu::undo_of(command));
    std::vector<Result<json>> answers = co_await ask_all(live_, std::move(commands));
    for (size_t i = 0; i < answers.size(); ++i)
      if (may_be_done(answers[i]))
        done_.push_back(std::move(undoing[i]));
    co_return first_failure(answers);
  }

  // The fds travel by getfd, and the device refers to them by name.
  std::vector<qemu::Command> hand_over(qemu::Wiring& wiring, const ChardevSockets& sockets) {
    std::vector<qemu::Command> commands;
    std::vector<std::string> socket_names;
    auto give = [&](std::string_view what, int fd, std::vector<std::string>& names) {
      names.push_back(name_of_given(what, names.size()));
      commands.push_back({"getfd", {{"fdname", names.back()}}, {fd}});
    };
    auto give_socket = [&](const std::string& alias, int fd) {
      give("socket", fd, socket_names);
      wiring.socket_fds[alias] = socket_names.back();
    };
    if (auto nic = live_.seams->nics().find(addition_.alias); nic != live_.seams->nics().end()) {
      qemu::InterfaceWiring& names = wiring.interfaces[addition_.alias];
      for (const kernel::NetFd& fd : nic->second.tap) give("tap", fd.fd.get(), names.tap_fds);
      for (const kernel::NetFd& fd : nic->second.vhost) give("vhost", fd.fd.get(), names.vhost_fds);
    }
    for (const auto& [alias, fd] : sockets) give_socket(alias, fd.get());
    if (auto helper = live_.seams->helpers().find(addition_.alias);
        helper != live_.seams->helpers().end())
      give_socket(addition_.alias, helper->second.socket.get());
    return commands;
  }

  // QEMU has a /dev/shm of its own: it opens the file anew by the descriptor that it is lent.
  asio::awaitable<Result<>> give_shared(const domain::Shmem& shmem, qemu::Wiring& wiring) {
    std::string path = "/dev/shm/" + shmem.name;
    CO_TRY(UniqueFd fd, open_file(path, O_RDWR | O_NOFOLLOW));
    qemu::Command command{"add-fd", json::object(), {fd.get()}};
    CO_TRY(json answer, co_await ask(live_, std::move(command)));
    if (!answer.is_object() || !answer.value("fd", json()).is_number_unsigned() ||
        !answer.value("fdset-id", json()).is_number_unsigned())
      co_return fail(Errc::Corrupt, "add-fd: QEMU names no descriptor");
    fdset_ = answer["fdset-id"].get<uint64_t>();
    wiring.shared_files[shmem.info.alias] =
        fmt::format("/proc/self/fd/{}", answer["fd"].get<uint64_t>());
    co_return Result<>{};
  }

  // Out of QEMU first, then out of the host, then out of the definition.
  // False if QEMU keeps some of it, so that it stays in the definition, to be detached.
  asio::awaitable<bool> undo(const Error& why) {
    co_await unplug();
    live_.seams->close_lent_fds();
    co_await forget_helper(live_, addition_.alias, kUndoTimeout);
    Result<> undone = co_await operation_.roll_back(std::nullopt, why);
    if (!undone)
      live_.context.log(
          fmt::format("{}: attach: rollback: {}", live_.state.ref.vm, undone.error().what()));
    std::vector<Hold> left = operation_.take_holds();
    Result<> dropped = live_.seams->drop_nodes(nodes_, live_.holds);
    if (!dropped)
      live_.context.log(fmt::format("{}: attach: {}", live_.state.ref.vm, dropped.error().what()));
    Result<> noted = co_await note_unplugged(live_, device_, why.what(), operation_.txn());
    if (!noted)
      live_.context.log(fmt::format("{}: attach: {}", live_.state.ref.vm, noted.error().what()));
    bool gone = left.empty();
    for (Hold& hold : left) live_.holds.push_back(std::move(hold));
    if (!gone)
      co_return false;
    unlink_sockets(device_, live_.options);
    std::swap(*live_.domain, addition_.domain);
    lower_limits(live_);
    note_detached(live_.state, addition_.alias);
    Result<> saved = save_run(live_.context.paths, live_.state);
    if (!saved)
      live_.context.log(saved.error().what());
    co_return true;
  }

  // The device first, which is gone when the guest has let go of it; then what it was made of.
  asio::awaitable<void> unplug() {
    std::vector<qemu::Command> parts;
    for (size_t i = done_.size(); i-- > 0;) {
      if (done_[i].name != "device_del") {
        parts.push_back(std::move(done_[i]));
        continue;
      }
      auto gone = expect_answer(live_, addition_.alias);
      auto answer = co_await ask(live_, std::move(done_[i]));
      if (answer)
        co_await gone->wait(kUndoTimeout);
      else
        log_undo(answer.error());
    }
    Result<> removed = co_await remove_parts(live_, std::move(parts));
    if (!removed)
      log_undo(removed.error());
  }

  void log_undo(const Error& error) {
    live_.context.log(fmt::format("{}: attach: undo: {}", live_.state.ref.vm, error.what()));
  }

  Live& live_;
  domain::Addition addition_;  // its domain is the one to go back to
  domain::Domain device_;
  registrar::Operation operation_;
  Facts facts_;
  std::vector<kernel::DevNode> nodes_;
  std::vector<qemu::Command> done_;  // undoes what QEMU has done
  std::optional<uint64_t> fdset_;    // lent for the time of the plugging
};

// A controller takes what sits on it along; who wants that names the devices.
Result<> check_unused(const Live& live, const domain::Domain& device) {
  if (device.controllers.empty())
    return {};
  const domain::Controller& bus = device.controllers.front();
  auto on_it = [&](const domain::DeviceInfo& info, std::string_view type) {
    return bus.type == type && info.address.controller == bus.index;
  };
  bool used = false;
  for (const auto& disk : live.domain->disks)
    used |= on_it(disk.info, disk.bus == "virtio" ? "pci" : disk.bus);
  for (const auto& chardev : live.domain->chardevs)
    used |= chardev.info.address.kind == domain::AddressKind::VirtioSerial &&
            on_it(chardev.info, "virtio-serial");
  for (const auto& nic : live.domain->interfaces) used |= on_it(nic.info, "pci");
  for (const auto& input : live.domain->inputs)
    used |= on_it(input.info, input.bus == "usb" ? "usb" : "pci");
  for (const auto& hostdev : live.domain->hostdevs)
    used |= on_it(hostdev.info, hostdev.kind == domain::HostdevKind::Usb ? "usb" : "pci");
  for (const auto& shmem : live.domain->shmems) used |= on_it(shmem.info, "pci");
  for (const auto& fs : live.domain->filesystems) used |= on_it(fs.info, "pci");
  for (const auto& chardev : live.domain->chardevs)
    used |= chardev.info.address.kind == domain::AddressKind::Usb && on_it(chardev.info, "usb");
  if (used)
    return fail(Errc::Busy, bus.info.alias + ": devices sit on this controller; detach them first");
  return {};
}

// Where tenured died between handing the fds of an interface over and making a netdev of them, QEMU
// has them open under the names of give(). It does not know those that were used, or never given.
asio::awaitable<void> close_given(Live& live, const domain::Domain& device) {
  static constexpr std::array<std::string_view, 2> kWhat{"tap", "vhost"};
  if (!live.qmp)
    co_return;
  std::vector<qemu::Command> commands;
  if (!device.filesystems.empty())
    commands.push_back({"closefd", {{"fdname", name_of_given("socket", 0)}}});
  for (const domain::Interface& nic : device.interfaces)
    for (uint32_t queue = 0; queue < nic.queues.value_or(1); ++queue)
      for (std::string_view what : kWhat)
        commands.push_back({"closefd", {{"fdname", name_of_given(what, queue)}}});
  (void)co_await ask_all(live, std::move(commands));
}

}  // namespace

asio::awaitable<Result<std::string>> attach(Live& live, std::string xml, std::string source,
                                            Txn txn) {
  if (!live.qmp)
    co_return fail(Errc::Unsupported, "attach: no monitor to this guest");
  CO_TRY(domain::Addition addition, domain::add_device(*live.domain, xml, source));
  auto attacher = std::make_unique<Attacher>(live, std::move(addition), std::move(txn));
  co_return co_await attacher->run();
}

asio::awaitable<Result<>> finish_detach(Live& live, std::string alias, std::string why, Txn txn) {
  domain::Domain device = domain::only_device(*live.domain, alias);
  if (live.state.jobs.contains(alias)) {
    std::string disk = alias, action = "abort";
    Txn own = txn;
    // The disk is gone from QEMU's machine, so the chain cannot be looked at: its end is below.
    (void)co_await steer_job(live, std::move(disk), std::move(action), std::move(own));
  }
  Result<> removed = co_await remove_backends(live, device);
  co_await close_given(live, device);
  co_await wait_until_closed(live, device);
  co_await forget_helper(live, alias, kHangUpTimeout);
  registrar::Txn own = txn;
  std::string reason = why;
  Result<> released =
      co_await release_device(live, device, "detach", std::move(reason), std::move(own));
  if (released)
    released = co_await note_unplugged(live, device, std::move(why), std::move(txn));
  if (!removed)
    co_return std::unexpected(std::move(removed).error().context(alias));
  CO_TRY_OK(released);
  unlink_sockets(device, live.options);
  live.state.leaving.erase(alias);
  CO_TRY_OK(domain::remove_device(*live.domain, alias));
  lower_limits(live);
  note_detached(live.state, alias);
  co_return save_run(live.context.paths, live.state);
}

asio::awaitable<Result<>> detach(Live& live, std::string word, Patience patience, Txn txn) {
  if (!live.qmp)
    co_return fail(Errc::Unsupported, "detach: no monitor to this guest");
  CO_TRY(std::string alias, domain::find_device(*live.domain, word));
  domain::Domain device = domain::only_device(*live.domain, alias);
  CO_TRY_OK(check_unused(live, device));
  if (live.state.jobs.contains(alias))
    co_return fail(Errc::Busy, alias + ": a job is under way on it; see `tenure blockjob`");
  auto answer = expect_answer(live, alias);
  bool asked_before = live.state.leaving.contains(alias);
  note_request(live, alias, txn);
  qemu::Command command{"device_del", {{"id", alias}}};
  auto asked = co_await ask(live, std::move(command));
  // QEMU refuses to ask twice while the guest has not answered the first time; gone is gone.
  bool again = !asked && asked_before;
  bool gone = !asked && asked.error().code() == Errc::NotFound;
  if (!asked && !again && !gone) {
    forget_request(live, alias);
    co_await record_refusal(live, holder_names(device), txn, "detach", asked.error().what());
    co_await record_kept_module(live, device, txn, asked.error().what());
    co_return std::unexpected(std::move(asked).error());
  }
  if (!gone)
    note_heard(live, alias);
  std::optional<qemu::QmpEvent> event;
  if (!gone)
    event = co_await answer->wait(patience.timeout);
  if (gone || (event && event->name == "DEVICE_DELETED"))
    co_return co_await finish_detach(live, std::move(alias), "", std::move(txn));
  // Of a module nothing can be revoked.
  if (patience.force && device.memories.empty())
    co_return co_await release_device(live, device, "detach",
                                      "forced: the guest did not let go of it", std::move(txn));
  std::string why = event ? "the guest refused to let go of it"
                          : fmt::format("still held: the guest has not answered within {} ms",
                                        patience.timeout.count());
  if (event)
    forget_request(live, alias);
  co_await record_refusal(live, holder_names(device), txn, "detach", why);
  co_await record_kept_module(live, device, txn, why);
  co_return fail(event ? Errc::Busy : Errc::Timeout,
                 fmt::format("detach {}: {}; {}", alias, why,
                             event ? "nothing changed"
                                   : "it may still do so, and that is recorded then; --force "
                                     "revokes what can be revoked"));
}

asio::awaitable<Result<std::vector<std::string>>> lost_devices(Live& live) {
  qemu::Command command{"qom-list", {{"path", "/machine/peripheral"}}};
  CO_TRY(json devices, co_await ask(live, std::move(command)));
  std::set<std::string> there;
  for (const json& device : devices)
    if (device.is_object() && device.contains("name") && device["name"].is_string())
      there.insert(device["name"].get<std::string>());
  std::vector<std::string> lost;
  const qemu::Wiring names{.preview = true};
  for (const std::string& alias : domain::device_aliases(*live.domain)) {
    domain::Domain device = domain::only_device(*live.domain, alias);
    auto commands = qemu::plug_commands(device, *live.domain, names);
    // What is part of the machine has no id there.
    bool has_id = commands && std::ranges::any_of(*commands, [&](const qemu::Command& c) {
                    return c.name == "device_add" && c.arguments.value("id", "") == alias;
                  });
    if (has_id && !there.contains(alias))
      lost.push_back(alias);
  }
  co_return lost;
}

}  // namespace tenure::guest
