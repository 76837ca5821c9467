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

#include "guest/wiring.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;
using registrar::Hold;

constexpr auto kQmpTimeout = 5s;
// SIGKILL is answered when the kernel has torn the process down; more than this means a task stuck
// in the kernel.
constexpr auto kKillTimeout = 30s;

}  // namespace

trail::Record control_record(std::string_view op, std::string_view reason, const RunState& state,
                             bool kvm) {
  trail::Record record(trail::Kind::Control);
  record.set("op", op).set("reason", reason);
  record.set("vm-pid", static_cast<uint64_t>(state.process.pid));
  if (!state.fence.empty())  // lost with the runtime folder
    record.set("fence", state.fence);
  record.set("accel", kvm ? "kvm" : "tcg");
  const std::string& cgroup = state.cgroup_v2.empty() ? state.cgroup_v1 : state.cgroup_v2;
  if (!cgroup.empty())
    record.set("cgroup", cgroup);
  if (state.uid)
    record.set("uid", uint64_t{*state.uid});
  return record;
}

Guest::Guest(Context& context, std::unique_ptr<domain::Domain> domain, HostOptions options,
             RunState state, std::unique_ptr<RunSeams> seams, std::vector<Hold> holds,
             UniqueFd pidfd, std::shared_ptr<qemu::Qmp> qmp)
    : context_(context),
      domain_(std::move(domain)),
      options_(std::move(options)),
      state_(std::move(state)),
      seams_(std::move(seams)),
      holds_(std::move(holds)),
      pidfd_(context.executor, pidfd.release()),
      qmp_(std::move(qmp)) {}

void Guest::watch(std::function<void()> on_ended) {
  if (qmp_) {
    // Weak: QMP outlives neither the guest nor the other way round.
    std::weak_ptr<Guest> weak = weak_from_this();
    qmp_->on_event([weak](const qemu::QmpEvent& event) {
      if (auto self = weak.lock())
        self->handle_event(event);
    });
  }
  auto self = shared_from_this();
  auto task = [self, on_ended = std::move(on_ended)]() mutable -> asio::awaitable<void> {
    co_await self->wait_for_exit(std::move(on_ended));
  };
  asio::co_spawn(context_.executor, std::move(task), asio::detached);
}

void Guest::handle_event(const qemu::QmpEvent& event) {
  struct Transition {
    std::string_view event;
    std::string_view status;
  };
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
    context_.log(fmt::format("{}: {}", state_.ref.vm, done.error().what()));
  ended_ = true;
  for (const auto& waiter : waiters_) waiter->cancel();
  on_ended();
}

registrar::Txn Guest::own_txn() const {
  return {.id = context_.new_txn(), .who = Requester{}};  // nobody of this host asked
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
  if (asked_ && asked_->reason == "destroyed")
    return *asked_;
  registrar::Txn txn = asked_ ? asked_->txn : own_txn();
  for (const Cause& cause : kCauses)
    if (shutdown_reason_ == cause.qemu)
      return {.reason = std::string(cause.reason),
              .why = std::string(cause.why),
              .txn = std::move(txn)};
  return {.reason = "crashed", .why = "QEMU ended without a word", .txn = own_txn()};
}

asio::awaitable<Result<>> Guest::finish() {
  if (qmp_)
    qmp_->close();
  EndCause cause = cause_of_end();
  std::string reason = "stop";
  std::string why;
  registrar::RunRef ref = state_.ref;
  registrar::Txn txn = cause.txn;
  std::vector<Hold> holds = std::move(holds_);
  auto left = co_await registrar::release(context_.journal, std::move(ref), std::move(txn), *seams_,
                                          std::move(holds), std::move(reason), std::move(why));
  trail::Record record = control_record("stop", cause.reason, state_, domain_->kvm);
  if (!cause.why.empty())
    record.set("why", cause.why);
  registrar::stamp(record, state_.ref, cause.txn);
  std::vector<trail::Record> records{std::move(record)};
  Result<> written = co_await context_.journal.write(std::move(records));
  if (!left)
    co_return std::unexpected(std::move(left).error());
  holds_ = std::move(*left);
  if (!holds_.empty())
    co_return fail(Errc::Busy, fmt::format("{} tenures could not be ended; see `tenure history`",
                                           holds_.size()));
  unlink_sockets(*domain_, options_);
  CO_TRY_OK(forget_run(context_.paths, state_.ref.uuid));
  co_return written;
}

asio::awaitable<Result<>> Guest::until_ended(std::chrono::steady_clock::time_point deadline) {
  if (!ended_) {
    auto timer = std::make_shared<asio::steady_timer>(context_.executor, deadline);
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
  if (!qmp_)
    co_return fail(Errc::Unsupported, "stop: no monitor to this guest; use `tenure kill`");
  asked_ = EndCause{.reason = "shutdown", .why = "", .txn = std::move(txn)};
  auto deadline = std::chrono::steady_clock::now() + timeout;
  std::string command = "system_powerdown";
  nlohmann::json arguments = nlohmann::json::object();
  auto pressed = co_await qmp_->execute(std::move(command), std::move(arguments), kQmpTimeout);
  if (!pressed)
    co_return std::unexpected(std::move(pressed).error().context("stop: system_powerdown"));
  Result<> done = co_await until_ended(deadline);
  if (!done)
    co_return fail(
        Errc::Timeout,
        fmt::format(
            "stop: the guest did not shut down within {} s; it may still do so, or use `tenure kill {}`",
            timeout.count(), state_.ref.vm));
  co_return done;
}

asio::awaitable<Result<>> Guest::control(std::string verb, registrar::Txn txn, std::string why) {
  auto known = std::ranges::find(kVerbs, verb, &Verb::name);
  if (known == std::end(kVerbs))
    co_return fail(Errc::Invalid, fmt::format("{}: no such operation", verb));
  if (!qmp_)
    co_return fail(Errc::Unsupported, verb + ": no monitor to this guest");
  std::string command(known->qmp);
  nlohmann::json arguments = nlohmann::json::object();
  auto done = co_await qmp_->execute(std::move(command), std::move(arguments), kQmpTimeout);
  trail::Record record = control_record(verb, known->reason, state_, domain_->kvm);
  record.success = done.has_value();
  if (!done)
    why = done.error().what();
  if (!why.empty())
    record.set("why", why);
  registrar::stamp(record, state_.ref, txn);
  std::vector<trail::Record> records{std::move(record)};
  Result<> written = co_await context_.journal.write(std::move(records));
  if (!written)
    context_.log(fmt::format("{}: {}: {}", state_.ref.vm, verb, written.error().what()));
  if (!done)
    co_return std::unexpected(std::move(done).error().context(verb));
  co_return Result<>{};
}

asio::awaitable<Result<>> Guest::kill(registrar::Txn txn) {
  asked_ = EndCause{.reason = "destroyed", .why = "", .txn = std::move(txn)};
  Result<> sent = kernel::signal_process(pidfd_.native_handle(), SIGKILL);
  if (!sent && sent.error().code() != Errc::NotFound)
    co_return sent;
  auto deadline = std::chrono::steady_clock::now() + kKillTimeout;
  co_return co_await until_ended(deadline);
}

}  // namespace tenure::guest
