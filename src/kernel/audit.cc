// SPDX-License-Identifier: Apache-2.0
// One thread hands messages to the kernel, one reads what the kernel emits; callers wait on a book
// that both keep under one lock. Sending has its own thread because a full backlog blocks sendto(2)
// for up to backlog_wait_time, uninterruptibly, and callers were promised an end.
#include "kernel/audit.h"

#include <fmt/format.h>
#include <libaudit.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "kernel/audit_book.h"
#include "kernel/audit_rules.h"
#include "kernel/audit_socket.h"
#include "kernel/audit_state.h"
#include "kernel/audit_text.h"
#include "kernel/process.h"

namespace tenure::kernel {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using State = AuditReceipt::State;

constexpr int kReceiveBuffer = 8 * 1024 * 1024;  // bytes; about 5000 of the longest records
constexpr milliseconds kQuiet{250};              // without news before we ask where records are
constexpr milliseconds kStatusPatience{1000};
constexpr milliseconds kHeld{20};  // a send takes microseconds: one that takes this long is held

// Threads started while this lives take no signals: those are for the program's own loop.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_{};
};

class NetlinkAudit final : public Audit {
 public:
  NetlinkAudit(UniqueFd sender, UniqueFd status, UniqueFd listener, UniqueFd wake)
      : sender_fd_(std::move(sender)),
        status_fd_(std::move(status)),
        listener_fd_(std::move(listener)),
        wake_fd_(std::move(wake)),
        own_pid_(own_audit_pid()),
        book_(own_exe_value()) {}
  ~NetlinkAudit() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    work_.notify_all();
    eventfd_write(wake_fd_.get(), 1);
    if (sender_.joinable())
      sender_.join();
    if (listener_.joinable())
      listener_.join();
  }
  NetlinkAudit(const NetlinkAudit&) = delete;
  NetlinkAudit& operator=(const NetlinkAudit&) = delete;

  // Once, before anything else. Throws std::system_error.
  void start() {
    SignalsBlocked blocked;
    sender_ = std::thread([this] { run_sender(); });
    listener_ = std::thread([this] { run_listener(); });
  }
  std::vector<AuditReceipt> send(const std::vector<AuditMessage>& messages,
                                 int timeout_ms) override;
  Result<AuditStatus> status() override;
  std::vector<AuditReceipt> late() override {
    std::lock_guard lock(mutex_);
    return book_.take_late();
  }
  size_t awaited() override {
    std::lock_guard lock(mutex_);
    return book_.awaited();
  }
  void give_up() override {
    std::lock_guard lock(mutex_);
    book_.give_up();
  }

 private:
  using Lock = std::unique_lock<std::mutex>;

  void run_sender();
  void serve_status(Lock& lock);
  void send_next(Lock& lock);
  void run_listener();
  bool drain_listener();
  Result<AuditStatus> ask_status(Lock& lock, Clock::time_point deadline);
  void await(Lock& lock, const AuditTickets& tickets, Clock::time_point deadline);
  std::string explain(const AuditTickets& tickets, const Result<AuditStatus>& now) const;

  const UniqueFd
      sender_fd_;  // used by the sender's thread only, as is the next: two, so that a late
  const UniqueFd status_fd_;  // answer to one question is never taken for the ack of a record
  const UniqueFd listener_fd_;
  const UniqueFd wake_fd_;  // ends the listener's poll
  const int32_t own_pid_;

  std::mutex mutex_;              // guards all below
  std::condition_variable work_;  // for the sender
  std::condition_variable news_;  // for callers
  AuditBook book_;
  std::string listener_broken_;  // why nothing can be confirmed any more
  uint64_t status_wanted_ = 0;   // number of the newest request
  uint64_t status_served_ = 0;   // number of the newest request that `status_` answers
  Result<AuditStatus> status_ = fail(Errc::Internal, "not asked yet");
  Clock::time_point held_since_{};  // when the sender entered the kernel; epoch if it is not there
  Clock::time_point last_news_{};   // a send returned or a record came
  bool stopping_ = false;

  std::thread sender_;
  std::thread listener_;
};

std::vector<AuditReceipt> NetlinkAudit::send(const std::vector<AuditMessage>& messages,
                                             int timeout_ms) {
  const Clock::time_point deadline = Clock::now() + milliseconds(timeout_ms);
  Lock lock(mutex_);
  AuditTickets tickets = book_.add(messages);
  last_news_ = Clock::now();
  work_.notify_one();
  await(lock, tickets, deadline);
  std::vector<AuditReceipt> receipts;
  receipts.reserve(tickets.size());
  for (const auto& ticket : tickets) receipts.push_back(ticket->receipt);
  return receipts;
}

// Returns with every ticket settled. While nothing happens for a while, the kernel is asked whether
// it still has records to emit; if not, what is missing was dropped and there is nothing to wait
// for.
void NetlinkAudit::await(Lock& lock, const AuditTickets& tickets, Clock::time_point deadline) {
  auto settled = [&] { return all_settled(tickets) || !listener_broken_.empty(); };
  auto acked = [](const auto& t) { return t->acked || t->phase == AuditTicket::Phase::Settled; };
  while (!settled() && Clock::now() < deadline) {
    const Clock::time_point quiet_until = std::min(deadline, last_news_ + kQuiet);
    if (news_.wait_until(lock, quiet_until, settled))
      break;
    if (Clock::now() < last_news_ + kQuiet || Clock::now() >= deadline)
      continue;
    const Clock::time_point asked_at = last_news_;
    Result<AuditStatus> now = ask_status(lock, deadline);
    const bool silent = last_news_ == asked_at && std::ranges::all_of(tickets, acked);
    if (silent && now && now->backlog == 0)
      return book_.abandon(tickets, explain(tickets, now));
    last_news_ = std::max(last_news_, Clock::now());  // look again after another quiet time
  }
  if (all_settled(tickets))
    return;
  if (!listener_broken_.empty())
    return book_.abandon(tickets, listener_broken_);
  // A sender that is held cannot answer; then the holding itself is the explanation.
  book_.abandon(tickets, explain(tickets, ask_status(lock, Clock::now() + kHeld)));
}

std::string NetlinkAudit::explain(const AuditTickets& tickets,
                                  const Result<AuditStatus>& now) const {
  const bool held = held_since_ != Clock::time_point{} && Clock::now() - held_since_ >= kHeld;
  // A sender that is held cannot ask anew: auditd is whom the last answer named.
  const AuditFacts facts = gather_process_facts(held && status_ ? status_ : now);
  if (held) {
    const AuditState state = recognise_audit(facts);
    return fmt::format("backlog-full: the kernel has held the sender for {} ms, {}",
                       duration_cast<milliseconds>(Clock::now() - held_since_).count(),
                       state.condition == AuditCondition::AuditdStuck
                           ? state.cause
                           : "its audit backlog is full, auditd does not keep up or is stuck");
  }
  auto handed =
      std::ranges::find_if(tickets, [](const auto& t) { return t->lost_before.has_value(); });
  const uint32_t lost = !now || handed == tickets.end() ? 0 : now->lost - *(*handed)->lost_before;
  return cause_of_loss(facts, lost);
}

Result<AuditStatus> NetlinkAudit::status() {
  Lock lock(mutex_);
  return ask_status(lock, Clock::now() + kStatusPatience);
}

Result<AuditStatus> NetlinkAudit::ask_status(Lock& lock, Clock::time_point deadline) {
  const uint64_t mine = ++status_wanted_;
  work_.notify_one();
  if (!news_.wait_until(lock, deadline, [&] { return status_served_ >= mine; }))
    return fail(Errc::Timeout, "audit status: the kernel holds our sender, its backlog is full");
  return status_;
}

void NetlinkAudit::run_sender() {
  Lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] {
      return stopping_ || status_wanted_ != status_served_ || book_.has_queued();
    });
    if (stopping_)
      return;
    if (status_wanted_ != status_served_) {
      serve_status(lock);
    } else {
      send_next(lock);
    }
  }
}

void NetlinkAudit::serve_status(Lock& lock) {
  const uint64_t serving = status_wanted_;
  const bool with_rules = serving != status_served_;  // not before each batch: somebody asks
  held_since_ = Clock::now();
  lock.unlock();
  Result<AuditStatus> answer = query_audit_status(status_fd_.get());
  if (with_rules && answer)
    add_audit_rules(status_fd_.get(), *answer);
  lock.lock();
  held_since_ = {};
  status_ = std::move(answer);
  status_served_ = serving;
  news_.notify_all();
}

void NetlinkAudit::send_next(Lock& lock) {
  // The ack would come although nothing is written while auditing is off: so look first, once a
  // batch. The message stays in the queue meanwhile, where its caller can still withdraw it.
  if (std::exchange(book_.front().needs_look, false))
    return serve_status(lock);
  std::shared_ptr<AuditTicket> ticket = book_.next();
  if (status_)
    ticket->lost_before = status_->lost;
  if (status_ && status_->enabled == 0) {
    book_.refuse(*ticket, recognise_audit({.status = *status_}).text());
    news_.notify_all();
    return;
  }
  const AuditMessage& message = ticket->message;  // never changed once it is queued
  held_since_ = Clock::now();
  lock.unlock();
  errno = 0;
  const int sequence = audit_log_user_message(sender_fd_.get(), message.type, message.body.c_str(),
                                              nullptr, nullptr, "", message.success ? 1 : 0);
  const int err = errno != 0 ? errno : ECONNREFUSED;  // 0: libaudit hides refusals (user namespace)
  lock.lock();
  held_since_ = {};
  last_news_ = Clock::now();
  ticket->acked = true;
  if (sequence <= 0)
    book_.refuse(*ticket, sys_error("send an audit record (CAP_AUDIT_WRITE)", "", err).what());
  news_.notify_all();
}

void NetlinkAudit::run_listener() {
  pollfd waiting[] = {{listener_fd_.get(), POLLIN, 0}, {wake_fd_.get(), POLLIN, 0}};
  for (;;) {
    if (poll(waiting, 2, -1) < 0 && errno != EINTR)
      return;
    if (waiting[1].revents != 0 || !drain_listener())
      return;
  }
}

// Everything that waits now; an overrun is told after the rest, which did arrive. False: broken.
bool NetlinkAudit::drain_listener() {
  bool overrun = false;
  for (;;) {
    Result<AuditNews> news = receive_audit_news(listener_fd_.get());
    std::lock_guard lock(mutex_);
    if (!news) {
      listener_broken_ = news.error().what();
      news_.notify_all();
      return false;
    }
    overrun = overrun || news->kind == AuditNews::Kind::Overrun;
    if (news->kind == AuditNews::Kind::Record && book_.echo(news->echo, own_pid_)) {
      last_news_ = Clock::now();
      news_.notify_all();
    }
    if (news->kind != AuditNews::Kind::Nothing)
      continue;
    if (overrun)
      book_.overrun();
    if (overrun)
      news_.notify_all();
    return true;
  }
}

Result<> check_capabilities() {
  struct Needed {
    int bit;
    const char* name;
  };
  constexpr Needed kNeeded[] = {{CAP_AUDIT_WRITE, "CAP_AUDIT_WRITE"},
                                {CAP_AUDIT_READ, "CAP_AUDIT_READ"}};
  TRY(ProcessStatus own, process_status(getpid()));
  for (const Needed& needed : kNeeded) {
    if ((own.cap_eff >> needed.bit & 1) == 0)
      return fail(Errc::Denied, fmt::format("needs {}: run as root, or give it (setcap, "
                                            "AmbientCapabilities=)",
                                            needed.name));
  }
  return {};
}

class NoAudit final : public Audit {
 public:
  explicit NoAudit(std::string why) : why_(std::move(why)), exe_value_(own_exe_value()) {}
  std::vector<AuditReceipt> send(const std::vector<AuditMessage>& messages, int) override {
    std::vector<AuditReceipt> receipts;
    for (const AuditMessage& message : messages) {
      AuditReceipt receipt;
      AuditFrame frame = audit_frame(message);
      receipt.text = frame.before + exe_value_ + frame.after;
      receipt.why = why_;
      receipts.push_back(std::move(receipt));
    }
    return receipts;
  }
  Result<AuditStatus> status() override { return fail(Errc::Unsupported, why_); }

 private:
  const std::string why_;
  const std::string exe_value_;
};

Result<std::unique_ptr<Audit>> open_netlink_audit() {
  TRY(UniqueFd sender, open_audit_socket());
  TRY(UniqueFd asker, open_audit_socket());
  // Only a user namespace is told apart here: without CAP_AUDIT_CONTROL we can do without the
  // status.
  if (Result<AuditStatus> status = query_audit_status(asker.get());
      !status && status.error().code() == Errc::Unsupported)
    return fail(status.error());
  TRY_OK(check_capabilities());
  if (!in_initial_net_namespace())
    return fail(Errc::Unsupported,
                "not the host's network namespace, the only one in which the kernel shows audit "
                "records: run in the host's");
  TRY(UniqueFd listener, open_audit_listener(kReceiveBuffer));
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake)
    return fail_sys("eventfd", "");
  try {
    auto audit = std::make_unique<NetlinkAudit>(std::move(sender), std::move(asker),
                                                std::move(listener), std::move(wake));
    audit->start();
    return audit;
  } catch (const std::system_error& error) {  // std::thread
    return fail(Errc::Io, fmt::format("start a thread: {}", error.what()));
  }
}

}  // namespace

Result<std::unique_ptr<Audit>> open_audit() {
  Result<std::unique_ptr<Audit>> audit = open_netlink_audit();
  if (!audit)
    return fail(std::move(audit).error().context("audit"));
  return audit;
}

std::unique_ptr<Audit> no_audit(std::string why) {
  return std::make_unique<NoAudit>(std::move(why));
}

}  // namespace tenure::kernel
