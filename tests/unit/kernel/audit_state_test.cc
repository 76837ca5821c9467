// SPDX-License-Identifier: Apache-2.0
// The audit system's states are told apart by facts alone, and a cause is named only if one proves
// it.
#include "kernel/audit_state.h"

#include <gtest/gtest.h>
#include <libaudit.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "kernel/audit_rules.h"

namespace tenure::kernel {
namespace {

using enum AuditCondition;

AuditFacts healthy() {
  AuditFacts facts;
  facts.status = AuditStatus{.enabled = 1, .failure = 1, .auditd_pid = 7, .backlog_limit = 8192};
  facts.auditd_state = 'S';
  facts.auditd = parse_auditd_config("write_logs = yes\n");
  facts.log = AuditLogTail{.path = "/l", .last_serial = 100, .last_ms = 50'000};
  facts.confirmed = AuditMark{.serial = 100, .time_ms = 50'000};
  facts.now_ms = 60'000;
  return facts;
}

AuditCondition after(void (*change)(AuditFacts&)) {
  AuditFacts facts = healthy();
  change(facts);
  return recognise_audit(facts).condition;
}

TEST(AuditState, EachIsToldByItsFact) {
  EXPECT_EQ(after([](AuditFacts&) {}), Good);
  EXPECT_EQ(after([](AuditFacts& f) { f.status->enabled = 0; }), Off);
  EXPECT_EQ(after([](AuditFacts& f) { f.status->rate_limit = 5; }), RateLimited);
  EXPECT_EQ(after([](AuditFacts& f) { f.status->auditd_pid = 0; }), NoAuditd);
  EXPECT_EQ(after([](AuditFacts& f) { f.auditd_state = 'T'; }), AuditdStuck);
  EXPECT_EQ(after([](AuditFacts& f) { f.status->backlog = 8192; }), BacklogFull);
  EXPECT_EQ(after([](AuditFacts& f) { f.log->last_serial = 99; }), AuditdSuspended);
  EXPECT_EQ(after([](AuditFacts& f) { f.status->excluded_by = "-a x"; }), Excluded);
  EXPECT_EQ(after([](AuditFacts& f) { f.net_namespace = true; }), NetNamespace);
  EXPECT_EQ(after([](AuditFacts& f) { f.user_namespace = true; }), UserNamespace);
  EXPECT_EQ(after([](AuditFacts& f) { f.can_read = false; }), NoCapability);
  EXPECT_EQ(after([](AuditFacts& f) { f.status.reset(); }), Unknown);
  EXPECT_EQ(after([](AuditFacts& f) {
              f.status.reset();
              f.status_code = Errc::Unsupported;
            }),
            NoKernelAudit);
}

TEST(AuditState, AuditdHasSomeSecondsToStore) {
  AuditFacts facts = healthy();
  facts.log->last_serial = 99;
  facts.now_ms = 51'000;
  EXPECT_EQ(recognise_audit(facts).condition, Good);
  facts.now_ms = 60'000;
  facts.log->resumed_ms = 55'000;  // it began again after that record
  EXPECT_EQ(recognise_audit(facts).condition, Good);
  facts.log.reset();  // not readable: nothing is established
  EXPECT_EQ(recognise_audit(facts).condition, Good);
}

TEST(AuditState, ACauseIsNamedOnlyIfItIsEstablished) {
  AuditFacts facts = healthy();
  std::string unknown = cause_of_loss(facts, 0);
  EXPECT_NE(unknown.find("cause not established, `tenure doctor` looks further"), unknown.npos);
  EXPECT_EQ(unknown.find("rule"), unknown.npos);
  EXPECT_EQ(cause_of_loss(facts, 3), "dropped: the kernel counts 3 lost records meanwhile");
  facts.status->rate_limit = 5;
  EXPECT_NE(cause_of_loss(facts, 3).find("rate limit of 5"), std::string::npos);
  EXPECT_EQ(cause_of_loss(facts, 0).find("rate"), std::string::npos);
  facts.status->excluded_by = "-a always,exclude -F msgtype=VIRT_CONTROL";
  EXPECT_NE(cause_of_loss(facts, 0).find(facts.status->excluded_by), std::string::npos);
}

AuditRule rule(uint32_t list, uint32_t action, std::vector<AuditRule::Field> fields) {
  return {.list = list, .action = action, .fields = std::move(fields)};
}

TEST(AuditRules, OnlyARuleThatSurelyMatchesIsNamed) {
  const AuditSender sender{.type = 2501, .pid = 5, .uid = 0, .auid = 1000};
  const AuditRule exclude = rule(AUDIT_FILTER_EXCLUDE, AUDIT_ALWAYS,
                                 {{AUDIT_MSGTYPE, AUDIT_GREATER_THAN_OR_EQUAL, 2500}});
  EXPECT_EQ(dropping_rule({exclude}, sender), "-a always,exclude -F msgtype>=VIRT_CONTROL");
  const AuditRule other =
      rule(AUDIT_FILTER_EXCLUDE, AUDIT_ALWAYS, {{AUDIT_MSGTYPE, AUDIT_EQUAL, 2500}});
  EXPECT_EQ(dropping_rule({other}, sender), "");
  const AuditRule never = rule(AUDIT_FILTER_USER, AUDIT_NEVER, {{AUDIT_UID, AUDIT_EQUAL, 0}});
  EXPECT_EQ(dropping_rule({never}, sender), "-a never,user -F uid=0");
  // A rule of the list user that lets it through decides before the one behind it.
  const AuditRule always = rule(AUDIT_FILTER_USER, AUDIT_ALWAYS, {{AUDIT_UID, AUDIT_EQUAL, 0}});
  EXPECT_EQ(dropping_rule({always, never}, sender), "");
  // What we cannot compare decides nothing, and neither does what stands behind it.
  const AuditRule subject =
      rule(AUDIT_FILTER_EXCLUDE, AUDIT_ALWAYS, {{AUDIT_SUBJ_TYPE, AUDIT_EQUAL, 0}});
  EXPECT_EQ(dropping_rule({subject, exclude}, sender), "");
  EXPECT_EQ(dropping_rule({rule(AUDIT_FILTER_EXCLUDE, AUDIT_ALWAYS, {})}, sender), "");
}

TEST(AuditLog, TheEndOfTheLogIsReadAsAuditdWritesIt) {
  AuditLogTail tail;
  scan_audit_log(
      "cut off) type=VIRT_CONTROL\n"
      "type=VIRT_RESOURCE msg=audit(1700000000.123:41): pid=1\n"
      "node=a type=SYSCALL msg=audit(1700000001.000:42): x\n"
      "type=DAEMON_RESUME msg=audit(1700000002.500:9999): op=resume-logging\n"
      "type=VIRT_CONTROL msg=audit(170000",
      tail);
  EXPECT_EQ(tail.last_serial, 42U);
  EXPECT_EQ(tail.last_ms, 1700000001000);
  EXPECT_EQ(tail.resumed_ms, 1700000002500);
  EXPECT_EQ(tail.serials, std::set<uint64_t>{41});
}

TEST(AuditLog, WhatWasRotatedAwayIsReadBackToTheTimeAskedFor) {
  char folder[] = "/tmp/tenure-log-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  const std::string path = std::string(folder) + "/audit.log";
  auto write = [&](const std::string& name, int first, int count) {
    std::ofstream file(name);
    for (int serial = first; serial < first + count; ++serial)
      file << "type=VIRT_CONTROL msg=audit(" << 1'700'000'000 + serial << ".000:" << serial
           << "): pid=1 uid=0 auid=1000 ses=1 msg='" << std::string(200, 'x') << "'\n";
  };
  write(path + ".2", 1, 10);
  write(path + ".1", 11, 6000);  // more than the tail
  write(path, 6011, 2);
  auto ms_of = [](int64_t serial) { return (1'700'000'000 + serial) * 1000; };
  Result<AuditLogTail> all = read_audit_log_since(path, ms_of(11));
  ASSERT_TRUE(all) << all.error().what();
  EXPECT_EQ(all->last_serial, 6012U);
  EXPECT_EQ(all->last_ms, ms_of(6012));
  EXPECT_EQ(all->from_ms, ms_of(1));
  EXPECT_EQ(all->serials.size(), 6012U);
  Result<AuditLogTail> newer = read_audit_log_since(path, ms_of(12));
  ASSERT_TRUE(newer);
  EXPECT_EQ(newer->from_ms, ms_of(11)) << "no further than needed";
  EXPECT_EQ(newer->serials.size(), 6002U);
  std::filesystem::remove_all(folder);
}

TEST(AuditdConfig, KeywordsAreReadInAnyCase) {
  AuditdConfig config = parse_auditd_config("# x\nLog_File = /a/b.log\nnum_logs=5\nbad line\n");
  EXPECT_EQ(config.log_file(), "/a/b.log");
  EXPECT_EQ(config.number("num_logs"), 5U);
  EXPECT_FALSE(config.number("freq"));
  EXPECT_EQ(parse_auditd_config("").log_file(), "/var/log/audit/audit.log");
}

}  // namespace
}  // namespace tenure::kernel
