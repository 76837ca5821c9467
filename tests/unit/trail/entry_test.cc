// SPDX-License-Identifier: Apache-2.0
// The line of a ledger entry: one form, and nothing else is taken.
#include "trail/entry.h"

#include <gtest/gtest.h>

#include "trail/vocabulary.h"

namespace tenure::trail {
namespace {

Entry sample() {
  return {.state = EntryState::Confirmed,
          .type = kVirtResource,
          .time_ms = 1795347817519,
          .serial = 9826,
          .pid = 22730,
          .uid = 0,
          .auid = kUnsetId,
          .ses = kUnsetId,
          .body = "virt=kvm resrc=disk vm=\"o'brien\" res=success"};
}

constexpr std::string_view kSample =
    "type=VIRT_RESOURCE msg=audit(1795347817.519:9826): state=confirmed pid=22730 uid=0 "
    "auid=4294967295 ses=4294967295 msg='virt=kvm resrc=disk vm=\"o'brien\" res=success'";

TEST(Entry, HasTheFormOfARawAuditLine) {
  EXPECT_EQ(encode_entry(sample()), kSample);
}

TEST(Entry, DecodesToWhatWasEncoded) {
  Entry entry = decode_entry(kSample).value();
  EXPECT_EQ(entry.state, EntryState::Confirmed);
  EXPECT_EQ(entry.type, kVirtResource);
  EXPECT_EQ(entry.time_ms, 1795347817519);
  EXPECT_EQ(entry.serial, 9826U);
  EXPECT_EQ(entry.pid, 22730);
  EXPECT_EQ(entry.auid, kUnsetId);
  EXPECT_EQ(entry.body, "virt=kvm resrc=disk vm=\"o'brien\" res=success");
  EXPECT_EQ(encode_entry(entry), kSample);
}

TEST(Entry, KeepsABodyThatLooksLikeTheFrame) {
  Entry entry = sample();
  entry.body = "x' pid=1 msg='y'";
  EXPECT_EQ(decode_entry(encode_entry(entry)).value().body, entry.body);
}

TEST(Entry, KeepsTypesThatHaveNoName) {
  Entry entry = sample();
  entry.type = 1100;
  EXPECT_TRUE(encode_entry(entry).starts_with("type=UNKNOWN[1100] msg="));
  EXPECT_EQ(decode_entry(encode_entry(entry)).value().type, 1100);
}

TEST(Entry, RefusesEveryPrefixOfALine) {
  for (size_t size = 0; size < kSample.size(); ++size) {
    // Only where the quote inside the body ends the line is a prefix an entry, of a shorter body.
    bool ends_in_quote = size > 0 && kSample[size - 1] == '\'';
    bool body_begun = size > kSample.find("msg='") + 5;
    EXPECT_EQ(decode_entry(kSample.substr(0, size)).has_value(), ends_in_quote && body_begun)
        << size;
  }
}

TEST(Entry, RefusesAnotherSpellingOfTheSameValues) {
  auto refused = [](std::string_view from, std::string_view to) {
    std::string line(kSample);
    line.replace(line.find(from), from.size(), to);
    auto entry = decode_entry(line);
    return !entry && entry.error().code() == Errc::Corrupt &&
           entry.error().what().find("byte") != std::string::npos;
  };
  EXPECT_TRUE(refused("pid=22730", "pid=022730"));
  EXPECT_TRUE(refused(".519", ".0519"));
  EXPECT_TRUE(refused(".519:", ":"));
  EXPECT_TRUE(refused("confirmed", "confirmedx"));
  EXPECT_TRUE(refused("VIRT_RESOURCE", "UNKNOWN[2501]"));
  EXPECT_TRUE(refused("9826", "99999999999999999999"));
  EXPECT_TRUE(refused("success'", "success'\n"));
  EXPECT_TRUE(refused(": state", ":  state"));
}

}  // namespace
}  // namespace tenure::trail
