// SPDX-License-Identifier: Apache-2.0
// The kernel's own audit: what is confirmed was emitted, and each way of losing a record is seen.
#include "kernel/audit.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <set>
#include <thread>

#include "base/clock.h"
#include "tests/kernel/audit/audit_lease.h"

namespace tenure::kernel {
namespace {

using State = AuditReceipt::State;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int kTimeoutMs = 5000;

AuditMessage message(const std::string& body, bool success = true) {
  AuditMessage made;
  made.type = AUDIT_VIRT_RESOURCE;
  made.body = fmt::format("test={} {}", getpid(), body);
  made.success = success;
  return made;
}
std::vector<AuditMessage> messages(const std::string& body, size_t count) {
  std::vector<AuditMessage> made;
  for (size_t i = 0; i < count; ++i) made.push_back(message(fmt::format("{} n={}", body, i)));
  return made;
}
size_t count(const std::vector<AuditReceipt>& receipts, State state) {
  return static_cast<size_t>(
      std::ranges::count(receipts, state, [](const AuditReceipt& r) { return r.state; }));
}

class KernelAudit : public testing::Test {
 protected:
  void SetUp() override {
    if (getuid() != 0)
      GTEST_SKIP() << "needs root to switch auditing on";
    lease_ = std::make_unique<AuditLease>();
    if (!lease_->valid())
      GTEST_SKIP() << "the audit settings cannot be changed here";
    lease_->set_enabled(1);
    lease_->set_rate_limit(0);
  }
  void open() {
    Result<std::unique_ptr<Audit>> audit = open_audit();
    if (!audit)
      GTEST_SKIP() << audit.error().what();
    audit_ = std::move(*audit);
  }
  std::unique_ptr<AuditLease> lease_;
  std::unique_ptr<Audit> audit_;
};

TEST_F(KernelAudit, ConfirmsWithTimeSerialAndText) {
  open();
  if (!audit_)
    return;
  const int64_t before = system_clock().realtime_ns() / 1'000'000;
  std::vector<AuditReceipt> receipts = audit_->send(
      {message("op=a vm=\"q'x res=success\""), message("op=b \xC3\xA9", false)}, kTimeoutMs);
  const int64_t after = system_clock().realtime_ns() / 1'000'000;
  ASSERT_EQ(receipts.size(), 2U);
  for (const AuditReceipt& receipt : receipts) {
    EXPECT_EQ(receipt.state, State::Confirmed) << receipt.why;
    EXPECT_EQ(receipt.pid, getpid());
    EXPECT_EQ(receipt.uid, 0U);
    EXPECT_GE(receipt.time_ms, before - 20);  // the kernel's coarse clock lags by a tick
    EXPECT_LE(receipt.time_ms, after);
  }
  EXPECT_LT(receipts[0].serial, receipts[1].serial);
  std::string exe(4096, '\0');
  exe.resize(static_cast<size_t>(readlink("/proc/self/exe", exe.data(), exe.size())));
  EXPECT_EQ(receipts[0].text,
            fmt::format("test={} op=a vm=\"q'x res=success\" exe=\"{}\" hostname=? addr=? "
                        "terminal=? res=success",
                        getpid(), exe));
  EXPECT_EQ(receipts[1].text,
            fmt::format("test={} op=b \xC3\xA9 exe=\"{}\" hostname=? addr=? terminal=? res=failed",
                        getpid(), exe));
}

TEST_F(KernelAudit, LongestRecordComesBackWholeAndALongerOneIsNotSent) {
  open();
  if (!audit_)
    return;
  std::string head = audit_->send({message("")}, kTimeoutMs)[0].text;
  std::string filler(8559 - head.size(), 'x');
  std::vector<AuditReceipt> receipts =
      audit_->send({message(filler), message(filler + "y")}, kTimeoutMs);
  EXPECT_EQ(receipts[0].state, State::Confirmed) << receipts[0].why;
  EXPECT_EQ(receipts[0].text.size(), 8559U);
  EXPECT_EQ(receipts[1].state, State::Unsent);
  EXPECT_NE(receipts[1].why.find("the kernel takes 8559"), std::string::npos);
}

TEST_F(KernelAudit, ManySendersEachGetTheirOwn) {
  open();
  if (!audit_)
    return;
  constexpr size_t kThreads = 4, kBatches = 10, kEach = 10;
  std::vector<std::vector<AuditReceipt>> all(kThreads);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (size_t b = 0; b < kBatches; ++b) {
        std::string body = fmt::format("thread={} batch={}", t, b);
        for (AuditReceipt& receipt : audit_->send(messages(body, kEach), kTimeoutMs)) {
          EXPECT_NE(receipt.text.find(body), std::string::npos);
          all[t].push_back(std::move(receipt));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<uint64_t> serials;
  for (const auto& receipts : all) {
    EXPECT_EQ(count(receipts, State::Confirmed), kBatches * kEach);
    for (const AuditReceipt& receipt : receipts) serials.insert(receipt.serial);
  }
  EXPECT_EQ(serials.size(), kThreads * kBatches * kEach);
}

TEST_F(KernelAudit, SwitchedOffMeansUnsent) {
  open();
  if (!audit_)
    return;
  lease_->set_enabled(0);
  std::vector<AuditReceipt> receipts = audit_->send(messages("off", 3), kTimeoutMs);
  EXPECT_EQ(count(receipts, State::Unsent), 3U);
  EXPECT_EQ(receipts[2].why, "off: auditing is switched off (auditctl -e 1 switches it on)");
  EXPECT_EQ(audit_->status()->enabled, 0U);
  lease_->set_enabled(1);
  EXPECT_EQ(audit_->send(messages("on", 1), kTimeoutMs)[0].state, State::Confirmed);
}

TEST_F(KernelAudit, RateLimitIsSeenAndNamedLongBeforeTheTimeout) {
  open();
  if (!audit_)
    return;
  lease_->set_rate_limit(10);
  const Clock::time_point start = Clock::now();
  std::vector<AuditReceipt> receipts = audit_->send(messages("burst", 100), 60000);
  EXPECT_LT(Clock::now() - start, milliseconds(10000));
  size_t lost = count(receipts, State::Unconfirmed);
  EXPECT_GE(lost, 50U);
  EXPECT_EQ(lost + count(receipts, State::Confirmed), 100U);
  EXPECT_NE(receipts.back().why.find("rate limit of 10"), std::string::npos) << receipts.back().why;
}

// A process that is registered as auditd and never reads. Its socket holds little.
pid_t start_stuck_auditd() {
  int ready[2];
  if (pipe2(ready, O_CLOEXEC) < 0)
    return -1;
  pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int fd = audit_open();
    int bytes = 2048;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    bool set = audit_set_pid(fd, static_cast<uint32_t>(getpid()), WAIT_NO) > 0;
    if (write(ready[1], set ? "y" : "n", 1) != 1)
      _exit(1);
    for (;;) pause();
  }
  UniqueFd reader(ready[0]);
  close(ready[1]);
  char answer = 'n';
  if (read(reader.get(), &answer, 1) == 1 && answer == 'y')
    return pid;
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  return -1;
}

TEST_F(KernelAudit, StuckAuditdDoesNotHoldTheCallerAndLateRecordsAreReported) {
  if (lease_->found().auditd_pid != 0)
    GTEST_SKIP() << "auditd runs: it must not be replaced";
  pid_t auditd = start_stuck_auditd();
  ASSERT_GT(auditd, 0);
  open();
  lease_->set_backlog(16);
  std::vector<AuditReceipt> receipts;
  Clock::duration took{};
  if (audit_) {
    const Clock::time_point start = Clock::now();
    receipts = audit_->send(messages("stuck", 200), 200);
    took = Clock::now() - start;
  }
  kill(auditd, SIGKILL);
  waitpid(auditd, nullptr, 0);
  if (!audit_)
    return;
  EXPECT_LT(took, milliseconds(1000));
  const size_t open_ones = count(receipts, State::Unconfirmed);
  EXPECT_GT(count(receipts, State::Unsent), 0U);
  EXPECT_GT(open_ones, 0U);
  EXPECT_NE(receipts.back().why.find("auditd does not keep up or is stuck"), std::string::npos)
      << receipts.back().why;
  // Once it is dead the kernel emits what it had taken; the next record comes after all of them.
  std::vector<AuditReceipt> next = audit_->send({message("after")}, kTimeoutMs);
  EXPECT_EQ(next[0].state, State::Confirmed) << next[0].why;
  std::vector<AuditReceipt> late = audit_->late();
  EXPECT_EQ(late.size(), open_ones);
  for (const AuditReceipt& receipt : late) EXPECT_EQ(receipt.state, State::Confirmed);
}

TEST_F(KernelAudit, ListenerHearsOnlyRecordsOfVirtualMachines) {
  Result<UniqueFd> listener = open_audit_listener(1 << 20);
  if (!listener)
    GTEST_SKIP() << listener.error().what();
  UniqueFd sender = open_audit_socket().value();
  for (int type : {AUDIT_TRUSTED_APP, AUDIT_VIRT_CONTROL})
    ASSERT_GT(audit_log_user_message(sender.get(), type, "test=filter", nullptr, nullptr, "", 1),
              0);
  pollfd waiting{listener->get(), POLLIN, 0};
  ASSERT_EQ(poll(&waiting, 1, kTimeoutMs), 1);
  AuditNews news = receive_audit_news(listener->get()).value();
  EXPECT_EQ(news.kind, AuditNews::Kind::Record);
  EXPECT_EQ(news.echo.type, AUDIT_VIRT_CONTROL);
}

TEST_F(KernelAudit, OverflowOfTheListenerIsTold) {
  Result<UniqueFd> small = open_audit_listener(1);
  if (!small)
    GTEST_SKIP() << small.error().what();
  open();
  if (!audit_)
    return;
  ASSERT_EQ(count(audit_->send(messages("overflow", 50), kTimeoutMs), State::Confirmed), 50U);
  size_t heard = 0;
  bool overrun = false;
  for (;;) {
    AuditNews news = receive_audit_news(small->get()).value();
    if (news.kind == AuditNews::Kind::Nothing)
      break;
    overrun = overrun || news.kind == AuditNews::Kind::Overrun;
    if (news.kind == AuditNews::Kind::Record)
      ++heard;
  }
  EXPECT_TRUE(overrun);
  EXPECT_LT(heard, 50U);
}

// What open_audit() says in a child that has been changed by `change`.
std::string refusal_after(const std::function<bool()>& change) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0)
    return "pipe failed";
  pid_t child = fork();
  if (child == 0) {
    std::string said = "could not be changed";
    if (change()) {
      Result<std::unique_ptr<Audit>> audit = open_audit();
      said = audit ? "opened" : audit.error().what();
    }
    if (!write_all(ends[1], said, "pipe"))
      _exit(1);
    _exit(0);
  }
  close(ends[1]);
  UniqueFd reader(ends[0]);
  std::string said = read_fd(reader.get(), 4096, "pipe").value_or("nothing");
  waitpid(child, nullptr, 0);
  return said;
}

bool drop_capability(unsigned bit) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2];
  if (syscall(SYS_capget, &header, data) < 0)
    return false;
  data[bit / 32].effective &= ~(1U << bit % 32);
  return syscall(SYS_capset, &header, data) == 0;
}

TEST_F(KernelAudit, SaysWhichCapabilityIsMissing) {
  EXPECT_EQ(refusal_after([] { return drop_capability(CAP_AUDIT_WRITE); }),
            "audit: needs CAP_AUDIT_WRITE: run as root, or give it (setcap, AmbientCapabilities=)");
  EXPECT_EQ(refusal_after([] { return drop_capability(CAP_AUDIT_READ); }),
            "audit: needs CAP_AUDIT_READ: run as root, or give it (setcap, AmbientCapabilities=)");
}

TEST_F(KernelAudit, SaysThatTheNamespaceIsNotTheHosts) {
  EXPECT_NE(refusal_after([] { return unshare(CLONE_NEWUSER) == 0; }).find("user namespace"),
            std::string::npos);
  EXPECT_NE(refusal_after([] { return unshare(CLONE_NEWNET) == 0; }).find("network namespace"),
            std::string::npos);
}

TEST_F(KernelAudit, WorksWithoutTheRightToAskTheStatus) {
  // What a child sees is told by its exit status: 0 if a record was confirmed all the same.
  pid_t child = fork();
  if (child == 0) {
    if (!drop_capability(CAP_AUDIT_CONTROL))
      _exit(2);
    Result<std::unique_ptr<Audit>> audit = open_audit();
    if (!audit || (*audit)->status())
      _exit(3);
    std::vector<AuditReceipt> receipts = (*audit)->send({message("plain")}, kTimeoutMs);
    _exit(receipts[0].state == State::Confirmed ? 0 : 4);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

}  // namespace
}  // namespace tenure::kernel
