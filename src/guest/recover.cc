// SPDX-License-Identifier: Apache-2.0
#include "guest/recover.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <exception>
#include <functional>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/file.h"
#include "base/unix_socket.h"
#include "guest/change/abandoned.h"
#include "guest/run/again.h"
#include "guest/run/answer.h"
#include "guest/run/ask.h"
#include "guest/run/confirm.h"
#include "guest/run/end_of_run.h"
#include "guest/run/uids.h"
#include "guest/run/undecided.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;
using registrar::Hold;
using registrar::OpenRun;
using trail::Record;

constexpr auto kMonitorTimeout = 5s;
constexpr int kKillTimeoutMs = 30'000;

// What the kernel has of one run.
class Recovery {
 public:
  Recovery(Context& context, OpenRun run, std::optional<RunState> state)
      : context_(context),
        run_(std::move(run)),
        same_boot_(state && state->boot_id == context.boot_id) {
    if (state)
      state_ = std::move(*state);
    state_.ref = run_.ref;
    state_.started = run_.started;
    if (!same_boot_) {
      state_.process = {};
      state_.helpers.clear();
      state_.slot = 0;
    }
  }

  asio::awaitable<Result<std::shared_ptr<Guest>>> run() {
    txn_ = {.id = context_.new_txn(), .who = kernel::own_requester()};
    prepare();
    CO_TRY_OK(co_await find_process_at_last());
    is_known_ = true;
    if (pidfd_ && run_.started) {
      co_await fence_at_last();
      auto adopted = co_await adopt();
      if (adopted)
        co_return adopted;
      context_.log(fmt::format("{}: cannot be adopted, so it is ended: {}", run_.ref.vm,
                               adopted.error().what()));
    }
    CO_TRY_OK(co_await close());
    co_return std::shared_ptr<Guest>();
  }

  const std::string& vm() const { return run_.ref.vm; }
  // False after a run() that failed before it could tell whether QEMU lives.
  bool is_known() const { return is_known_; }
  // What could not be taken away of a run that has ended, known after run().
  LeftOver take_left_over() {
    LeftOver left{.ref = run_.ref, .holds = std::move(left_), .seams = nullptr};
    if (run_.pending.empty())
      left.seams = kept_with(std::move(domain_), std::move(seams_));
    return left;
  }

 private:
  // The definition of the run, if its state is still there; without it, the ledger alone says what
  // to release.
  void prepare() {
    domain_ = std::make_unique<domain::Domain>();
    if (auto parsed = live_domain(state_); parsed)
      *domain_ = std::move(*parsed);
    if (state_.boot_id.empty())
      state_from_grants();
    if (state_.fence == "v2")
      options_.fence = kernel::CgroupVersion::V2;
    if (state_.fence == "v1")
      options_.fence = kernel::CgroupVersion::V1;
    options_.cgroup_v2 = state_.cgroup_v2;
    options_.cgroup_v1 = state_.cgroup_v1;
    options_.uid = state_.uid;
    options_.base_devices = context_.settings.base_devices;
    options_.runtime_dir = run_dir(context_.paths, run_.ref.uuid) + "/sockets";
    open_fence();
  }

  void open_fence() {
    fence_error_.clear();
    seams_ = std::make_unique<RunSeams>(*domain_, options_, context_.mounts,
                                        context_.fence(options_.fence));
    // Also after another boot, or what seems to be one: only the kernel knows what is gone.
    if (auto adopted = seams_->adopt(state_.slot); !adopted)
      fence_error_ = adopted.error().what();
    if (auto helpers = find_helpers(state_); helpers)
      seams_->helpers() = std::move(*helpers);
    else
      fence_error_ = helpers.error().what();
  }

  // Where the state is lost (a wiped runtime folder) the grants tell which cgroups the run had.
  void state_from_grants() {
    auto take = [this](const model::Claim& claim) {
      if (claim.record.kind != trail::Kind::CgroupGroup)
        return;
      bool v2 = !context_.mounts.v2.empty() && claim.id.starts_with(context_.mounts.v2 + "/");
      (v2 ? state_.cgroup_v2 : state_.cgroup_v1) = claim.id;
      state_.fence = v2 ? "v2" : "v1";
    };
    for (const Hold& hold : run_.holds) take(hold.claim);
    for (const registrar::Pending& pending : run_.pending) take(model::claim_of(pending.record));
    if (auto uid = uid_of(context_.paths, context_.settings, run_.ref.uuid))
      state_.uid = *uid;
  }

  // By the pid that was written down, else by the cgroup, else by QEMU's own arguments (the daemon
  // died between clone3 and writing it down).
  // An error if that cannot be told; NotFound is an answer.
  Result<> find_process() {
    if (state_.process.pid == 0) {
      TRY(auto strays, qemu_candidates(*seams_, state_, has_helpers(*domain_)));
      if (strays.empty())
        return {};
      TRY(state_.process, kernel::process_id(strays.front()));
    }
    TRY(UniqueFd pidfd, kernel::open_process(state_.process));
    if (!has_exited(pidfd.get()))
      pidfd_ = std::move(pidfd);
    return {};
  }

  // Whoever cannot be looked at is neither alive nor dead: nothing true could be recorded of it.
  asio::awaitable<Result<>> find_process_at_last() {
    Result<> found = find_process();
    for (std::chrono::milliseconds delay : kAgain) {
      if (found || found.error().code() == Errc::NotFound)
        co_return Result<>{};
      co_await pause(context_, delay);
      found = find_process();
    }
    co_return found;
  }

  // A zombie still has its pid, but holds nothing.
  static bool has_exited(int pidfd, int timeout_ms = 0) {
    pollfd exit{.fd = pidfd, .events = POLLIN, .revents = 0};
    return poll(&exit, 1, timeout_ms) == 1;
  }

  asio::awaitable<Result<std::shared_ptr<Guest>>> adopt() {
    if (!fence_error_.empty())
      co_return fail(Errc::Lost, fence_error_);
    if (domain_->name.empty())
      co_return fail(Errc::NotFound, "its definition is lost");
    auto found = co_await monitor_at_last();
    if (!found && has_ended())
      co_return std::unexpected(std::move(found).error());
    // Fenced it is without one: somebody else may have its monitor, or its storage stand still.
    std::shared_ptr<qemu::Qmp> qmp = found ? std::move(*found) : nullptr;
    CO_TRY_OK(co_await settle_changes(qmp));
    seams_->set_process(state_.process);
    if (has_helpers(*domain_))
      co_await let_strays_end(context_.executor, *seams_, state_.process.pid);
    std::string status = "unknown";
    if (qmp)
      status = co_await end_changes(qmp);
    std::vector<Record> records{recovery_record("adopted")};
    // It gains nothing by this, so it does not end for a log that cannot take the record.
    Result<> written = co_await context_.journal.write(std::move(records));
    if (!written)
      context_.log(fmt::format("{}: adopted: {}", run_.ref.vm, written.error().what()));
    auto guest = std::make_shared<Guest>(context_, std::move(domain_), std::move(options_), state_,
                                         std::move(seams_), std::move(run_.holds),
                                         std::move(pidfd_), std::move(qmp));
    if (!status.empty())
      guest->set_status(std::move(status));
    guest->leave_undecided(run_);
    registrar::Txn txn = txn_;
    Result<> reconciled = co_await guest->catch_up(std::move(txn));
    if (!reconciled)
      context_.log(fmt::format("{}: adopted: {}", run_.ref.vm, reconciled.error().what()));
    co_return guest;
  }

  // The daemon died in the midst of a change: what is true of it is granted; a device that did not
  // get as far as QEMU goes afterwards, with what it was granted.
  asio::awaitable<Result<>> settle_changes(std::shared_ptr<qemu::Qmp> qmp) {
    if (run_.pending.empty())
      co_return Result<>{};
    co_await look_at_qemu(qmp);
    Verdicts verdicts = verdicts_;
    std::string settled = "recovered: tenured died while the guest was being changed";
    co_return co_await settle_undecided(undecided(), std::move(verdicts), std::move(settled));
  }

  // What the daemon had begun and nobody goes on with. Returns QEMU's status; "" if it does not
  // say.
  asio::awaitable<std::string> end_changes(const std::shared_ptr<qemu::Qmp>& qmp) {
    Borrower to{
        .context = context_, .state = state_, .seams = *seams_, .qmp = qmp, .holds = run_.holds};
    registrar::Txn ending = txn_;
    co_await end_abandoned(to, state_, std::move(ending));
    qemu::Command query{"query-status", nlohmann::json::object()};
    auto status = co_await ask(qmp, std::move(query), kMonitorTimeout);
    co_return status ? word_in(*status, "status") : "";
  }

  Record recovery_record(std::string_view reason) const {
    Record record(trail::Kind::Recovery);
    record.set("reason", reason).set("vm-pid", static_cast<uint64_t>(state_.process.pid));
    registrar::stamp(record, run_.ref, txn_);
    return record;
  }

  std::string why() const {
    if (run_.ended)
      return "recovered: it could not be taken away when the guest ended";
    if (!same_boot_)
      return "recovered: the host or its runtime state went down while tenured did not run";
    if (!run_.started)
      return "recovered: tenured died while the guest was starting";
    if (pidfd_)
      return "recovered: the guest could not be taken over, so tenured ended it";
    return "recovered: the guest ended while tenured did not run";
  }

  // What ended by itself: after the run's last entry, before now. What we end has its own time.
  std::optional<registrar::Bounds> bounds() const {
    if (pidfd_)
      return std::nullopt;
    return registrar::Bounds{run_.last_ms, system_clock().realtime_ns() / 1'000'000};
  }

  Result<> kill_survivors() {
    if (!pidfd_)
      return {};
    Result<> sent = kernel::signal_process(pidfd_.get(), SIGKILL);
    if (!sent && sent.error().code() != Errc::NotFound)
      return sent;
    if (!has_exited(pidfd_.get(), kKillTimeoutMs))
      return fail(Errc::Timeout, "QEMU does not end");
    return {};
  }

  Undecided undecided() { return {context_, run_, *domain_, options_, *seams_}; }

  // Asked before a QEMU that lives is ended, for afterwards nobody can tell.
  asio::awaitable<void> look_at_qemu(std::shared_ptr<qemu::Qmp> qmp) {
    if (pidfd_)
      verdicts_ = co_await ask_qemu(undecided(), state_.process, std::move(qmp));
  }

  asio::awaitable<Result<std::shared_ptr<qemu::Qmp>>> monitor() {
    CO_TRY(UniqueFd socket, connect_unix(monitor_path(context_.paths, run_.ref.uuid)));
    co_return co_await qemu::open_qmp(context_.executor, std::move(socket), kMonitorTimeout);
  }

  // An error of a moment, ours or QEMU's, is asked about again; one that does not answer has been
  // given its time.
  asio::awaitable<Result<std::shared_ptr<qemu::Qmp>>> monitor_at_last() {
    for (std::chrono::milliseconds delay : kAgain) {
      auto qmp = co_await answering_monitor();
      if (qmp || qmp.error().code() == Errc::Timeout || has_ended())
        co_return qmp;
      co_await pause(context_, delay);
    }
    co_return co_await answering_monitor();
  }

  asio::awaitable<Result<std::shared_ptr<qemu::Qmp>>> answering_monitor() {
    auto qmp = co_await monitor();
    if (!qmp)
      co_return qmp;
    Result<> resumed = co_await resume_if_never_run(*qmp, kMonitorTimeout);
    if (resumed)
      co_return qmp;
    (*qmp)->close();
    co_return std::unexpected(std::move(resumed).error());
  }

  // The same for its fence, without which it may not go on.
  asio::awaitable<void> fence_at_last() {
    for (std::chrono::milliseconds delay : kAgain) {
      if (fence_error_.empty() || has_ended())
        co_return;
      co_await pause(context_, delay);
      open_fence();
    }
  }

  bool has_ended() const { return has_exited(pidfd_.get()); }

  // Of what could not be told nothing is recorded and nothing is taken away that would tell it
  // later: the cgroup stays as long as anything of its fence is not known.
  std::vector<Hold> keep_evidence() {
    bool of_fence = false;
    for (const registrar::Pending& pending : run_.pending) {
      auto kind = pending.record.kind;
      of_fence |= kind != trail::Kind::FileAcl && kind != trail::Kind::NetOpen;
    }
    auto is_evidence = [&](const Hold& hold) {
      return of_fence && hold.claim.record.kind == trail::Kind::CgroupGroup;
    };
    auto kept = std::ranges::stable_partition(run_.holds, std::not_fn(is_evidence));
    std::vector<Hold> evidence(std::make_move_iterator(kept.begin()),
                               std::make_move_iterator(kept.end()));
    run_.holds.erase(kept.begin(), kept.end());
    for (Hold& hold : evidence) hold.kept = "it is needed to tell what else is held";
    return evidence;
  }

  asio::awaitable<Result<>> close() {
    if (pidfd_) {
      auto asked = co_await monitor();
      std::shared_ptr<qemu::Qmp> qmp = asked ? std::move(*asked) : nullptr;
      co_await look_at_qemu(qmp);
      if (qmp)
        qmp->close();
    }
    CO_TRY_OK(kill_survivors());
    CO_TRY_OK(co_await end_helpers(context_.executor, *seams_));
    // Nobody can tell any more of what could not be told; the kernel says what is left of it.
    Verdicts verdicts = verdicts_;
    std::erase_if(verdicts, [](const auto& one) { return !one.second; });
    std::string settled = why();
    CO_TRY_OK(co_await settle_undecided(undecided(), std::move(verdicts), std::move(settled)));
    std::vector<Hold> evidence = keep_evidence();
    registrar::RunRef ref = run_.ref;
    registrar::Txn txn = txn_;
    std::vector<Hold> holds = std::move(run_.holds);
    registrar::Ending ending{
        .reason = "stop", .why = why(), .bounds = bounds(), .staying = nullptr};
    CO_TRY(left_, co_await release_all(context_, std::move(ref), std::move(txn), *seams_,
                                       std::move(holds), std::move(ending)));
    std::ranges::move(evidence, std::back_inserter(left_));
    std::vector<Record> records;
    if (!run_.ended)
      records.push_back(end_record());
    Result<> written = co_await context_.journal.write(std::move(records));
    if (!left_.empty() || !run_.pending.empty())
      co_return fail(
          Errc::Busy,
          fmt::format("{} tenures could not be ended, of {} it is not known whether they "
                      "began",
                      left_.size(), run_.pending.size()));
    CO_TRY_OK(forget_run(context_.paths, run_.ref.uuid));
    co_return written;
  }

  // A start that never got as far as QEMU failed; everything else is a run that ended.
  Record end_record() const {
    bool launched = run_.started || state_.process.pid != 0;
    std::string_view reason = !run_.started ? "failed" : pidfd_ ? "destroyed" : "crashed";
    Record record = launched ? control_record("stop", reason, state_, run_.ref.virt == "kvm")
                             : control_record("start", "booted", state_, run_.ref.virt == "kvm");
    record.success = launched;
    record.set("why", why());
    if (auto between = bounds())
      registrar::set_bounds(record, *between);
    registrar::stamp(record, run_.ref, txn_);
    return record;
  }

  Context& context_;
  OpenRun run_;
  RunState state_;
  bool same_boot_;
  registrar::Txn txn_;
  std::unique_ptr<domain::Domain> domain_;
  HostOptions options_;
  std::unique_ptr<RunSeams> seams_;
  std::string fence_error_;
  UniqueFd pidfd_;
  bool is_known_ = false;
  Verdicts verdicts_;
  std::vector<Hold> left_;
};

using Adopted = Result<std::shared_ptr<Guest>>;

// Side by side: one whose monitor does not answer is waited for, and the others are not to wait.
asio::awaitable<std::vector<Adopted>> run_all(
    Context& context, const std::vector<std::unique_ptr<Recovery>>& recoveries) {
  std::vector<Adopted> found(recoveries.size());
  size_t left = recoveries.size();
  std::exception_ptr thrown;
  asio::steady_timer all(context.executor, asio::steady_timer::time_point::max());
  auto task = [](Recovery& one, Adopted& result) -> asio::awaitable<void> {
    result = co_await one.run();
  };
  auto ended = [&left, &all, &thrown](const std::exception_ptr& error) {
    if (error)
      thrown = error;
    if (--left == 0)
      all.cancel();
  };
  for (size_t i = 0; i < recoveries.size(); ++i)
    asio::co_spawn(context.executor, task(*recoveries[i], found[i]), ended);
  asio::error_code cancelled;
  if (left > 0)
    co_await all.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
  if (thrown)
    std::rethrow_exception(thrown);
  co_return found;
}

Result<std::map<std::string, RunState>> states_by_uuid(Context& context) {
  std::map<std::string, RunState> states;
  TRY(std::vector<Result<RunState>> runs, load_runs(context.paths));
  for (Result<RunState>& run : runs) {
    if (!run) {
      context.log(run.error().what());
      continue;
    }
    std::string uuid = run->ref.uuid;
    states.emplace(std::move(uuid), std::move(*run));
  }
  return states;
}

asio::awaitable<Result<std::map<std::string, RunState>>> states_at_last(Context& context) {
  for (std::chrono::milliseconds delay : kAgain) {
    auto states = states_by_uuid(context);
    if (states)
      co_return states;
    co_await pause(context, delay);
  }
  co_return states_by_uuid(context);
}

}  // namespace

asio::awaitable<Result<Recovered>> recover(Context& context, registrar::Replay replay) {
  context.journal.resume(std::move(replay.gap));
  CO_TRY(auto states, co_await states_at_last(context));
  Recovered recovered;
  for (const std::string& uuid : stateless_runs(context.paths))
    if (!replay.open.contains(uuid))
      states.try_emplace(uuid);
  std::vector<std::unique_ptr<Recovery>> recoveries;
  for (auto& [uuid, run] : replay.open) {
    std::optional<RunState> state;
    if (auto found = states.extract(uuid); !found.empty())
      state = std::move(found.mapped());
    recoveries.push_back(std::make_unique<Recovery>(context, std::move(run), std::move(state)));
  }
  auto found = co_await run_all(context, recoveries);
  for (size_t i = 0; i < recoveries.size(); ++i) {
    const std::string vm = recoveries[i]->vm();
    if (!recoveries[i]->is_known())
      co_return std::unexpected(std::move(found[i]).error().context(vm + ": is its QEMU alive"));
    if (!found[i])
      context.log(fmt::format("{}: recovery: {}", vm, found[i].error().what()));
    else if (*found[i])
      recovered.adopted.push_back(std::move(*found[i]));
    if (LeftOver left = recoveries[i]->take_left_over(); !left.holds.empty())
      recovered.left_over.push_back(std::move(left));
  }
  // A state without anything open in the ledger: the daemon died before its intents were durable,
  // or after its last record. Nothing was granted, or everything is released.
  for (const auto& [uuid, state] : states)
    if (auto forgotten = forget_run(context.paths, uuid); !forgotten)
      context.log(forgotten.error().what());
  co_return recovered;
}

}  // namespace tenure::guest
