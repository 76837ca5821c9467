// SPDX-License-Identifier: Apache-2.0
// Hosts: boots and crashes, which end runs that have no stop; and the intents of the ledger.
//
// A boot shows by SYSTEM_BOOT, or by serials that begin anew. DAEMON_START without DAEMON_END is a
// crash only if serials then do begin anew: auditd alone may have died (corner 25).
#include <algorithm>

#include "model/tenure_book.h"

namespace tenure::model {
namespace {

using trail::Key;

// Records overtake each other by some places within a moment; a new count is far below, or later.
constexpr uint64_t kSerialSlack = 1000;
constexpr int64_t kTimeSlackMs = 2000;

bool is_daemon(uint16_t type) {
  return type >= trail::kDaemonStart && type < trail::kSyscall;
}

}  // namespace

TenureBook::Host& TenureBook::host_of(std::string_view node) {
  // A log has one host, or few.
  auto host = std::ranges::find_if(hosts_, [&](const Host& h) { return h.node.view() == node; });
  if (host != hosts_.end())
    return *host;
  hosts_.push_back({});
  hosts_.back().node = names_.intern(node);
  return hosts_.back();
}

void TenureBook::seen(std::string_view node, const Position& at) {
  host_of(node).last = at;
}

void TenureBook::note_serial(Host& host, const trail::LineView& line, const Position& at) {
  // auditd numbers its own records by itself; SYSTEM_BOOT tells more than its number.
  if (is_daemon(line.type) || line.type == trail::kSystemBoot || at.serial == 0)
    return;
  bool lower = at.serial < host.last_serial;
  bool later = host.last && at.time_ms >= host.last->time_ms + kTimeSlackMs;
  bool anew = lower && (later || host.auditd_up || at.serial + kSerialSlack < host.last_serial);
  if (anew) {
    if (host.auditd_up)
      boot(host, *host.auditd_up, host.before_up);
    else
      boot(host, at, host.last);
    host.last_serial = at.serial;
  }
  host.auditd_up.reset();
  host.last_serial = std::max(host.last_serial, at.serial);
  host.last = at;
}

void TenureBook::host_event(Host& host, uint16_t type, const Position& at) {
  if (type == trail::kSystemShutdown)
    host.shutdown = true;
  if (type == trail::kDaemonEnd || type == trail::kDaemonAbort) {
    host.auditd_ended = true;
    host.last = at;
  }
  if (type == trail::kDaemonStart) {
    if (host.last && !host.auditd_ended) {
      host.auditd_up = at;
      host.before_up = host.last;
    }
    host.auditd_ended = false;
  }
  if (type == trail::kSystemBoot) {
    boot(host, at, host.auditd_up ? host.before_up : host.last);
    host.auditd_up.reset();
    host.last_serial = at.serial;
    host.last = at;
  }
}

void TenureBook::boot(Host& host, const Position& at, const std::optional<Position>& last) {
  std::string_view reason = host.shutdown ? "reboot" : "host-crash";
  host.shutdown = false;
  for (uint32_t guest = 0; guest < guests_.size(); ++guest) {
    if (guests_[guest].node.view() != host.node.view())
      continue;
    auto open = open_run(guest);
    // The daemon that wrote the ledger looks at what is left, and writes it there.
    if (!open || states_[*open].ledger)
      continue;
    end_run(*open, at, reason, reason, Certainty::Bounded, last ? *last : at);
  }
}

void TenureBook::intent(const trail::LineView& line, uint64_t order) {
  intents_[order] = {.index = order, .body = std::string(line.body)};
}

void TenureBook::settle_intent(const Event& event) {
  if (event.grant)
    intents_.erase(*event.grant);
}

std::vector<OpenIntent> TenureBook::open_intents() const {
  std::vector<OpenIntent> open;
  open.reserve(intents_.size());
  for (const auto& [index, one] : intents_) open.push_back(one);
  return open;
}

// Tenures, runs and the like of another book, as if they had been read here.
void TenureBook::adopt(Name& name) {
  name = names_.intern(name);
}

void TenureBook::adopt(Run& run) {
  for (Name* name : {&run.node, &run.guest, &run.uuid, &run.start_reason, &run.end_reason})
    adopt(*name);
}

void TenureBook::adopt(const Asker*& who) {
  if (who == nullptr)
    return;
  Asker mine = *who;
  adopt(mine.exe);
  adopt(mine.tty);
  if (askers_.empty() || !(askers_.back() == mine))
    askers_.push_back(mine);
  who = &askers_.back();
}

void TenureBook::adopt(Tenure& tenure) {
  for (Name* name :
       {&tenure.node, &tenure.guest, &tenure.uuid, &tenure.kind, &tenure.id, &tenure.access,
        &tenure.rdev, &tenure.category, &tenure.holder, &tenure.from_reason, &tenure.until_reason})
    adopt(*name);
  adopt(tenure.requester);
  adopt(tenure.end_requester);
}

void TenureBook::count_in(const BookCounts& other) {
  counts_.records += other.records;
  counts_.failed += other.failed;
  counts_.refused += other.refused;
  counts_.unknown += other.unknown;
  counts_.unmatched += other.unmatched;
  counts_.duplicates += other.duplicates;
  counts_.damaged += other.damaged;
}

Result<> TenureBook::absorb(TenureBook&& other) {
  for (const Host& host : other.hosts_)
    for (const Host& mine : hosts_)
      if (mine.node.view() == host.node.view())
        return fail(Errc::Invalid, "merge of two books: both have records of host '" +
                                       std::string(host.node.view()) + "'");
  auto run_base = static_cast<uint32_t>(runs_.size());
  auto guest_base = static_cast<uint32_t>(guests_.size());
  for (Guest& guest : other.guests_) {
    for (Name* name : {&guest.node, &guest.uuid, &guest.name}) adopt(*name);
    for (uint32_t& run : guest.runs) run += run_base;
    guests_.push_back(std::move(guest));
  }
  for (const auto& [key, guest] : other.guest_index_) guest_index_.emplace(key, guest + guest_base);
  for (Run& run : other.runs_) {
    adopt(run);
    runs_.push_back(run);
  }
  for (RunState& state : other.states_) {
    state.guest += guest_base;
    state.tenures.clear();
    states_.push_back(std::move(state));
  }
  for (Tenure tenure : other.tenures_) {
    tenure.run += run_base;
    adopt(tenure);
    add(tenure);
  }
  for (Host& host : other.hosts_) {
    adopt(host.node);
    hosts_.push_back(host);
  }
  intents_.merge(other.intents_);
  count_in(other.counts_);
  return {};
}

}  // namespace tenure::model
