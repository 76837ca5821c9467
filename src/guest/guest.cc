// SPDX-License-Identifier: Apache-2.0
#include "guest/guest.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <nlohmann/json.hpp>

#include "domain/change.h"
#include "guest/change/amount.h"
#include "guest/change/block_job.h"
#include "guest/change/chain.h"
#include "guest/change/helper_end.h"
#include "guest/change/let_go.h"
#include "guest/change/reboot.h"
#include "guest/run/answer.h"
#include "guest/run/ask.h"
#include "guest/run/end_of_run.h"
#include "guest/run/wiring.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;
using registrar::Hold;

// SIGKILL is answered when the kernel has torn the process down; more than this means a task stuck
// in the kernel.
constexpr auto kKillTimeout = 30s;
constexpr auto kRebootTimeout = 60s;  // for the guest to shut down

// False as well if it does not say.
asio::awaitable<bool> is_in_state(const std::shared_ptr<qemu::Qmp>& monitor,
                                  std::string_view state) {
  if (state.empty())
    co_return false;
  qemu::Command query{"query-status", nlohmann::json::object()};
  auto status = co_await ask(monitor, std::move(query), kQuickTimeout);
  co_return status&& word_in(*status, "status") == state;
}

}  // namespace

Guest::Guest(Context& context, std::unique_ptr<domain::Domain> domain, HostOptions options,
             RunState state, std::unique_ptr<RunSeams> seams, std::vector<Hold> holds,
             UniqueFd pidfd, std::shared_ptr<qemu::Qmp> qmp)
    : live_{.context = context,
            .domain = std::move(domain),
            .options = std::move(options),
            .state = std::move(state),
            .seams = std::move(seams),
            .holds = std::move(holds),
            .qmp = std::move(qmp),
            .events = Events(context.executor),
            .turns = {},
            .balloon_txn = {}},
      pidfd_(context.executor, pidfd.release()) {
  live_.seams->set_process(live_.state.process);
}

void Guest::watch(std::function<void()> on_ended) {
  if (live_.qmp)
    listen();
  else
    lose_monitor("QEMU did not answer when tenured started");
  watch_helpers();
  auto self = shared_from_this();
  auto task = [self, on_ended = std::move(on_ended)]() mutable -> asio::awaitable<void> {
    co_await self->wait_for_exit(std::move(on_ended));
  };
  asio::co_spawn(live_.context.executor, std::move(task), asio::detached);
}

void Guest::handle_event(const qemu::QmpEvent& event) {
  struct Transition {
    std::string_view event;
    std::string_view status;
  };
  handle_balloon(event);
  handle_job(event);
  bool awaited = live_.events.deliver(event);
  if (event.name == "DEVICE_DELETED" && !awaited)
    spawn_let_go(event);
  else if (!awaited)
    guest_events_.handle(event, shared_from_this());
  static constexpr Transition kTransitions[] = {{"STOP", "paused"},
                                                {"RESUME", "running"},
                                                {"SHUTDOWN", "shutdown"},
                                                {"GUEST_PANICKED", "panicked"}};
  for (const Transition& t : kTransitions)
    if (event.name == t.event)
      status_ = t.status;
  if (event.name != "SHUTDOWN" || !event.data)
    return;
  auto reason = event.data->find("reason");
  if (reason != event.data->end() && reason->is_string())
    shutdown_reason_ = reason->get<std::string>();
}

asio::awaitable<void> Guest::wait_for_exit(std::function<void()> on_ended) {
  asio::error_code error;
  co_await pidfd_.async_wait(asio::posix::stream_descriptor::wait_read,
                             asio::redirect_error(asio::use_awaitable, error));
  if (error)
    co_return;  // the daemon is going away; the guest goes on
  siginfo_t info{};
  // Reaps our child; a guest adopted after a restart is init's, and waitid says ECHILD.
  waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd_.native_handle()), &info, WEXITED);
  Result<> done = co_await finish();
  if (!done)
    live_.context.log(fmt::format("{}: {}", live_.state.ref.vm, done.error().what()));
  ended_ = true;
  for (const auto& waiter : waiters_) waiter->cancel();
  on_ended();
}

registrar::Txn Guest::own_txn() const {
  return {.id = live_.context.new_txn(), .who = Requester{}};  // nobody of this host asked
}

// QEMU's SHUTDOWN event, the request that preceded it, or the lack of both tell why it went
// (qapi/run-state.json, ShutdownCause).
EndCause Guest::cause_of_end() {
  struct Cause {
    std::string_view qemu;
    std::string_view reason;
    std::string_view why;
  };
  static constexpr Cause kCauses[] = {
      {"guest-shutdown", "shutdown", ""},
      {"guest-reset", "shutdown", "the guest asked for a reset, and on_reboot is destroy"},
      {"guest-panic", "crashed", "the guest panicked"},
      {"host-qmp-quit", "destroyed", "quit by QMP"},
      {"host-signal", "destroyed", "QEMU got a signal from the host"},
      {"host-error", "failed", "QEMU failed"},
      {"host-ui", "destroyed", "closed in the user interface"},
  };
  if (asked_ && (asked_->reason == "destroyed" || asked_->reason == "saved"))
    return *asked_;
  registrar::Txn txn = asked_ ? asked_->txn : own_txn();
  for (const Cause& cause : kCauses)
    if (shutdown_reason_ == cause.qemu)
      return {.reason = std::string(cause.reason),
              .why = std::string(cause.why),
              .txn = std::move(txn)};
  return {.reason = "crashed", .why = "QEMU ended without a word", .txn = own_txn()};
}

// The guest let go of a device that nobody waits for: it ejected it by itself, or answers late.
void Guest::spawn_let_go(const qemu::QmpEvent& event) {
  auto device = event.data->find("device");
  if (device == event.data->end() || !device->is_string())
    return;
  auto self = shared_from_this();
  auto task = [self, alias = device->get<std::string>()]() mutable -> asio::awaitable<void> {
    co_await self->let_go(std::move(alias));
  };
  asio::co_spawn(live_.context.executor, std::move(task), asio::detached);
}

asio::awaitable<void> Guest::let_go(std::string alias) {
  registrar::Turns::Turn turn = co_await live_.turns.next();
  auto device = domain::find_device(*live_.domain, alias);
  if (ended_ || !device)
    co_return;
  auto asked = live_.state.leaving.find(alias);
  bool was_asked = asked != live_.state.leaving.end();
  registrar::Txn txn = was_asked ? asked->second.txn : own_txn();
  std::string why = was_asked ? "" : "ejected by the guest";
  Result<> done = co_await finish_detach(live_, std::move(alias), std::move(why), std::move(txn));
  if (!done)
    live_.context.log(fmt::format("{}: {}", live_.state.ref.vm, done.error().what()));
}

asio::awaitable<Result<std::string>> Guest::attach(std::string xml, std::string source,
                                                   registrar::Txn txn) {
  registrar::Turns::Turn turn = co_await live_.turns.next();
  if (ended_)
    co_return fail(Errc::Busy, live_.state.ref.vm + " is not running");
  auto done = co_await guest::attach(live_, std::move(xml), std::move(source), std::move(txn));
  watch_helpers();
  co_return done;
}

asio::awaitable<Result<>> Guest::detach(std::string word, Patience patience, registrar::Txn txn) {
  registrar::Turns::Turn turn = co_await live_.turns.next();
  if (ended_)
    co_return fail(Errc::Busy, live_.state.ref.vm + " is not running");
  co_return co_await guest::detach(live_, std::move(word), patience, std::move(txn));
}

asio::awaitable<Result<>> Guest::catch_up(registrar::Txn txn) {
  registrar::Turns::Turn turn = co_await live_.turns.next();
  co_await decide();
  CO_TRY(std::vector<std::string> lost, co_await lost_devices(live_));
  for (std::string& alias : lost) {
    std::string why = "recovered: it is not in QEMU";
    auto asked = live_.state.leaving.find(alias);
    registrar::Txn own = asked != live_.state.leaving.end() ? asked->second.txn : txn;
    CO_TRY_OK(co_await finish_detach(live_, std::move(alias), std::move(why), std::move(own)));
  }
  co_await ask_again(live_);
  registrar::Txn moved = txn;
  CO_TRY_OK(co_await settle_bridges(live_, std::move(moved)));
  if (live_.qmp)
    guest_events_.look_at_macs(shared_from_this());
  registrar::Txn own = txn;
  CO_TRY_OK(co_await settle_helpers(live_, std::move(own)));
  own = txn;
  if (live_.qmp)
    CO_TRY_OK(co_await settle_drives(live_, std::move(own)));
  own = txn;
  if (live_.qmp) {
    CO_TRY_OK(co_await settle_jobs(live_));
    CO_TRY_OK(co_await settle_chains(live_, std::move(own)));
  }
  co_return co_await note_amounts(live_, std::move(txn));
}

asio::awaitable<Result<>> Guest::set(Amounts amounts, Patience patience, registrar::Txn txn) {
  registrar::Turns::Turn turn = co_await live_.turns.next();
  if (ended_)
    co_return fail(Errc::Busy, live_.state.ref.vm + " is not running");
  if (amounts.memory_kib)
    CO_TRY_OK(co_await set_memory(live_, *amounts.memory_kib, txn));
  if (amounts.vcpus)
    CO_TRY_OK(co_await set_vcpus(live_, *amounts.vcpus, patience, txn));
  if (amounts.iothreads)
    CO_TRY_OK(co_await set_iothreads(live_, *amounts.iothreads, txn));
  co_return Result<>{};
}

void Guest::handle_balloon(const qemu::QmpEvent& event) {
  auto actual = event.data->find("actual");
  if (event.name != "BALLOON_CHANGE" || actual == event.data->end() ||
      !actual->is_number_unsigned())
    return;
  balloon_kib_ = actual->get<uint64_t>() / 1024;
  if (std::exchange(follows_balloon_, true))
    return;
  auto self = shared_from_this();
  auto task = [self]() -> asio::awaitable<void> { co_await self->follow_balloon(); };
  asio::co_spawn(live_.context.executor, std::move(task), asio::detached);
}

// At most one record a second, and the last word always.
asio::awaitable<void> Guest::follow_balloon() {
  asio::steady_timer pause(live_.context.executor);
  while (balloon_kib_ && !ended_) {
    uint64_t kib = *std::exchange(balloon_kib_, std::nullopt);
    {
      registrar::Turns::Turn turn = co_await live_.turns.next();
      registrar::Txn txn = live_.balloon_txn.id.empty() ? own_txn() : live_.balloon_txn;
      Result<> noted;
      if (!ended_)
        noted = co_await note_memory(live_, kib, std::move(txn));
      if (!noted)
        live_.context.log(fmt::format("{}: balloon: {}", live_.state.ref.vm, noted.error().what()));
    }
    pause.expires_after(1s);
    asio::error_code error;
    co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
  }
  follows_balloon_ = false;
}

asio::awaitable<Result<Updated>> Guest::update(std::string xml, std::string source,
                                               Patience patience, registrar::Txn txn) {
  registrar::Turns::Turn turn = co_await live_.turns.next();
  if (ended_)
    co_return fail(Errc::Busy, live_.state.ref.vm + " is not running");
  co_return co_await guest::update(live_, std::move(xml), std::move(source), patience,
                                   std::move(txn));
}

asio::awaitable<Result<>> Guest::finish() {
  if (live_.qmp)
    live_.qmp->close();
  guest_events_.close();
  live_.events.close();
  wake_job_waiters(live_);
  live_.seams->set_process({});
  // An operation in flight fails now, and rolls back before the end is recorded.
  registrar::Turns::Turn turn = co_await live_.turns.next();
  Result<> helpers = co_await end_helpers(live_.context.executor, *live_.seams);
  if (!helpers)
    live_.context.log(fmt::format("{}: {}", live_.state.ref.vm, helpers.error().what()));
  EndCause cause = cause_of_end();
  registrar::Ending ending{.reason = "stop", .why = "", .bounds = {}, .staying = nullptr};
  registrar::RunRef ref = live_.state.ref;
  registrar::Txn txn = cause.txn;
  std::vector<Hold> holds = std::move(live_.holds);
  auto left = co_await release_all(live_.context, std::move(ref), std::move(txn), *live_.seams,
                                   std::move(holds), std::move(ending));
  trail::Record record = control_record("stop", cause.reason, live_.state, live_.domain->kvm);
  if (!cause.why.empty())
    record.set("why", cause.why);
  registrar::stamp(record, live_.state.ref, cause.txn);
  std::vector<trail::Record> records{std::move(record)};
  Result<> written = co_await live_.context.journal.write(std::move(records));
  if (left)
    live_.holds = std::move(*left);
  else
    unended_ = std::move(left).error().context("it has ended, but not every release is recorded");
  if (!live_.holds.empty())
    unended_ = Error(Errc::Busy,
                     fmt::format("it has ended, but {}; see `tenure status {}`, it is tried again",
                                 still_held(live_.holds), live_.state.ref.vm));
  unlink_sockets(*live_.domain, live_.options);
  CO_TRY_OK(outcome());
  CO_TRY_OK(forget_run(live_.context.paths, live_.state.ref.uuid));
  co_return written;
}

Result<> Guest::outcome() const {
  return unended_ ? fail(*unended_) : Result<>{};
}

asio::awaitable<Result<>> Guest::until_ended(std::chrono::steady_clock::time_point deadline) {
  if (!ended_) {
    auto timer = std::make_shared<asio::steady_timer>(live_.context.executor, deadline);
    waiters_.push_back(timer);
    asio::error_code error;
    co_await timer->async_wait(asio::redirect_error(asio::use_awaitable, error));
    std::erase(waiters_, timer);
  }
  if (!ended_)
    co_return fail(Errc::Timeout, "it has not ended yet");
  co_return Result<>{};
}

asio::awaitable<Result<>> Guest::stop(registrar::Txn txn, std::chrono::seconds timeout) {
  if (!live_.qmp)
    co_return fail(Errc::Unsupported, "stop: no monitor to this guest; use `tenure kill`");
  {
    registrar::Turns::Turn after_reboot = co_await button_.next();
  }
  if (ended_)
    co_return fail(Errc::Busy, live_.state.ref.vm + " is not running");
  asked_ = EndCause{.reason = "shutdown", .why = "", .txn = std::move(txn)};
  auto deadline = std::chrono::steady_clock::now() + timeout;
  qemu::Command command{"system_powerdown", nlohmann::json::object()};
  auto pressed = co_await ask(live_, std::move(command), kQuickTimeout);
  if (!pressed)
    co_return std::unexpected(std::move(pressed).error().context("stop"));
  Result<> done = co_await until_ended(deadline);
  if (!done)
    co_return fail(
        Errc::Timeout,
        fmt::format(
            "stop: the guest did not shut down within {} s; it may still do so, or use `tenure kill {}`",
            timeout.count(), live_.state.ref.vm));
  co_return done;
}

asio::awaitable<Result<>> Guest::run_verb(const Verb& verb) {
  if (verb.qmp.empty()) {
    Result<> done = co_await reboot(live_, kRebootTimeout);
    if (done)
      shutdown_reason_.clear();  // that of the shutdown before the reset
    co_return done;
  }
  qemu::Command command{std::string(verb.qmp), nlohmann::json::object()};
  CO_TRY_OK(co_await ask(live_, std::move(command), kQuickTimeout));
  co_return Result<>{};
}

asio::awaitable<Result<>> Guest::control(std::string verb, registrar::Txn txn, std::string why) {
  auto known = std::ranges::find(kVerbs, verb, &Verb::name);
  if (known == std::end(kVerbs))
    co_return fail(Errc::Invalid, fmt::format("{}: no such operation", verb));
  if (!live_.qmp)
    co_return fail(Errc::Unsupported, verb + ": no monitor to this guest");
  // The button before the turn, as in save().
  std::optional<registrar::Turns::Turn> button, turn;
  if (known->qmp.empty())
    button.emplace(co_await button_.next());
  // What is being saved stands still; it must neither go on beside its own state nor, where the
  // save fails, go on although it was to pause.
  if (saving_)
    turn.emplace(co_await live_.turns.next());
  if (ended_ || saving_)
    co_return fail(Errc::Busy, live_.state.ref.vm + " is not running");
  const bool is_so = co_await is_in_state(live_.qmp, known->needless);
  if (is_so)
    co_return Result<>{};
  Result<> done = co_await run_verb(*known);
  trail::Record record = control_record(verb, known->reason, live_.state, live_.domain->kvm);
  record.success = done.has_value();
  if (!done)
    why = done.error().what();
  if (!why.empty())
    record.set("why", why);
  registrar::stamp(record, live_.state.ref, txn);
  std::vector<trail::Record> records{std::move(record)};
  Result<> written = co_await live_.context.journal.write(std::move(records));
  if (!written)
    live_.context.log(fmt::format("{}: {}: {}", live_.state.ref.vm, verb, written.error().what()));
  if (!done)
    co_return std::unexpected(std::move(done).error().context(verb));
  co_return Result<>{};
}

asio::awaitable<Result<>> Guest::kill(registrar::Txn txn, std::string why) {
  asked_ = EndCause{.reason = "destroyed", .why = std::move(why), .txn = std::move(txn)};
  Result<> sent = kernel::signal_process(pidfd_.native_handle(), SIGKILL);
  if (!sent && sent.error().code() != Errc::NotFound)
    co_return sent;
  auto deadline = std::chrono::steady_clock::now() + kKillTimeout;
  co_return co_await until_ended(deadline);
}

LiveReport live_check(const Guest& guest, LiveParts parts) {
  parts.descriptors &= !guest.undecided();
  return live_check(LiveSubject{.state = guest.state(),
                                .options = guest.options(),
                                .holds = guest.holds(),
                                .seams = guest.seams(),
                                .parts = parts});
}

}  // namespace tenure::guest
