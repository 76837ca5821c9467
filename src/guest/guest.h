// SPDX-License-Identifier: Apache-2.0
// One guest's life: a running QEMU, its tenures and how it ends. One thread: the event loop's.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "domain/domain.h"
#include "guest/change/amount.h"
#include "guest/change/change.h"
#include "guest/change/snapshot.h"
#include "guest/change/update.h"
#include "guest/guest_events.h"
#include "guest/plan/block_plan.h"
#include "guest/run/context.h"
#include "guest/run/live.h"
#include "guest/run/live_check.h"
#include "guest/run/run_seams.h"
#include "guest/run/run_state.h"
#include "qemu/qmp.h"
#include "registrar/replay.h"

namespace tenure::guest {

// Why a run is about to end, as far as somebody said so before QEMU went.
struct EndCause {
  std::string reason;  // "shutdown", "destroyed", "crashed", "failed"
  std::string why;     // "guest-reset", "host-signal" …; "" if the reason says it all
  registrar::Txn txn;
};

// What can be done to a running guest that changes no tenure. libvirt records none of them.
struct Verb {
  std::string_view name;           // of the request, and op= of the record
  std::string_view qmp;            // QEMU's command; "" for reboot, which is several
  std::string_view reason;         // reason= of the record
  std::string_view needless = {};  // QEMU's word for a guest to which it would do nothing
};
inline constexpr Verb kVerbs[] = {
    {"pause", "stop", "paused", "paused"},
    {"resume", "cont", "unpaused", "running"},
    {"reboot", "", "rebooted"},
    {"reset", "system_reset", "reset"},
    {"inject-nmi", "inject-nmi", "injected"},
};

class Guest : public std::enable_shared_from_this<Guest> {
 public:
  // `seams` refers to `domain`: both live here. `pidfd` is QEMU's.
  Guest(Context& context, std::unique_ptr<domain::Domain> domain, HostOptions options,
        RunState state, std::unique_ptr<RunSeams> seams, std::vector<registrar::Hold> holds,
        UniqueFd pidfd, std::shared_ptr<qemu::Qmp> qmp);

  // Starts to watch QEMU: its events, and its end. `on_ended` is called once, after the last
  // record.
  void watch(std::function<void()> on_ended);

  // ACPI shutdown; returns when the run has ended and every release is recorded. Timeout, with what
  // to do, if the guest does not answer within `timeout`; it may still do so later. Whether
  // anything is left of it afterwards outcome() says, here and below.
  asio::awaitable<Result<>> stop(registrar::Txn txn, std::chrono::seconds timeout);
  // pause, resume, reboot, reset or inject-nmi (kVerbs): asks QEMU and records what came of it;
  // where there is nothing to do, that is done and not recorded.
  asio::awaitable<Result<>> control(std::string verb, registrar::Txn txn, std::string why = "");
  // SIGKILL to QEMU; returns when the run has ended and every release is recorded.
  asio::awaitable<Result<>> kill(registrar::Txn txn, std::string why = "");

  // A device joins, of one element of XML; returns its alias.
  asio::awaitable<Result<std::string>> attach(std::string xml, std::string source,
                                              registrar::Txn txn);
  // The device that `word` names leaves.
  asio::awaitable<Result<>> detach(std::string word, Patience patience, registrar::Txn txn);
  // A device becomes what this element says.
  asio::awaitable<Result<Updated>> update(std::string xml, std::string source, Patience patience,
                                          registrar::Txn txn);

  // New images take what the guest writes from now on.
  asio::awaitable<Result<>> snapshot(SnapshotRequest request, registrar::Txn txn);

  // A block job starts; what it changes is recorded when it ends. With `wait` returns when it has
  // ended, or waits to be told how to; a job that failed is an error then. Says how far it got:
  // started, ready, ended.
  asio::awaitable<Result<std::string>> start_job(BlockJobRequest request, bool wait,
                                                 registrar::Txn txn);
  // `action`: abort, pivot, finish; returns when the job has ended.
  asio::awaitable<Result<>> steer_job(std::string disk, std::string action, registrar::Txn txn);
  asio::awaitable<Result<>> limit_job(std::string disk, uint64_t bandwidth);
  // Those on the disk, or all if it is "".
  asio::awaitable<Result<nlohmann::json>> list_jobs(std::string disk);

  // Amounts that are given change, in this order.
  asio::awaitable<Result<>> set(Amounts amounts, Patience patience, registrar::Txn txn);
  // After an adoption: devices that QEMU has not leave the definition, with what they held, and
  // amounts are what QEMU says.
  asio::awaitable<Result<>> catch_up(registrar::Txn txn);
  // Its state goes to a file, and the run ends (op=stop reason=saved); returns when every release
  // is recorded. On failure the guest goes on.
  asio::awaitable<Result<>> save(std::string path, registrar::Txn txn);
  // Its memory or its screen goes to a file; "" for the default format.
  asio::awaitable<Result<>> dump(std::string path, std::string format, registrar::Txn txn);
  asio::awaitable<Result<>> screenshot(std::string path, std::string format, registrar::Txn txn);

  const RunState& state() const { return live_.state; }
  const domain::Domain& domain() const { return *live_.domain; }
  const HostOptions& options() const { return live_.options; }
  const std::vector<registrar::Hold>& holds() const { return live_.holds; }
  kernel::Fence* fence() { return live_.seams->fence(); }
  RunSeams& seams() { return *live_.seams; }
  const RunSeams& seams() const { return *live_.seams; }
  qemu::Qmp* qmp() { return live_.qmp.get(); }
  // QEMU's own word: running, paused, shutdown …
  const std::string& status() const { return status_; }
  void set_status(std::string status) { status_ = std::move(status); }
  // Intents of this run of which QEMU could not be asked, or looked at: tried again at once, and
  // when a lost monitor is found. What QEMU has open is not compared as long as there are any.
  void leave_undecided(registrar::OpenRun run) { undecided_ = std::move(run); }
  bool undecided() const { return !undecided_.pending.empty(); }
  // What the balloon says from now on is the answer to that request.
  void set_balloon_txn(registrar::Txn txn) { live_.balloon_txn = std::move(txn); }
  bool ended() const { return ended_; }
  // Of a run that has ended: Busy where tenures of it could not be ended, and are still among its
  // holds().
  Result<> outcome() const;
  // An operation on its tenures is under way, so that they and the kernel differ by design.
  bool busy() const { return ended_ || live_.turns.taken(); }
  // For who does something to it from outside of this class: nothing else happens meanwhile.
  asio::awaitable<registrar::Turns::Turn> turn() { return live_.turns.next(); }

 private:
  asio::awaitable<void> wait_for_exit(std::function<void()> on_ended);
  asio::awaitable<Result<>> finish();
  asio::awaitable<Result<>> until_ended(std::chrono::steady_clock::time_point deadline);
  void handle_event(const qemu::QmpEvent& event);
  void handle_balloon(const qemu::QmpEvent& event);
  asio::awaitable<void> follow_balloon();
  void spawn_let_go(const qemu::QmpEvent& event);
  void handle_job(const qemu::QmpEvent& event);
  asio::awaitable<void> follow_job(std::string alias);
  asio::awaitable<Result<>> until_job(std::string alias, bool or_ready);
  EndCause cause_of_end();
  registrar::Txn own_txn() const;

  asio::awaitable<void> let_go(std::string alias);
  asio::awaitable<Result<>> run_verb(const Verb& verb);

  // guest_helpers.cc
  void watch_helpers();
  asio::awaitable<void> watch_helper(std::string alias, kernel::ProcessId process);
  asio::awaitable<void> lose_helper(std::string alias, kernel::ProcessId process, std::string how);

  // guest_monitor.cc
  void listen();
  void lose_monitor(std::string why);
  static asio::awaitable<void> seek_monitor(std::weak_ptr<Guest> weak, std::string why);
  asio::awaitable<Result<>> connect_again();
  asio::awaitable<void> look_again(std::string why);
  asio::awaitable<void> decide();
  asio::awaitable<void> tell_monitor(bool found, std::string why, registrar::Txn txn);

  Live live_;
  GuestEvents guest_events_{live_};
  asio::posix::stream_descriptor pidfd_;
  std::vector<std::shared_ptr<asio::steady_timer>>
      waiters_;  // for the end; each has its own deadline
  std::string status_ = "running";
  std::string shutdown_reason_;          // of QEMU's SHUTDOWN event
  std::optional<EndCause> asked_;        // stop or kill, who asked last
  std::optional<uint64_t> balloon_kib_;  // the last word of the balloon driver
  bool follows_balloon_ = false;
  std::vector<kernel::ProcessId> watched_helpers_;
  bool saving_ = false;
  std::vector<std::shared_ptr<qemu::Qmp>> lost_monitors_;  // closed
  registrar::OpenRun undecided_;                           // its pending intents
  // The power button: what a shutdown means is QEMU's one setting, so a reboot, a stop and a save
  // wait for each other.
  registrar::Turns button_;
  bool ended_ = false;
  std::optional<Error> unended_;  // of tenures that ought to have ended with it
};

// Compares what the kernel has with what the guest holds; it must not be busy().
LiveReport live_check(const Guest& guest, LiveParts parts = {});

}  // namespace tenure::guest
