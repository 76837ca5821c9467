// SPDX-License-Identifier: Apache-2.0
#include "registrar/journal.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "registrar/offload.h"

namespace tenure::registrar {
namespace {

constexpr std::array<std::pair<OnAuditLoss, std::string_view>, 4> kPolicies{{
    {OnAuditLoss::Refuse, "refuse"},
    {OnAuditLoss::Continue, "continue"},
    {OnAuditLoss::PauseGuests, "pause-guests"},
    {OnAuditLoss::StopGuests, "stop-guests"},
}};

using ReceiptState = kernel::AuditReceipt::State;

trail::EntryState entry_state(ReceiptState state) {
  if (state == ReceiptState::Confirmed)
    return trail::EntryState::Confirmed;
  if (state == ReceiptState::Unconfirmed)
    return trail::EntryState::Unconfirmed;
  return trail::EntryState::Unsent;
}

Result<std::vector<kernel::AuditMessage>> messages_of(const std::vector<trail::Record>& records) {
  std::vector<kernel::AuditMessage> messages;
  messages.reserve(records.size());
  for (const trail::Record& record : records) {
    TRY(std::string body, trail::encode(record));
    messages.push_back({trail::spec(record.kind).type, std::move(body), record.success});
  }
  return messages;
}

}  // namespace

std::string_view to_string(OnAuditLoss policy) {
  for (const auto& [value, text] : kPolicies)
    if (value == policy)
      return text;
  return "?";
}

Result<OnAuditLoss> parse_on_audit_loss(std::string_view text) {
  for (const auto& [value, name] : kPolicies)
    if (name == text)
      return value;
  return fail(Errc::Invalid, "on_audit_loss '" + std::string(text) +
                                 "': one of refuse, continue, pause-guests, stop-guests");
}

Journal::Journal(ledger::Ledger& ledger, kernel::Audit& audit, asio::thread_pool& pool,
                 const Clock& clock, JournalOptions options)
    : ledger_(ledger), audit_(audit), pool_(pool), clock_(clock), options_(options) {}

asio::awaitable<Result<uint64_t>> Journal::intend(std::vector<trail::Record> records) {
  std::vector<std::string> entries;
  entries.reserve(records.size());
  for (const trail::Record& record : records) {
    CO_TRY(std::string body, trail::encode(record));
    trail::Entry entry{.state = trail::EntryState::Intent,
                       .type = trail::spec(record.kind).type,
                       .time_ms = now_ms(),
                       .pid = getpid(),
                       .uid = geteuid(),
                       .body = std::move(body)};
    entries.push_back(trail::encode_entry(entry));
  }
  auto append = [this, entries = std::move(entries)] { return ledger_.append(entries); };
  co_return co_await offload(pool_, std::move(append));
}

asio::awaitable<std::vector<kernel::AuditReceipt>> Journal::send(
    std::vector<kernel::AuditMessage> messages) {
  int timeout_ms = options_.audit_timeout_ms;
  auto work = [this, messages = std::move(messages), timeout_ms] {
    return audit_.send(messages, timeout_ms);
  };
  co_return co_await offload(pool_, std::move(work));
}

void Journal::keep(const kernel::AuditMessage& message, const kernel::AuditReceipt& receipt) {
  bool confirmed = receipt.state == ReceiptState::Confirmed;
  trail::Entry entry{.state = entry_state(receipt.state),
                     .type = message.type,
                     .time_ms = confirmed ? receipt.time_ms : now_ms(),
                     .serial = confirmed ? receipt.serial : 0,
                     .pid = confirmed ? receipt.pid : getpid(),
                     .uid = confirmed ? receipt.uid : geteuid(),
                     .auid = receipt.auid,
                     .ses = receipt.ses,
                     .body = receipt.text};
  waiting_.push_back(trail::encode_entry(entry));
}

asio::awaitable<Result<>> Journal::emit(std::vector<trail::Record> records) {
  if (records.empty())
    co_return Result<>{};
  CO_TRY(std::vector<kernel::AuditMessage> messages, messages_of(records));
  std::vector<kernel::AuditReceipt> receipts = co_await send(messages);
  const kernel::AuditReceipt* lost = nullptr;
  uint64_t lost_count = 0;
  for (size_t i = 0; i < messages.size(); ++i) {
    keep(messages[i], receipts[i]);
    if (receipts[i].state == ReceiptState::Confirmed)
      continue;
    lost = &receipts[i];
    ++lost_count;
  }
  if (options_.ledger_only)
    co_return Result<>{};
  if (lost == nullptr) {
    if (gap_)
      co_await close_gap();
    co_return Result<>{};
  }
  bool begins = !gap_;
  if (begins)
    gap_ = AuditGap{.from_ms = now_ms(), .count = 0, .cause = lost->why};
  gap_->count += lost_count;
  bool drastic = options_.on_audit_loss == OnAuditLoss::PauseGuests ||
                 options_.on_audit_loss == OnAuditLoss::StopGuests;
  if (begins && drastic && on_loss_)
    on_loss_();
  if (options_.on_audit_loss == OnAuditLoss::Continue)
    co_return Result<>{};
  co_return fail(Errc::Lost, "the audit record was not confirmed: " + lost->why);
}

// The gap is over: its record says from when to when, how many records and why, and the ledger
// holds every one of them.
asio::awaitable<void> Journal::close_gap() {
  AuditGap gap = *std::exchange(gap_, std::nullopt);
  trail::Record record(trail::Kind::Gap);
  record.set("from", static_cast<uint64_t>(gap.from_ms))
      .set("to", static_cast<uint64_t>(now_ms()))
      .set("count", gap.count)
      .set("cause", gap.cause);
  std::vector<trail::Record> records{std::move(record)};
  co_await emit(std::move(records));
}

Result<> Journal::withdraw(const std::vector<trail::Record>& intents) {
  for (const trail::Record& intent : intents) {
    TRY(std::string body, trail::encode(intent));
    trail::Entry entry{.state = trail::EntryState::Void,
                       .type = trail::spec(intent.kind).type,
                       .time_ms = now_ms(),
                       .pid = getpid(),
                       .uid = geteuid(),
                       .body = std::move(body)};
    waiting_.push_back(trail::encode_entry(entry));
  }
  return {};
}

asio::awaitable<Result<>> Journal::commit() {
  if (waiting_.empty())
    co_return Result<>{};
  struct Batch {
    std::vector<std::string> entries;
    bool durable = false;
  };
  auto batch = std::make_shared<Batch>();
  batch->entries.assign(std::make_move_iterator(waiting_.begin()),
                        std::make_move_iterator(waiting_.end()));
  waiting_.clear();
  auto append = [this, batch]() -> Result<> {
    TRY_OK(ledger_.append(batch->entries));
    batch->durable = true;
    return ledger_.publish();
  };
  Result<> done = co_await offload(pool_, std::move(append));
  if (!batch->durable)
    waiting_.insert(waiting_.begin(), std::make_move_iterator(batch->entries.begin()),
                    std::make_move_iterator(batch->entries.end()));
  co_return done;
}

asio::awaitable<Result<>> Journal::write(std::vector<trail::Record> records) {
  Result<> emitted = co_await emit(std::move(records));
  Result<> committed = co_await commit();
  co_return emitted ? committed : emitted;
}

}  // namespace tenure::registrar
