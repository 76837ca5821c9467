// SPDX-License-Identifier: Apache-2.0
// The Linux audit system: sends user records and confirms them by the multicast group
// AUDIT_NLGRP_READLOG. The netlink ack proves nothing (kernel-notes: with auditing disabled or
// rate-limited the kernel acks and drops), so a record counts as written only when it came back.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace tenure::kernel {

// AUDIT_GET.
struct AuditStatus {
  uint32_t enabled = 0;  // 0 off, 1 on, 2 locked
  uint32_t failure = 0;
  uint32_t auditd_pid = 0;
  uint32_t rate_limit = 0;
  uint32_t backlog_limit = 0;
  uint32_t backlog = 0;
  uint32_t lost = 0;
  // The rules that keep our records out, as established from AUDIT_LIST_RULES; see audit_rules.h.
  bool rules_read = false;
  std::string excluded_by;  // "" if none does
};

struct AuditMessage {
  uint16_t type = 0;    // 2500 …
  std::string body;     // without exe= hostname= addr= terminal= res=
  bool success = true;  // res=
};

// What became of one message.
struct AuditReceipt {
  enum class State { Confirmed, Unconfirmed, Unsent } state = State::Unsent;
  int64_t time_ms = 0;  // the kernel's, if confirmed
  uint64_t serial = 0;
  int32_t pid = 0;
  uint32_t uid = 0, auid = 0, ses = 0;
  std::string text;  // inside msg='…': as the kernel emitted it, or as it was (to be) sent
  std::string why;   // why not confirmed, for the log and for the gap record
};

// Thread-safe. send() blocks (a stuck auditd blocks senders up to backlog_wait_time): never call it
// from the event loop.
class Audit {
 public:
  virtual ~Audit() = default;
  // Sends all in order, then waits until each has come back, at most `timeout_ms` in all. One
  // receipt a message, in order. Never fails as a whole: what could not be sent or seen says so in
  // its receipt.
  virtual std::vector<AuditReceipt> send(const std::vector<AuditMessage>& messages,
                                         int timeout_ms) = 0;
  virtual Result<AuditStatus> status() = 0;  // of now, with the rules
  // Receipts, now Confirmed, of messages whose send() had returned Unconfirmed and that came back
  // after all (a stuck auditd delays records, it does not drop them); each once, oldest first. The
  // caller knows them by their text. At most 4096 are awaited; older ones are given up for good.
  virtual std::vector<AuditReceipt> late() { return {}; }
  // How many messages were handed to the kernel, did not come back in time, and may still do so:
  // the kernel keeps the order, so each of ours that comes back decides on all before it.
  virtual size_t awaited() { return 0; }
  // Those will not come any more, as the caller knows from elsewhere: they never turn up in late().
  // One that the kernel still holds on its way in stays awaited.
  virtual void give_up() {}
};

// The kernel's. Denied without CAP_AUDIT_WRITE or CAP_AUDIT_READ, Unsupported where the kernel has
// no audit or we are in a user or network namespace that it does not serve (probed, told apart in
// what()). Succeeds while auditing is switched off: that can change, and status() and the receipts
// tell it.
//
// Two threads of its own, with all signals blocked: one sends, one reads the multicast group. When
// send() runs out of time, messages not yet handed to the kernel are withdrawn for good (Unsent:
// they will never be written), the others are Unconfirmed and may turn up in late(). When records
// are visibly dropped (nothing came for 250 ms and the kernel has none waiting) send() returns
// before its time. status() fails with Timeout after 1 s if the kernel holds the sender, and with
// Denied without CAP_AUDIT_CONTROL or outside the initial pid namespace; send() works there, its
// receipts explain less. The destructor waits for a sender that the kernel holds (at most
// backlog_wait_time). Joining the group makes an EVENT_LISTENER record: open one for the life of
// the program.
Result<std::unique_ptr<Audit>> open_audit();

// Where there is no audit: every receipt is Unsent with `why`.
std::unique_ptr<Audit> no_audit(std::string why);

}  // namespace tenure::kernel
