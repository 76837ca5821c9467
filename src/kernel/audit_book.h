// SPDX-License-Identifier: Apache-2.0
// What has become of each audit message: queued, handed to the kernel, settled. The kernel emits
// the records of one sender in the order in which it took them (kauditd has one queue), so a record
// that comes back proves that earlier ones which did not are lost. No system calls, no locking: one
// owner.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernel/audit.h"
#include "kernel/audit_text.h"

namespace tenure::kernel {

// One message under way.
struct AuditTicket {
  enum class Phase { Queued, Handed, Settled };
  AuditMessage message;
  AuditFrame frame;
  AuditReceipt receipt;
  Phase phase = Phase::Queued;
  bool needs_look = false;  // the first of one send(): look first whether auditing is on
  bool acked = false;       // the send call has returned
  bool abandoned = false;   // its send() has returned: what comes now goes to late
  std::optional<uint32_t> lost_before;  // AUDIT_GET `lost` when the batch was handed over
};
using AuditTickets = std::vector<std::shared_ptr<AuditTicket>>;

class AuditBook {
 public:
  // `exe_value` as in own_exe_value(), for the text of what never comes back.
  explicit AuditBook(std::string exe_value) : exe_value_(std::move(exe_value)) {}

  // Queues messages; those that cannot be sent are settled Unsent at once.
  AuditTickets add(const std::vector<AuditMessage>& messages);
  bool has_queued() const { return !queued_.empty(); }
  // The first in the queue; call only if has_queued().
  AuditTicket& front() { return *queued_.front(); }
  // Takes it out of the queue, to be handed to the kernel now.
  std::shared_ptr<AuditTicket> next();
  // The kernel (or we) did not take it.
  void refuse(AuditTicket& ticket, std::string why);
  // A record came back. `own_pid` 0: not known, any pid will do. False if it is none of ours.
  bool echo(const AuditEcho& echo, int32_t own_pid);
  // The socket overflowed: nobody knows which records came. Everything handed over is Unconfirmed.
  void overrun();
  // The time is up for these: the queued are withdrawn (Unsent), the handed Unconfirmed but
  // awaited.
  void abandon(const AuditTickets& tickets, const std::string& why);
  // Handed over, given up by their callers, and not decided yet by a later echo.
  size_t awaited() const;
  // Forgets those of them whose send call has returned.
  void give_up();
  std::vector<AuditReceipt> take_late() { return std::exchange(late_, {}); }

 private:
  void settle(AuditTicket& ticket, AuditReceipt::State state, std::string why);
  void forget_handed(const AuditTicket& ticket);

  std::string exe_value_;
  std::deque<std::shared_ptr<AuditTicket>> queued_;
  std::deque<std::shared_ptr<AuditTicket>> handed_;  // in the order of sending
  std::vector<AuditReceipt> late_;
};

// True when none is open any more.
bool all_settled(const AuditTickets& tickets);

}  // namespace tenure::kernel
