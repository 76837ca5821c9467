// SPDX-License-Identifier: Apache-2.0
// The one writer of the trail: audit first (sent and confirmed), then the ledger (durable). It
// knows nothing of guests; it keeps the order, the policy for lost audit, and the gaps.
//
// One thread: the event loop's. Blocking calls go to the pool.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/thread_pool.hpp>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "kernel/audit.h"
#include "kernel/audit_state.h"
#include "ledger/ledger.h"
#include "registrar/turns.h"
#include "trail/entry.h"
#include "trail/record.h"

namespace tenure::registrar {

// What happens to a gain whose record the audit system did not confirm (DESIGN law 3).
enum class OnAuditLoss { Refuse, Continue, PauseGuests, StopGuests };
std::string_view to_string(OnAuditLoss policy);
Result<OnAuditLoss> parse_on_audit_loss(std::string_view text);

struct JournalOptions {
  OnAuditLoss on_audit_loss = OnAuditLoss::Refuse;
  // Audit off by configuration: the ledger alone is the trail, and nothing counts as lost.
  bool ledger_only = false;
  int audit_timeout_ms = 2000;
};

// Records that audit did not confirm, or that auditd took and did not store, since when.
struct AuditGap {
  int64_t from_ms = 0;
  uint64_t unconfirmed = 0;  // less those that came back late
  uint64_t unstored = 0;     // confirmed by the kernel, and not seen in auditd's log
  std::string cause;
  bool not_stored = false;  // auditd stores nothing
  int64_t last_ms = 0;      // when the newest of the unconfirmed was given up
  int64_t stored_ms = 0;    // since when auditd's log goes on; 0 if it does not, or never stopped
  uint64_t count() const { return unconfirmed + unstored; }
};

class Journal {
 public:
  Journal(ledger::Ledger& ledger, kernel::Audit& audit, asio::thread_pool& pool, const Clock& clock,
          JournalOptions options);

  // Makes intents durable in one write, behind the entries that wait, and returns the ledger index
  // of the first; the others follow. Nothing has been done to the world yet when it fails. Invalid
  // for a record so long that its result might not fit.
  asio::awaitable<Result<uint64_t>> intend(std::vector<trail::Record> records);

  // Sends results to the kernel's audit and waits for their confirmation; the ledger entries wait
  // for commit(). Lost when a record was not confirmed and the policy is to refuse; its entry is
  // kept all the same, with its state. Invalid when one cannot be written in the grammar; the
  // others are. A why= that is too long for its record is cut.
  asio::awaitable<Result<>> emit(std::vector<trail::Record> records);

  // Ledger-only entries that end intents which came to nothing.
  Result<> withdraw(const std::vector<trail::Record>& intents);

  // Appends every waiting entry in one durable write; a signed checkpoint follows. On failure the
  // entries stay waiting and go with the next commit, so that taking away never waits for the log.
  asio::awaitable<Result<>> commit();

  // emit() + commit(), for single records.
  asio::awaitable<Result<>> write(std::vector<trail::Record> records);

  // Goes on with the gap that an earlier daemon left open; before anything is emitted. Where the
  // ledger alone is the trail nothing counts as lost.
  void resume(std::optional<AuditGap> gap) {
    if (!options_.ledger_only)
      gap_ = std::move(gap);
  }

  // The oldest record that the kernel confirmed and that is not known to be in auditd's log.
  std::optional<kernel::AuditMark> first_unstored() const {
    return unstored_.empty() ? std::nullopt : std::optional(unstored_.front());
  }
  // Goes on with the mark that an earlier daemon of this boot left.
  void resume_confirmed(kernel::AuditMark mark) { await_storing(mark); }
  // auditd's log has all records up to this serial, or nobody keeps one (UINT64_MAX).
  void stored_through(uint64_t serial);
  // While no gap is open: what the end of auditd's log has, or is too new to have, is stored. What
  // newer records have passed, and what has not followed in 3 s and by the time that one newer
  // still is stored, is not: a gap that is over with its beginning. Call it again with each look.
  asio::awaitable<void> stored_in(kernel::AuditLogTail log);
  // auditd's log ends before first_unstored(): a gap begins, to which the policy applies as to any
  // other. From the event loop.
  void not_stored(const std::string& cause);
  // The log goes on, and is this far; call it again with each look. Gains are granted again, and
  // the end of the gap is recorded once it is known which records auditd did not get: all are there
  // that were emitted before, or it has stored newer ones and the others did not follow in 3 s.
  asio::awaitable<void> stored_again(kernel::AuditLogTail log);

  // The state in which records were lost is over, as the kernel says: records the end of the gap
  // without waiting for the next record, unless some of them may still come back. `idle_since_ms`:
  // a moment at which the kernel had none waiting, longer ago than a record needs to come back; 0
  // if it has some. What it had taken before does not come any more.
  asio::awaitable<void> audit_is_back(int64_t idle_since_ms);

  // Called once when a gap begins and the policy asks for more than refusing, and at once if one is
  // open; from the event loop.
  void on_loss(std::function<void()> act);

  const JournalOptions& options() const { return options_; }
  const std::optional<AuditGap>& gap() const { return gap_; }
  // Starts a signed checkpoint for what is durable and has none, on the pool; nothing if one is
  // being made. commit() does so itself; call it now and then, for a failed one and for what came
  // meanwhile.
  void publish_soon();
  size_t waiting() const { return waiting_.size(); }
  // Why the last checkpoint could not be made, "" if it could; and since when entries are durable
  // and not under one, in ms since 1970, 0 if none is.
  std::string publish_error() const;
  int64_t unpublished_since_ms() const { return unpublished_since_ms_; }
  // Called after each new checkpoint, from a thread of the pool.
  void on_published(std::function<void()> act) { on_published_ = std::move(act); }
  ledger::Ledger& ledger() { return ledger_; }
  kernel::Audit& audit() { return audit_; }
  // Where acts that may take long run as well.
  asio::thread_pool& pool() { return pool_; }

 private:
  asio::awaitable<std::vector<kernel::AuditReceipt>> send(
      std::vector<kernel::AuditMessage> messages);
  void wait_again(std::vector<std::string> entries);
  void keep(const kernel::AuditMessage& message, const kernel::AuditReceipt& receipt);
  asio::awaitable<void> close_gap();
  void begin_gap(AuditGap gap);
  void tell_loss() const;
  void await_storing(kernel::AuditMark mark);
  void collect_late();
  void forget_stored(const kernel::AuditLogTail& log);
  bool is_decided(const kernel::AuditLogTail& log);
  int64_t now_ms() const { return clock_.realtime_ns() / 1'000'000; }

  ledger::Ledger& ledger_;
  kernel::Audit& audit_;
  asio::thread_pool& pool_;
  const Clock& clock_;
  JournalOptions options_;
  std::deque<std::string> waiting_;
  void note_published(const Result<>& done);

  std::atomic<bool> publishing_ = false;
  // One write to the ledger at a time, in the order of asking: one that fails must not find later
  // entries written before its own when it is tried again.
  Turns turns_;
  std::atomic<int64_t> unpublished_since_ms_ = 0;
  mutable std::mutex publish_mutex_;  // publish_error_
  std::string publish_error_;
  std::function<void()> on_published_;
  std::optional<AuditGap> gap_;
  // Confirmed, not known to be in auditd's log; by serial, bounded.
  std::deque<kernel::AuditMark> unstored_;
  uint64_t stored_serial_ = 0;  // where the log was when it was seen to go on
  int64_t passed_ms_ = 0;       // since when the log has newer ones than the first; 0: it has not
  std::function<void()> on_loss_;
};

}  // namespace tenure::registrar
