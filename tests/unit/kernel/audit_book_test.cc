// SPDX-License-Identifier: Apache-2.0
// Which messages count as written, whatever the kernel drops, delays or sends for others.
#include "kernel/audit_book.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "kernel/audit_fake.h"
#include "kernel/audit_socket.h"

namespace tenure::kernel {
namespace {

using State = AuditReceipt::State;

AuditMessage book_message(const std::string& body) {
  AuditMessage made;
  made.type = 2501;
  made.body = body;
  return made;
}

class Book : public testing::Test {
 protected:
  // Adds and hands all of them to the kernel.
  AuditTickets hand(const std::vector<std::string>& bodies) {
    std::vector<AuditMessage> messages;
    for (const std::string& body : bodies) messages.push_back(book_message(body));
    AuditTickets tickets = book_.add(messages);
    while (book_.has_queued()) book_.next();
    return tickets;
  }
  AuditEcho echo_of(const AuditTicket& ticket, uint64_t serial) {
    AuditEcho echo;
    echo.type = ticket.message.type;
    echo.serial = serial;
    echo.pid = kPid;
    echo.text = ticket.frame.before + "\"/usr/sbin/tenured\"" + ticket.frame.after;
    return echo;
  }
  static constexpr int32_t kPid = 77;
  AuditBook book_{"\"/old\""};
};

TEST_F(Book, ConfirmsInOrderWithTheKernelsText) {
  AuditTickets tickets = hand({"a", "b"});
  EXPECT_TRUE(book_.echo(echo_of(*tickets[0], 5), kPid));
  EXPECT_FALSE(all_settled(tickets));
  EXPECT_TRUE(book_.echo(echo_of(*tickets[1], 6), kPid));
  EXPECT_TRUE(all_settled(tickets));
  EXPECT_EQ(tickets[0]->receipt.state, State::Confirmed);
  EXPECT_EQ(tickets[0]->receipt.serial, 5U);
  EXPECT_EQ(tickets[0]->receipt.text,
            "a exe=\"/usr/sbin/tenured\" hostname=? addr=? terminal=? res=success");
  EXPECT_TRUE(book_.take_late().empty());
}

TEST_F(Book, OvertakenRecordIsLost) {
  AuditTickets tickets = hand({"a", "b", "c"});
  EXPECT_TRUE(book_.echo(echo_of(*tickets[1], 6), kPid));
  EXPECT_EQ(tickets[0]->receipt.state, State::Unconfirmed);
  EXPECT_EQ(tickets[0]->receipt.why, "the kernel dropped the record: a later one came back");
  EXPECT_EQ(tickets[1]->receipt.state, State::Confirmed);
  EXPECT_EQ(tickets[2]->phase, AuditTicket::Phase::Handed);
}

TEST_F(Book, EqualMessagesAreConfirmedAsOftenAsTheyCome) {
  AuditTickets tickets = hand({"a", "a"});
  EXPECT_TRUE(book_.echo(echo_of(*tickets[0], 5), kPid));
  EXPECT_FALSE(all_settled(tickets));
  EXPECT_TRUE(book_.echo(echo_of(*tickets[0], 6), kPid));
  EXPECT_EQ(tickets[1]->receipt.serial, 6U);
  EXPECT_FALSE(book_.echo(echo_of(*tickets[0], 7), kPid));
}

TEST_F(Book, RecordsOfOthersProveNothing) {
  AuditTickets tickets = hand({"a"});
  AuditEcho other = echo_of(*tickets[0], 5);
  other.pid = kPid + 1;
  EXPECT_FALSE(book_.echo(other, kPid));
  other = echo_of(*tickets[0], 5);
  other.type = 2500;
  EXPECT_FALSE(book_.echo(other, kPid));
  EXPECT_FALSE(all_settled(tickets));
}

TEST_F(Book, LateRecordIsReportedOnce) {
  AuditTickets tickets = hand({"a"});
  book_.abandon(tickets, "stuck");
  EXPECT_EQ(tickets[0]->receipt.state, State::Unconfirmed);
  EXPECT_EQ(tickets[0]->receipt.why, "stuck");
  EXPECT_TRUE(book_.echo(echo_of(*tickets[0], 9), kPid));
  std::vector<AuditReceipt> late = book_.take_late();
  ASSERT_EQ(late.size(), 1U);
  EXPECT_EQ(late[0].state, State::Confirmed);
  EXPECT_EQ(late[0].serial, 9U);
  EXPECT_TRUE(book_.take_late().empty());
}

TEST_F(Book, AwaitsUntilALaterOneDecides) {
  AuditTickets tickets = hand({"a", "b", "c"});
  EXPECT_EQ(book_.awaited(), 0U) << "their caller waits for them itself";
  book_.abandon({tickets[0], tickets[1]}, "stuck");
  EXPECT_EQ(book_.awaited(), 2U);
  EXPECT_TRUE(book_.echo(echo_of(*tickets[1], 9), kPid));
  EXPECT_EQ(book_.awaited(), 0U) << "the first is lost, the second late";
  EXPECT_EQ(book_.take_late().size(), 1U);
}

TEST_F(Book, WhatIsGivenUpIsNotReportedAnyMore) {
  AuditTickets tickets = hand({"a", "b"});
  tickets[0]->acked = true;
  book_.abandon(tickets, "stuck");
  book_.give_up();
  EXPECT_EQ(book_.awaited(), 1U) << "the kernel has not taken it yet";
  EXPECT_FALSE(book_.echo(echo_of(*tickets[0], 9), kPid));
  EXPECT_TRUE(book_.echo(echo_of(*tickets[1], 10), kPid));
}

TEST_F(Book, QueuedMessageOfACallerThatGaveUpIsNeverSent) {
  AuditTickets tickets = book_.add({book_message("a"), book_message("b")});
  EXPECT_EQ(book_.next(), tickets[0]);
  book_.abandon(tickets, "stuck");
  EXPECT_EQ(tickets[0]->receipt.state, State::Unconfirmed);
  EXPECT_EQ(tickets[1]->receipt.state, State::Unsent);
  EXPECT_FALSE(book_.has_queued());
}

TEST_F(Book, OverrunLeavesNothingConfirmedThatWasNotSeen) {
  AuditTickets tickets = hand({"a", "b"});
  EXPECT_TRUE(book_.echo(echo_of(*tickets[0], 5), kPid));
  book_.overrun();
  EXPECT_EQ(tickets[0]->receipt.state, State::Confirmed);
  EXPECT_EQ(tickets[1]->receipt.state, State::Unconfirmed);
  EXPECT_NE(tickets[1]->receipt.why.find("overflowed"), std::string::npos);
}

TEST_F(Book, RefusedMessageIsUnsent) {
  AuditTickets tickets = hand({"a"});
  book_.refuse(*tickets[0], "no leave");
  EXPECT_EQ(tickets[0]->receipt.state, State::Unsent);
  EXPECT_EQ(tickets[0]->receipt.text, "a exe=\"/old\" hostname=? addr=? terminal=? res=success");
  EXPECT_FALSE(book_.echo(echo_of(*tickets[0], 5), kPid));
}

TEST_F(Book, AwaitsABoundedNumberOfLateRecords) {
  AuditTickets first = hand({"first"});
  book_.abandon(first, "stuck");
  for (int i = 0; i < 5000; ++i) book_.abandon(hand({"x" + std::to_string(i)}), "stuck");
  EXPECT_FALSE(book_.echo(echo_of(*first[0], 5), kPid));
}

TEST(NoAudit, SaysWhy) {
  std::unique_ptr<Audit> audit = no_audit("a container without audit");
  std::vector<AuditReceipt> receipts = audit->send({book_message("a"), book_message("b")}, 1000);
  ASSERT_EQ(receipts.size(), 2U);
  EXPECT_EQ(receipts[1].state, State::Unsent);
  EXPECT_EQ(receipts[1].why, "a container without audit");
  EXPECT_TRUE(receipts[1].text.starts_with("b exe="));
  EXPECT_EQ(audit->status().error().code(), Errc::Unsupported);
}

TEST(FakeAudit, ConfirmsDropsDelays) {
  FakeAudit audit;
  EXPECT_EQ(audit.send({book_message("a")}, 0)[0].state, State::Confirmed);
  audit.set_mode(FakeAudit::Mode::Off, 1);
  std::vector<AuditReceipt> receipts = audit.send({book_message("b"), book_message("c")}, 0);
  EXPECT_EQ(receipts[0].state, State::Confirmed);
  EXPECT_EQ(receipts[1].state, State::Unsent);
  EXPECT_EQ(audit.status()->enabled, 0U);
  audit.set_mode(FakeAudit::Mode::Drop);
  EXPECT_EQ(audit.send({book_message("d")}, 0)[0].state, State::Unconfirmed);
  audit.set_mode(FakeAudit::Mode::Delay);
  EXPECT_EQ(audit.send({book_message("e")}, 0)[0].state, State::Unconfirmed);
  EXPECT_TRUE(audit.late().empty());
  audit.set_mode(FakeAudit::Mode::Confirm);
  ASSERT_EQ(audit.late().size(), 1U);
  EXPECT_TRUE(audit.late().empty());
  ASSERT_EQ(audit.emitted().size(), 3U);
  EXPECT_LT(audit.emitted()[1].serial, audit.emitted()[2].serial);
  EXPECT_TRUE(audit.emitted()[2].text.starts_with("e exe="));
  EXPECT_EQ(audit.seen().size(), 5U);
}

TEST(NetNamespace, IsToldBySysctlsOfTheInitialOneOnly) {
  std::string dir = testing::TempDir() + "tenure-sysctl-XXXXXX";
  ASSERT_NE(mkdtemp(dir.data()), nullptr);
  EXPECT_TRUE(in_initial_net_namespace(dir));  // no sysctls: nothing is sure
  ASSERT_TRUE(write_file_atomic(dir + "/somaxconn", "1"));
  EXPECT_FALSE(in_initial_net_namespace(dir));
  ASSERT_TRUE(write_file_atomic(dir + "/netdev_max_backlog", "1"));
  EXPECT_TRUE(in_initial_net_namespace(dir));
  unlink((dir + "/somaxconn").c_str());
  unlink((dir + "/netdev_max_backlog").c_str());
  rmdir(dir.c_str());
}

}  // namespace
}  // namespace tenure::kernel
