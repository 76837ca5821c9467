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
#include "guest/context.h"
#include "guest/run_seams.h"
#include "guest/run_state.h"
#include "qemu/qmp.h"

namespace tenure::guest {

// Why a run is about to end, as far as somebody said so before QEMU went.
struct EndCause {
  std::string reason;  // "shutdown", "destroyed", "crashed", "failed"
  std::string why;     // "guest-reset", "host-signal" …; "" if the reason says it all
  registrar::Txn txn;
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
  // to do, if the guest does not answer within `timeout`; it may still do so later.
  asio::awaitable<Result<>> stop(registrar::Txn txn, std::chrono::seconds timeout);
  // pause, resume, reset or inject-nmi (kVerbs): asks QEMU and records what came of it.
  asio::awaitable<Result<>> control(std::string verb, registrar::Txn txn, std::string why = "");
  // SIGKILL to QEMU; returns when the run has ended and every release is recorded.
  asio::awaitable<Result<>> kill(registrar::Txn txn);

  const RunState& state() const { return state_; }
  const domain::Domain& domain() const { return *domain_; }
  const HostOptions& options() const { return options_; }
  const std::vector<registrar::Hold>& holds() const { return holds_; }
  kernel::Fence* fence() { return seams_->fence(); }
  RunSeams& seams() { return *seams_; }
  const RunSeams& seams() const { return *seams_; }
  qemu::Qmp* qmp() { return qmp_.get(); }
  // QEMU's own word: running, paused, shutdown …
  const std::string& status() const { return status_; }
  bool ended() const { return ended_; }

 private:
  asio::awaitable<void> wait_for_exit(std::function<void()> on_ended);
  asio::awaitable<Result<>> finish();
  asio::awaitable<Result<>> until_ended(std::chrono::steady_clock::time_point deadline);
  void handle_event(const qemu::QmpEvent& event);
  EndCause cause_of_end();
  registrar::Txn own_txn() const;

  Context& context_;
  std::unique_ptr<domain::Domain> domain_;
  HostOptions options_;
  RunState state_;
  std::unique_ptr<RunSeams> seams_;
  std::vector<registrar::Hold> holds_;
  asio::posix::stream_descriptor pidfd_;
  std::shared_ptr<qemu::Qmp> qmp_;
  std::vector<std::shared_ptr<asio::steady_timer>>
      waiters_;  // for the end; each has its own deadline
  std::string status_ = "running";
  std::string shutdown_reason_;    // of QEMU's SHUTDOWN event
  std::optional<EndCause> asked_;  // stop or kill, who asked last
  bool ended_ = false;
};

// What can be done to a running guest that changes no tenure. libvirt records none of them.
struct Verb {
  std::string_view name;    // of the request, and op= of the record
  std::string_view qmp;     // QEMU's command
  std::string_view reason;  // reason= of the record
};
inline constexpr Verb kVerbs[] = {
    {"pause", "stop", "paused"},
    {"resume", "cont", "unpaused"},
    {"reset", "system_reset", "reset"},
    {"inject-nmi", "inject-nmi", "injected"},
};

// The VIRT_CONTROL record of this run: op, reason and what is known of it.
trail::Record control_record(std::string_view op, std::string_view reason, const RunState& state,
                             bool kvm);

}  // namespace tenure::guest
