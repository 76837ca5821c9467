// SPDX-License-Identifier: Apache-2.0
// An audit system for tests of the rooms above: confirms with serials of its own, or fails on
// demand.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "kernel/audit.h"

namespace tenure::kernel {

// Thread-safe. Keeps every record that it "emitted", in order.
class FakeAudit final : public Audit {
 public:
  enum class Mode {
    Confirm,  // each message comes back at once
    Off,      // as with enabled=0: Unsent
    Drop,     // as with a rate limit: Unconfirmed, and never emitted
    Delay,    // Unconfirmed now; emitted, and Confirmed in late(), at the next change of mode
  };

  // From the next message on; after `skip` further messages in the mode of now.
  void set_mode(Mode mode, size_t skip = 0);
  // What the kernel has emitted so far.
  std::vector<AuditReceipt> emitted() const;
  // All messages that were given to send(), whatever became of them.
  std::vector<AuditMessage> seen() const;

  std::vector<AuditReceipt> send(const std::vector<AuditMessage>& messages,
                                 int timeout_ms) override;
  Result<AuditStatus> status() override;
  std::vector<AuditReceipt> late() override;
  size_t awaited() override;
  void give_up() override;

 private:
  void change_mode();
  AuditReceipt take(const AuditMessage& message);
  void emit(AuditReceipt& receipt);

  mutable std::mutex mutex_;
  Mode mode_ = Mode::Confirm;
  Mode next_mode_ = Mode::Confirm;
  size_t skip_ = 0;
  uint64_t serial_ = 1000;
  size_t dropped_ = 0;  // since the last that was emitted: nobody can know it yet
  std::vector<AuditMessage> seen_;
  std::vector<AuditReceipt> emitted_, delayed_, late_;
};

}  // namespace tenure::kernel
