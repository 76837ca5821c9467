// SPDX-License-Identifier: Apache-2.0
#include "daemon/audit_watch.h"

#include <fmt/format.h>

#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <chrono>

#include "base/clock.h"
#include "registrar/offload.h"

namespace tenure::daemon {
namespace {

using kernel::AuditCondition;

constexpr std::chrono::seconds kAuditTick{2};

struct Watch {
  registrar::Journal& journal;
  bool was_lossy = false;     // a state that loses records was seen while this gap was open
  int64_t idle_since_ms = 0;  // at each look since then the kernel had no record waiting; 0: it has
  uint32_t auditd = 0;  // the last one seen: a host that has one is to have its records stored
  std::optional<kernel::AuditdConfig> config;  // of that one

  void remember(const kernel::AuditFacts& facts) {
    if (!facts.status || facts.status->auditd_pid == 0)
      return;
    auditd = facts.status->auditd_pid;
    if (facts.auditd)
      config = facts.auditd;
  }
  bool idle() const { return !journal.gap() && !journal.first_unstored(); }
};

// The log goes on behind what it lacked: a newer record, or auditd says that it has begun again.
bool goes_on(const kernel::AuditFacts& facts, int64_t gap_from_ms) {
  if (!facts.log)
    return false;
  if (facts.log->resumed_ms > gap_from_ms)
    return true;
  return facts.confirmed && facts.log->last_serial >= facts.confirmed->serial &&
         facts.log->last_ms >= gap_from_ms;
}

std::string cause_of(const Watch& watch, const kernel::AuditState& state) {
  if (state.condition == AuditCondition::NoAuditd)
    return fmt::format("no-auditd: auditd (pid {}) is not registered any more ({})", watch.auditd,
                       state.remedy);
  if (state.condition == AuditCondition::Good)
    return "not stored: auditd's log lacks what the kernel emitted";
  return state.text();
}

// What the log has of the time of the gap: its end alone may leave out what was stored long ago.
asio::awaitable<void> look_at_stored(Watch& watch, const kernel::AuditFacts& facts,
                                     asio::thread_pool& pool) {
  constexpr int64_t kSlackMs = 1000;
  const int64_t oldest_ms = facts.confirmed ? facts.confirmed->time_ms : facts.now_ms;
  auto work = [path = facts.auditd->log_file(), since = oldest_ms - kSlackMs] {
    return kernel::read_audit_log_since(path, since);
  };
  Result<kernel::AuditLogTail> log = co_await registrar::offload(pool, std::move(work));
  if (log)  // else it is tried again with the next look
    co_await watch.journal.stored_again(std::move(*log));
}

// A record that the kernel had taken before the last look, and that has not come back since.
asio::awaitable<void> look_at_unconfirmed(Watch& watch, const kernel::AuditFacts& facts,
                                          const kernel::AuditState& state) {
  bool idle = facts.status && facts.status->backlog == 0;
  int64_t idle_since_ms = idle ? watch.idle_since_ms : 0;
  watch.idle_since_ms = !idle ? 0 : idle_since_ms != 0 ? idle_since_ms : facts.now_ms;
  watch.was_lossy = watch.was_lossy || state.loses;
  if (!watch.was_lossy || state.loses)
    co_return;
  const int64_t from_ms = watch.journal.gap()->from_ms;
  co_await watch.journal.audit_is_back(idle_since_ms);
  const auto& left = watch.journal.gap();
  watch.was_lossy = left && left->from_ms == from_ms;  // another one: its own record was lost
}

asio::awaitable<void> look(Watch& watch, const kernel::AuditFacts& facts, asio::thread_pool& pool) {
  kernel::AuditState state = kernel::recognise_audit(facts);
  watch.remember(facts);
  const auto& gap = watch.journal.gap();
  if (gap && (gap->not_stored || gap->stored_ms != 0)) {
    watch.was_lossy = true;
    if (goes_on(facts, gap->from_ms))
      co_await look_at_stored(watch, facts, pool);
    co_return;
  }
  if (gap)
    co_return co_await look_at_unconfirmed(watch, facts, state);
  watch.was_lossy = false;
  watch.idle_since_ms = 0;
  if (watch.auditd == 0 || !facts.log)
    watch.journal.stored_through(UINT64_MAX);  // there is no log to wait for
  else if (kernel::log_lacks_records(facts))
    watch.journal.not_stored(cause_of(watch, state));
  else
    co_await watch.journal.stored_in(*facts.log);
}

}  // namespace

kernel::AuditFacts audit_facts(registrar::Journal& journal) {
  return kernel::gather_audit_facts(journal.audit().status(), journal.first_unstored(),
                                    system_clock().realtime_ns() / 1'000'000);
}

asio::awaitable<void> watch_audit(guest::Context& context) {
  Watch watch{.journal = context.journal};
  kernel::AuditFacts begin = audit_facts(context.journal);
  watch.remember(begin);
  asio::steady_timer timer(context.executor);
  while (!context.journal.options().ledger_only) {
    timer.expires_after(kAuditTick);
    asio::error_code error;
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
    if (error)
      co_return;
    if (watch.idle())
      continue;
    // The journal is the loop's: what it knows is taken here, only the looking goes to the pool.
    auto mark = context.journal.first_unstored();
    auto work = [&audit = context.journal.audit(), mark, config = watch.config] {
      return kernel::gather_audit_facts(audit.status(), mark,
                                        system_clock().realtime_ns() / 1'000'000, config);
    };
    kernel::AuditFacts facts = co_await registrar::offload(context.pool, std::move(work));
    co_await look(watch, facts, context.pool);
  }
}

}  // namespace tenure::daemon
