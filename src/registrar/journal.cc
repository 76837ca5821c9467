// SPDX-License-Identifier: Apache-2.0
#include "registrar/journal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <asio/post.hpp>
#include <asio/this_coro.hpp>
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

// What a result has beyond its intent: grant=, the interface's name, bounds, and some of why=.
constexpr size_t kResultRoom = 512;  // bytes of text
constexpr std::string_view kCut = "...";
constexpr size_t kMaxUnstored = 65536;  // marks of confirmed records; 1 MiB
constexpr int64_t kFollowMs = 3000;     // for a record that is late in auditd's log

// With a why= that is too long for one record cut to what fits: better a short reason than no
// record. A byte of it takes one or two of text.
Result<std::string> encode_fitting(trail::Record record) {
  Result<std::string> body = trail::encode(record);
  std::string why(record.get("why").value_or(""));
  while (!body && why.size() > kCut.size()) {
    why.resize(why.size() / 2);
    record.set("why", why + std::string(kCut));
    body = trail::encode(record);
  }
  return body;
}

struct Messages {
  std::vector<kernel::AuditMessage> sendable;
  Result<> refused;  // the first that cannot be written at all; the others go out without it
};

Messages messages_of(const std::vector<trail::Record>& records) {
  Messages messages;
  messages.sendable.reserve(records.size());
  for (const trail::Record& record : records) {
    Result<std::string> body = encode_fitting(record);
    if (body)
      messages.sendable.push_back(
          {trail::spec(record.kind).type, std::move(*body), record.success});
    else if (messages.refused)
      messages.refused = std::unexpected(std::move(body).error());
  }
  return messages;
}

Result<std::string> encode_intent(const trail::Record& record) {
  TRY(std::string body, trail::encode(record));
  if (body.size() + kResultRoom <= trail::kMaxMessage)
    return body;
  return fail(Errc::Invalid, fmt::format("{} record: {} bytes leave no room for its result; use "
                                         "shorter names",
                                         trail::spec(record.kind).name, body.size()));
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
  auto batch = std::make_shared<std::vector<std::string>>();
  for (const trail::Record& record : records) {
    CO_TRY(std::string body, encode_intent(record));
    trail::Entry entry{.state = trail::EntryState::Intent,
                       .type = trail::spec(record.kind).type,
                       .time_ms = now_ms(),
                       .pid = getpid(),
                       .uid = geteuid(),
                       .body = std::move(body)};
    batch->push_back(trail::encode_entry(entry));
  }
  // From the taking of entries to the knowledge of what became of them.
  Turns::Turn turn = co_await turns_.next();
  // What waits goes first: the end of a guest's last life stands before the intents of its next.
  size_t waited = waiting_.size();
  batch->insert(batch->begin(), std::make_move_iterator(waiting_.begin()),
                std::make_move_iterator(waiting_.end()));
  waiting_.clear();
  auto append = [this, batch] { return ledger_.append(*batch); };
  Result<uint64_t> first = co_await offload(pool_, std::move(append));
  if (first)
    co_return *first + waited;
  batch->resize(waited);
  wait_again(std::move(*batch));
  co_return first;
}

// Back to the front: their order in the ledger is that of their events.
void Journal::wait_again(std::vector<std::string> entries) {
  waiting_.insert(waiting_.begin(), std::make_move_iterator(entries.begin()),
                  std::make_move_iterator(entries.end()));
}

asio::awaitable<std::vector<kernel::AuditReceipt>> Journal::send(
    std::vector<kernel::AuditMessage> messages) {
  int timeout_ms = options_.audit_timeout_ms;
  if (options_.ledger_only)  // nothing goes out that could block
    co_return audit_.send(messages, timeout_ms);
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
                     .auid = confirmed ? receipt.auid : kUnsetId,
                     .ses = confirmed ? receipt.ses : kUnsetId,
                     .body = receipt.text};
  waiting_.push_back(trail::encode_entry(entry));
  if (confirmed)
    await_storing({receipt.serial, receipt.time_ms});
}

// In the order of serials, which is not quite that of confirmation: operations emit side by side,
// and some come late.
void Journal::await_storing(kernel::AuditMark mark) {
  auto behind = [](uint64_t serial, const kernel::AuditMark& other) {
    return serial < other.serial;
  };
  unstored_.insert(std::upper_bound(unstored_.begin(), unstored_.end(), mark.serial, behind), mark);
  if (gap_ && gap_->not_stored)
    ++gap_->unstored;
  if (unstored_.size() > kMaxUnstored)
    unstored_.pop_front();
}

// What came back after all was only late: a gap record that counted it would not be true.
void Journal::collect_late() {
  for (const kernel::AuditReceipt& receipt : audit_.late()) {
    if (gap_ && gap_->unconfirmed > 0)
      --gap_->unconfirmed;
    await_storing({receipt.serial, receipt.time_ms});
  }
}

asio::awaitable<Result<>> Journal::emit(std::vector<trail::Record> records) {
  if (records.empty())
    co_return Result<>{};
  Messages all = messages_of(records);
  const std::vector<kernel::AuditMessage>& messages = all.sendable;
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
    co_return all.refused;
  if (lost == nullptr) {
    bool unstored = gap_ && gap_->not_stored;
    if (unstored && !messages.empty() && options_.on_audit_loss != OnAuditLoss::Continue)
      co_return fail(Errc::Lost, "the audit record is not stored: " + gap_->cause);
    if (!messages.empty())
      co_await close_gap();
    co_return all.refused;
  }
  if (!gap_)
    begin_gap({.from_ms = now_ms(), .cause = lost->why});
  gap_->unconfirmed += lost_count;
  gap_->last_ms = now_ms();
  if (options_.on_audit_loss == OnAuditLoss::Continue)
    co_return all.refused;
  co_return fail(Errc::Lost, "the audit record was not confirmed: " + lost->why);
}

void Journal::begin_gap(AuditGap gap) {
  gap_ = std::move(gap);
  tell_loss();
}

void Journal::on_loss(std::function<void()> act) {
  on_loss_ = std::move(act);
  if (gap_)
    tell_loss();
}

void Journal::tell_loss() const {
  bool drastic = options_.on_audit_loss == OnAuditLoss::PauseGuests ||
                 options_.on_audit_loss == OnAuditLoss::StopGuests;
  if (drastic && on_loss_)
    on_loss_();
}

void Journal::stored_through(uint64_t serial) {
  while (!unstored_.empty() && unstored_.front().serial <= serial) unstored_.pop_front();
}

// Later than the others is not lost: what the kernel could not hand to auditd at once it tries
// again before each new record, and neither that queue nor a record dropped from it shows in its
// status (kauditd_retry_skb() of kernel/audit.c). So only a record whose turn has come again is
// missed.
asio::awaitable<void> Journal::stored_in(kernel::AuditLogTail log) {
  if (gap_) {
    passed_ms_ = 0;
    co_return;
  }
  forget_stored(log);
  auto passed = [this](const kernel::AuditMark& mark) { return mark.serial <= stored_serial_; };
  if (unstored_.empty() || unstored_.front().serial > log.last_serial) {
    passed_ms_ = 0;
    co_return;
  }
  if (passed_ms_ == 0 || !passed(unstored_.front())) {
    passed_ms_ = now_ms();
    stored_serial_ = log.last_serial;
  }
  if (now_ms() - passed_ms_ < kFollowMs || log.last_serial <= stored_serial_)
    co_return;
  passed_ms_ = 0;
  begin_gap({.from_ms = unstored_.front().time_ms,
             .unstored = static_cast<uint64_t>(std::ranges::count_if(unstored_, passed)),
             .cause = "not stored: auditd's log has newer records, and lacks what the kernel "
                      "emitted",
             .last_ms = now_ms()});
  std::erase_if(unstored_, passed);
  co_await audit_is_back(0);
}

void Journal::forget_stored(const kernel::AuditLogTail& log) {
  std::erase_if(unstored_, [&](const kernel::AuditMark& mark) {
    return log.serials.contains(mark.serial) || mark.time_ms <= log.from_ms;
  });
}

void Journal::not_stored(const std::string& cause) {
  if (gap_ || options_.ledger_only || unstored_.empty())
    return;  // what audit loses now is told by the gap that is open
  begin_gap({.from_ms = unstored_.front().time_ms,
             .unstored = unstored_.size(),
             .cause = cause,
             .not_stored = true});
}

// Whether a record that is not in the log now is not on its way either. What auditd has not read
// waits in the kernel: in the socket, in order, or in queues that are tried again before the next
// record (kauditd_thread() of kernel/audit.c), and which an auditd that starts gets after the word
// of its start. A record that was stored since the log was first seen to go on has all that behind
// it; and what an auditd read while it was suspended is gone.
bool Journal::is_decided(const kernel::AuditLogTail& log) {
  auto of_the_gap = [this](const kernel::AuditMark& mark) {
    return mark.time_ms <= gap_->stored_ms;
  };
  if (std::ranges::none_of(unstored_, of_the_gap))
    return true;
  bool thrown_away = log.resumed_ms > gap_->from_ms && !log.restarted;
  return now_ms() - gap_->stored_ms >= kFollowMs &&
         (thrown_away || log.last_serial > stored_serial_);
}

asio::awaitable<void> Journal::stored_again(kernel::AuditLogTail log) {
  collect_late();
  forget_stored(log);
  if (!gap_ || (!gap_->not_stored && gap_->stored_ms == 0))
    co_return;
  if (gap_->stored_ms == 0) {
    gap_->stored_ms = now_ms();
    gap_->not_stored = false;
    stored_serial_ = log.last_serial;
  }
  auto is_over = [&](const kernel::AuditMark& mark) {
    bool passed = mark.serial <= log.last_serial || mark.time_ms <= log.resumed_ms;
    return passed && mark.time_ms <= gap_->stored_ms;
  };
  gap_->unstored = static_cast<uint64_t>(std::ranges::count_if(unstored_, is_over));
  if (!is_decided(log))
    co_return;
  std::erase_if(unstored_, is_over);
  gap_->stored_ms = 0;
  co_await audit_is_back(0);
}

asio::awaitable<void> Journal::audit_is_back(int64_t idle_since_ms) {
  if (!gap_)
    co_return;
  if (idle_since_ms > gap_->last_ms)
    audit_.give_up();
  co_await close_gap();
  Result<> committed = co_await commit();
  std::ignore = committed;  // what is not durable stays waiting, and is tried again
}

// The gap is over, if it is known how many records it cost: its record says from when to when, how
// many and why, and the ledger holds every one of them.
asio::awaitable<void> Journal::close_gap() {
  if (gap_)
    collect_late();
  if (!gap_ || gap_->not_stored || gap_->stored_ms != 0 || audit_.awaited() > 0)
    co_return;
  AuditGap gap = *std::exchange(gap_, std::nullopt);
  trail::Record record(trail::Kind::Gap);
  record.set("from", static_cast<uint64_t>(gap.from_ms))
      .set("to", static_cast<uint64_t>(now_ms()))
      .set("count", gap.count())
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
  // From the taking of entries to the knowledge of what became of them.
  Turns::Turn turn = co_await turns_.next();
  if (waiting_.empty())  // also when another one's turn took what we had
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
    return {};
  };
  Result<> done = co_await offload(pool_, std::move(append));
  if (!batch->durable)
    wait_again(std::move(batch->entries));
  else if (ledger_.published() != ledger_.size())  // behind the reply that waits for this
    asio::post(co_await asio::this_coro::executor, [this] { publish_soon(); });
  co_return done;
}

// Durable is what an operation waits for; a signed checkpoint costs several syncs more and may
// follow. One at a time: what comes while it is being made goes with the next, and a failure is
// tried again then.
void Journal::publish_soon() {
  if (ledger_.published() == ledger_.size())
    return;
  int64_t none = 0;
  unpublished_since_ms_.compare_exchange_strong(none, now_ms());
  if (publishing_.exchange(true))
    return;
  asio::post(pool_, [this] {
    Result<> done;
    do {
      done = ledger_.publish();
      note_published(done);
    } while (done && ledger_.published() != ledger_.size());
    publishing_ = false;
  });
}

void Journal::note_published(const Result<>& done) {
  {
    std::lock_guard lock(publish_mutex_);
    publish_error_ = done ? "" : done.error().what();
  }
  if (!done)
    return;
  if (ledger_.published() == ledger_.size())
    unpublished_since_ms_ = 0;
  if (on_published_)
    on_published_();
}

std::string Journal::publish_error() const {
  std::lock_guard lock(publish_mutex_);
  return publish_error_;
}

asio::awaitable<Result<>> Journal::write(std::vector<trail::Record> records) {
  Result<> emitted = co_await emit(std::move(records));
  Result<> committed = co_await commit();
  co_return emitted ? committed : emitted;
}

}  // namespace tenure::registrar
