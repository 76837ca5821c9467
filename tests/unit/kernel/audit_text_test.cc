// SPDX-License-Identifier: Apache-2.0
// How user records look on their way to the kernel and back.
#include "kernel/audit_text.h"

#include <gtest/gtest.h>

namespace tenure::kernel {
namespace {

constexpr std::string_view kRecord =
    "audit(1732276800.007:4242): pid=17 uid=0 auid=4294967295 ses=3 msg='virt=kvm exe=\"/x\" "
    "hostname=? addr=? terminal=? res=success'";

AuditMessage message(std::string body, bool success = true) {
  AuditMessage made;
  made.type = 2501;
  made.body = std::move(body);
  made.success = success;
  return made;
}

TEST(AuditEcho, ReadsAllFields) {
  std::optional<AuditEcho> echo = parse_audit_echo(2501, kRecord);
  ASSERT_TRUE(echo);
  EXPECT_EQ(echo->type, 2501);
  EXPECT_EQ(echo->time_ms, 1732276800007);
  EXPECT_EQ(echo->serial, 4242U);
  EXPECT_EQ(echo->pid, 17);
  EXPECT_EQ(echo->uid, 0U);
  EXPECT_EQ(echo->auid, UINT32_MAX);
  EXPECT_EQ(echo->ses, 3U);
  EXPECT_EQ(echo->text, "virt=kvm exe=\"/x\" hostname=? addr=? terminal=? res=success");
}

TEST(AuditEcho, TakesASecurityLabelAndFinalNuls) {
  std::string text =
      "audit(1.000:2): pid=1 uid=0 auid=0 ses=1 subj=system_u:system_r:x_t:s0-s0:c0.c3 msg='a'";
  text.append(3, '\0');
  std::optional<AuditEcho> echo = parse_audit_echo(2500, text);
  ASSERT_TRUE(echo);
  EXPECT_EQ(echo->text, "a");
}

TEST(AuditEcho, KeepsQuotesInsideTheText) {
  std::optional<AuditEcho> echo =
      parse_audit_echo(2500, "audit(1.000:2): pid=1 uid=0 auid=0 ses=1 msg='vm=\"q'x\" msg='y''");
  ASSERT_TRUE(echo);
  EXPECT_EQ(echo->text, "vm=\"q'x\" msg='y'");
}

TEST(AuditEcho, RefusesEveryTruncationAndOtherRecords) {
  for (size_t size = 0; size < kRecord.size(); ++size)
    EXPECT_FALSE(parse_audit_echo(2501, kRecord.substr(0, size))) << size;
  for (const char* text :
       {"audit(1.1000:2): pid=1 uid=0 auid=0 ses=1 msg='a'",
        "audit(99999999999999999.000:2): pid=1 uid=0 auid=0 ses=1 msg='a'",
        "audit(-1.000:2): pid=1 uid=0 auid=0 ses=1 msg='a'", "audit(1.000:2): prog-id=7 op=LOAD"})
    EXPECT_FALSE(parse_audit_echo(2501, text)) << text;
}

TEST(AuditFrame, MatchesItsOwnTextWhateverTheProgram) {
  AuditFrame frame = audit_frame(message("a=1 txn=5", false));
  EXPECT_TRUE(matches(frame, "a=1 txn=5 exe=\"/a/b\" hostname=? addr=? terminal=? res=failed"));
  EXPECT_TRUE(matches(frame, "a=1 txn=5 exe=2F61 hostname=? addr=? terminal=? res=failed"));
  EXPECT_FALSE(matches(frame, "a=1 txn=5 exe=\"/a/b\" hostname=? addr=? terminal=? res=success"));
  EXPECT_FALSE(matches(frame, "a=1 txn=55 exe=\"/a\" hostname=? addr=? terminal=? res=failed"));
  EXPECT_FALSE(matches(frame, "a=1 txn=5 exe= hostname=? addr=? terminal=? res=failed"));
  EXPECT_FALSE(matches(frame, "a=1 txn=5 exe=x y=z hostname=? addr=? terminal=? res=failed"));
}

TEST(AuditCheck, RefusesWhatTheKernelWouldNotPassOn) {
  const std::string exe = "\"/bin/x\"";
  auto refusal = [&](const AuditMessage& bad) {
    Result<> checked = check_audit_message(bad, exe);
    return checked ? "accepted" : checked.error().what();
  };
  EXPECT_EQ(refusal(message("virt=kvm")), "accepted");
  EXPECT_EQ(refusal(message("")), "the audit record is empty");
  EXPECT_EQ(refusal(message("a=b\ntype=FAKE")),
            "a control character in the audit record: encode the value");
  AuditMessage other = message("a=b");
  other.type = 1305;
  EXPECT_EQ(refusal(other), "audit type 1305 is not one of 2500 to 2599");
  AuditFrame frame = audit_frame(message(""));
  const size_t room = kMaxAuditText - frame.before.size() - exe.size() - frame.after.size();
  EXPECT_EQ(refusal(message(std::string(room, 'x'))), "accepted");
  EXPECT_EQ(refusal(message(std::string(room + 1, 'x'))),
            "the audit record has 8560 bytes, the kernel takes 8559");
}

}  // namespace
}  // namespace tenure::kernel
