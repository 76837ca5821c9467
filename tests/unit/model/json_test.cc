// SPDX-License-Identifier: Apache-2.0
// The JSON of tenures and runs, schema 1, byte for byte; and its text rule.
#include "model/json.h"

#include "tests/unit/model/feed.h"

namespace tenure::model {
namespace {

std::string lines_of(Feed& feed) {
  std::string out;
  for (const Tenure& tenure : feed.book.tenures())
    append_json_line(out, tenure, feed.book.run_of(tenure));
  return out;
}

TEST(Json, OfALibvirtDisk) {
  Feed feed;
  feed.node = "h1";
  feed.resource("resrc=disk reason=start", "old-disk=\"?\" new-disk=\"/dev/sdb\"");
  feed.control("op=start reason=booted");
  EXPECT_EQ(
      lines_of(feed),
      R"j({"schema":1,"node":"h1","guest":"anchor",)j"
      R"j("uuid":"6fe7fc2a-cc7c-4d6c-bb44-e1c7d275e875","run":1,"kind":"disk","id":"/dev/sdb",)j"
      R"j("access":null,"devtype":null,"rdev":null,"from":{"time":"1.000","serial":100},)j"
      R"j("from_reason":"start","until":null,"until_reason":null,"certainty":"open",)j"
      R"j("requester":null,"proof":["audit(1.000:100)"]})j"
      "\n");
}

TEST(Json, OfARuleOfOursInTheLedger) {
  Feed feed;
  trail::Record record(trail::Kind::CgroupMajor);
  record.set("reason", "allow").set("cgroup", "/c").set("category", "pty").set("maj", "88");
  record.set("acl", "rw").set("devtype", "c").set("for", "serial0").set("grant", 3);
  set_requester(record, {.auid = 1000, .uid = 0, .pid = 77, .exe = "/usr/bin/tenure"});
  feed.entry(trail::EntryState::Unsent, record);
  EXPECT_EQ(
      lines_of(feed),
      R"j({"schema":1,"node":null,"guest":"anchor",)j"
      R"j("uuid":"6fe7fc2a-cc7c-4d6c-bb44-e1c7d275e875","run":1,"kind":"cgroup","id":"pty",)j"
      R"j("access":"rw","devtype":"c","rdev":"88:*",)j"
      R"j("from":{"time":"1.000","serial":null,"ledger":0},"from_reason":"allow","until":null,)j"
      R"j("until_reason":null,"certainty":"open","requester":{"auid":1000,"uid":0,"ses":null,)j"
      R"j("pid":77,"exe":"/usr/bin/tenure","tty":null},"proof":["ledger(0)"],"class":"major",)j"
      R"j("category":"pty","device":"serial0","grant":3})j"
      "\n");
}

TEST(Json, OfACrashHasBoundsAndTheirProof) {
  Feed feed;
  feed.resource("resrc=disk reason=start", "old-disk=\"?\" new-disk=\"/dev/sdb\"");
  feed.control("op=start reason=booted");
  feed.second = 500;
  feed.serial = 5;
  feed.line("SYSTEM_BOOT", "pid=1");
  std::string out = lines_of(feed);
  EXPECT_NE(out.find(R"j("until":{"time":"500.000","serial":5},"until_reason":"host-crash",)j"
                     R"j("certainty":"bounded")j"),
            std::string::npos)
      << out;
  EXPECT_NE(out.find(R"j("proof":["audit(1.000:100)","audit(2.000:101)","audit(500.000:5)"])j"),
            std::string::npos)
      << out;
  EXPECT_NE(out.find(R"j("until_after":{"time":"2.000","serial":101})j"), std::string::npos) << out;
}

TEST(Json, OfARun) {
  Feed feed;
  feed.control("op=start reason=booted");
  feed.control("op=stop reason=destroyed");
  std::string out;
  append_json_line(out, feed.book.runs()[0]);
  EXPECT_EQ(
      out,
      R"j({"schema":1,"node":null,"guest":"anchor",)j"
      R"j("uuid":"6fe7fc2a-cc7c-4d6c-bb44-e1c7d275e875","run":1,)j"
      R"j("start":{"time":"1.000","serial":100},"start_reason":"booted","pid":27158,"ok":true,)j"
      R"j("end":{"time":"2.000","serial":101},"end_reason":"destroyed","certainty":"exact"})j"
      "\n");
}

std::string quoted(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

TEST(Json, Text) {
  EXPECT_EQ(quoted("web-1"), "\"web-1\"");
  EXPECT_EQ(quoted("a\"b\\c"), R"j("a\"b\\c")j");
  EXPECT_EQ(quoted("a\nb\x1b\x7f"), R"j("a\u000Ab\u001B\u007F")j");
  EXPECT_EQ(quoted(std::string_view("\0", 1)), R"j("\u0000")j");
  EXPECT_EQ(quoted("\xC3\xA9 100%"), "\"\xC3\xA9 100%\"");
  EXPECT_EQ(quoted("\xC3\xA9\xFF 100%"), "\"\xC3\xA9%FF 100%25\"");
  EXPECT_EQ(quoted("\xC3"), "\"%C3\"");
  EXPECT_EQ(quoted("\xED\xA0\x80"), "\"%ED%A0%80\"");
  EXPECT_EQ(quoted("\xC0\xAF"), "\"%C0%AF\"");
  EXPECT_EQ(quoted("\xF0\x9F\x98\x80"), "\"\xF0\x9F\x98\x80\"");
}

TEST(Csv, QuotesAndColumns) {
  Feed feed;
  feed.resource("resrc=disk reason=start", "old-disk=\"?\" new-disk=2C22");
  std::string out;
  append_csv_header(out);
  append_csv_line(out, feed.tenure(0), feed.book.runs()[0]);
  EXPECT_EQ(out.substr(out.find('\n') + 1),
            ",anchor,6fe7fc2a-cc7c-4d6c-bb44-e1c7d275e875,1,disk,\",\"\"\",,,,1.000,100,start,,,,"
            "open,,,,\n");
  size_t line = out.find('\n');
  EXPECT_EQ(std::count(out.begin(), out.begin() + static_cast<long>(line), ','), 19);
}

}  // namespace
}  // namespace tenure::model
