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

constexpr std::chrono::seconds kTick{2};

struct Watch {
  registrar::Journal& journal;
  bool was_lossy = false;  // a state that loses records was seen while this gap was open
  uint32_t auditd = 0;     // the last one seen: a host that has one is to have its records stored
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

asio::awaitable<void> look(Watch& watch, const kernel::AuditFacts& facts) {
  kernel::AuditState state = kernel::recognise_audit(facts);
  watch.remember(facts);
  const auto& gap = watch.journal.gap();
  if (gap && gap->not_stored) {
    if (goes_on(facts, gap->from_ms))
      co_await watch.journal.stored_again(*facts.log);
    co_return;
  }
  if (gap) {
    watch.was_lossy = watch.was_lossy || state.loses;
    if (watch.was_lossy && !state.loses) {
      watch.was_lossy = false;
      co_await watch.journal.audit_is_back();
    }
    co_return;
  }
  watch.was_lossy = false;
  if (watch.auditd == 0 || !facts.log)
    watch.journal.stored_through(UINT64_MAX);  // there is no log to wait for
  else if (kernel::log_lacks_records(facts))
    watch.journal.not_stored(cause_of(watch, state));
  else
    watch.journal.stored_through(facts.log->last_serial);
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
    timer.expires_after(kTick);
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
    co_await look(watch, facts);
  }
}

}  // namespace tenure::daemon
