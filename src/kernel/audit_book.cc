// SPDX-License-Identifier: Apache-2.0
#include "kernel/audit_book.h"

#include <algorithm>
#include <utility>

namespace tenure::kernel {
namespace {

constexpr size_t kMaxAwaited = 4096;  // abandoned messages, and confirmations nobody has fetched

using State = AuditReceipt::State;

bool is_echo_of(const AuditTicket& ticket, const AuditEcho& echo) {
  return ticket.message.type == echo.type && matches(ticket.frame, echo.text);
}

void copy_facts(const AuditEcho& echo, AuditReceipt& receipt) {
  receipt.time_ms = echo.time_ms;
  receipt.serial = echo.serial;
  receipt.pid = echo.pid;
  receipt.uid = echo.uid;
  receipt.auid = echo.auid;
  receipt.ses = echo.ses;
  receipt.text = echo.text;
}

}  // namespace

AuditTickets AuditBook::add(const std::vector<AuditMessage>& messages) {
  AuditTickets tickets;
  tickets.reserve(messages.size());
  bool first = true;
  for (const AuditMessage& message : messages) {
    auto ticket = std::make_shared<AuditTicket>();
    ticket->message = message;
    ticket->frame = audit_frame(message);
    ticket->receipt.text = ticket->frame.before + exe_value_ + ticket->frame.after;
    tickets.push_back(ticket);
    if (Result<> checked = check_audit_message(message, exe_value_); !checked) {
      settle(*ticket, State::Unsent, checked.error().what());
      continue;
    }
    ticket->needs_look = std::exchange(first, false);
    queued_.push_back(std::move(ticket));
  }
  return tickets;
}

std::shared_ptr<AuditTicket> AuditBook::next() {
  std::shared_ptr<AuditTicket> ticket = std::move(queued_.front());
  queued_.pop_front();
  ticket->phase = AuditTicket::Phase::Handed;
  handed_.push_back(ticket);
  // Only messages that nobody waits for can pile up: callers wait for the others.
  while (handed_.size() > kMaxAwaited && handed_.front()->abandoned) handed_.pop_front();
  return ticket;
}

void AuditBook::refuse(AuditTicket& ticket, std::string why) {
  forget_handed(ticket);
  if (ticket.phase != AuditTicket::Phase::Settled)
    settle(ticket, State::Unsent, std::move(why));
}

bool AuditBook::echo(const AuditEcho& echo, int32_t own_pid) {
  if (own_pid != 0 && echo.pid != own_pid)
    return false;
  auto found = std::ranges::find_if(handed_, [&](const auto& t) { return is_echo_of(*t, echo); });
  if (found == handed_.end())
    return false;
  for (auto earlier = handed_.begin(); earlier != found; ++earlier) {
    if ((*earlier)->phase == AuditTicket::Phase::Settled)
      continue;
    settle(**earlier, State::Unconfirmed, "the kernel dropped the record: a later one came back");
  }
  AuditTicket& ticket = **found;
  copy_facts(echo, ticket.receipt);
  settle(ticket, State::Confirmed, "");
  if (ticket.abandoned && late_.size() < kMaxAwaited)
    late_.push_back(ticket.receipt);
  handed_.erase(handed_.begin(), found + 1);
  return true;
}

void AuditBook::overrun() {
  for (const auto& ticket : handed_) {
    if (ticket->phase == AuditTicket::Phase::Settled)
      continue;
    settle(*ticket, State::Unconfirmed,
           "the audit listener's receive buffer overflowed: records were lost on the way to us");
    ticket->abandoned = true;
  }
}

void AuditBook::abandon(const AuditTickets& tickets, const std::string& why) {
  for (const auto& ticket : tickets) {
    if (ticket->phase == AuditTicket::Phase::Queued) {
      std::erase(queued_, ticket);
      settle(*ticket, State::Unsent, why);
    } else if (ticket->phase == AuditTicket::Phase::Handed) {
      settle(*ticket, State::Unconfirmed, why);
      ticket->abandoned = true;
    }
  }
}

size_t AuditBook::awaited() const {
  return static_cast<size_t>(
      std::ranges::count_if(handed_, [](const auto& t) { return t->abandoned; }));
}

void AuditBook::give_up() {
  std::erase_if(handed_, [](const auto& t) { return t->abandoned && t->acked; });
}

void AuditBook::settle(AuditTicket& ticket, State state, std::string why) {
  ticket.phase = AuditTicket::Phase::Settled;
  ticket.receipt.state = state;
  ticket.receipt.why = std::move(why);
}

void AuditBook::forget_handed(const AuditTicket& ticket) {
  std::erase_if(handed_, [&](const auto& other) { return other.get() == &ticket; });
}

bool all_settled(const AuditTickets& tickets) {
  return std::ranges::all_of(tickets,
                             [](const auto& t) { return t->phase == AuditTicket::Phase::Settled; });
}

}  // namespace tenure::kernel
