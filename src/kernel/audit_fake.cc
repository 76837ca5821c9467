// SPDX-License-Identifier: Apache-2.0
#include "kernel/audit_fake.h"

#include <unistd.h>

#include <utility>

#include "base/clock.h"
#include "kernel/audit_text.h"

namespace tenure::kernel {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;

}  // namespace

void FakeAudit::set_mode(Mode mode, size_t skip) {
  std::lock_guard lock(mutex_);
  next_mode_ = mode;
  skip_ = skip;
  if (skip_ == 0)
    change_mode();
}

void FakeAudit::change_mode() {
  mode_ = next_mode_;
  for (AuditReceipt& receipt : delayed_) {
    emit(receipt);
    late_.push_back(receipt);
  }
  delayed_.clear();
}

std::vector<AuditReceipt> FakeAudit::emitted() const {
  std::lock_guard lock(mutex_);
  return emitted_;
}

std::vector<AuditMessage> FakeAudit::seen() const {
  std::lock_guard lock(mutex_);
  return seen_;
}

std::vector<AuditReceipt> FakeAudit::send(const std::vector<AuditMessage>& messages, int) {
  std::lock_guard lock(mutex_);
  std::vector<AuditReceipt> receipts;
  for (const AuditMessage& message : messages) {
    seen_.push_back(message);
    receipts.push_back(take(message));
    if (mode_ != next_mode_ && --skip_ == 0)
      change_mode();
  }
  return receipts;
}

// The same checks as the real one: what it would refuse must not pass a test.
AuditReceipt FakeAudit::take(const AuditMessage& message) {
  const std::string exe = own_exe_value();
  AuditFrame frame = audit_frame(message);
  AuditReceipt receipt;
  receipt.text = frame.before + exe + frame.after;
  if (Result<> checked = check_audit_message(message, exe); !checked) {
    receipt.why = checked.error().what();
  } else if (mode_ == Mode::Confirm) {
    emit(receipt);
  } else if (mode_ == Mode::Off) {
    receipt.why = "auditing is off (auditctl -e 1 switches it on)";
  } else {
    receipt.state = AuditReceipt::State::Unconfirmed;
    receipt.why = "not seen in time";
    if (mode_ == Mode::Delay)
      delayed_.push_back(receipt);
    else
      ++dropped_;
  }
  return receipt;
}

void FakeAudit::emit(AuditReceipt& receipt) {
  receipt.state = AuditReceipt::State::Confirmed;
  receipt.why.clear();
  receipt.time_ms = system_clock().realtime_ns() / kNsPerMs;
  receipt.serial = ++serial_;
  receipt.pid = getpid();
  receipt.uid = getuid();
  receipt.auid = receipt.ses = UINT32_MAX;
  emitted_.push_back(receipt);
  dropped_ = 0;
}

Result<AuditStatus> FakeAudit::status() {
  std::lock_guard lock(mutex_);
  AuditStatus status;
  status.enabled = mode_ == Mode::Off ? 0 : 1;
  status.backlog_limit = 64;
  status.backlog = static_cast<uint32_t>(delayed_.size());
  return status;
}

std::vector<AuditReceipt> FakeAudit::late() {
  std::lock_guard lock(mutex_);
  return std::exchange(late_, {});
}

size_t FakeAudit::awaited() {
  std::lock_guard lock(mutex_);
  return delayed_.size() + dropped_;
}

void FakeAudit::give_up() {
  std::lock_guard lock(mutex_);
  delayed_.clear();
  dropped_ = 0;
}

}  // namespace tenure::kernel
