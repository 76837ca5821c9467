// SPDX-License-Identifier: Apache-2.0
// The journal's export and JSON become the audit lines that auditd would have written.
#include "reader/journal.h"

#include <gtest/gtest.h>

namespace tenure::reader {
namespace {

constexpr char kLine[] =
    "type=VIRT_CONTROL msg=audit(1751328000.250:424): pid=1 uid=0 msg='virt=kvm op=stop res=success'\n";
constexpr char kMessage[] = "VIRT_CONTROL pid=1 uid=0 msg='virt=kvm op=stop res=success'";

std::string all(std::unique_ptr<ByteStream> stream, std::string* error = nullptr) {
  std::string out;
  char chunk[100];
  for (;;) {
    const auto got = stream->read(chunk, sizeof chunk);
    if (!got && error != nullptr)
      *error = got.error().what();
    if (!got || *got == 0)
      return out;
    out.append(chunk, *got);
  }
}

std::string from_export(std::string_view text, std::string* error = nullptr) {
  return all(journal_export_stream(text_stream(text), "j"), error);
}
std::string from_json(std::string_view text, std::string* error = nullptr) {
  return all(journal_json_stream(text_stream(text), "j"), error);
}

std::string export_entry(const std::string& machine = "m1", const std::string& type = "2500") {
  return "__CURSOR=s=1\n__REALTIME_TIMESTAMP=1751328000999999\n_MACHINE_ID=" + machine +
         "\n_HOSTNAME=host-" + machine + "\n_AUDIT_TYPE=" + type +
         "\n_AUDIT_ID=424\n_SOURCE_REALTIME_TIMESTAMP=1751328000250000\nMESSAGE=" + kMessage +
         "\n\n";
}

std::string binary_field(const std::string& name, const std::string& value) {
  std::string size(8, '\0');
  for (size_t i = 0; i < 8; ++i) size[i] = static_cast<char>(value.size() >> (8 * i));
  return name + "\n" + size + value + "\n";
}

TEST(JournalExport, AuditEntriesBecomeLines) {
  EXPECT_EQ(from_export(export_entry()), kLine);
  EXPECT_EQ(from_export("__CURSOR=x\nMESSAGE=hello\n\n" + export_entry()), kLine);
  std::string unterminated = export_entry();
  unterminated.pop_back();
  EXPECT_EQ(from_export(unterminated), kLine);
}

TEST(JournalExport, BinaryFieldsAreTaken) {
  const std::string entry =
      "_AUDIT_TYPE=2500\n_AUDIT_ID=424\n_SOURCE_REALTIME_TIMESTAMP=1751328000250000\n" +
      binary_field("OTHER", std::string("a\n\nb\0c", 6)) + binary_field("MESSAGE", kMessage) + "\n";
  EXPECT_EQ(from_export(entry), kLine);
}

TEST(JournalExport, AnotherMachineGetsItsName) {
  EXPECT_EQ(from_export(export_entry("m1") + export_entry("m2")),
            std::string(kLine) + "node=host-m2 " + kLine);
}

TEST(JournalExport, NumbersOfOtherTypesAreNamed) {
  EXPECT_EQ(from_export(export_entry("m", "1127")).substr(0, 17), "type=SYSTEM_BOOT ");
  EXPECT_EQ(from_export(export_entry("m", "2599")).substr(0, 19), "type=UNKNOWN[2599] ");
  EXPECT_EQ(from_export(export_entry("m", "x")), "");
}

TEST(JournalExport, HostileSizesAreSkippedOrRefused) {
  const std::string huge = "_AUDIT_TYPE=2500\nX\n" + std::string(8, '\xff') + "abc";
  std::string error;
  EXPECT_EQ(from_export(huge, &error), "");
  EXPECT_NE(error.find("cut"), std::string::npos);
  const std::string large = "X\n" + binary_field("", std::string(3 << 20, 'x')).substr(1) + "\n";
  EXPECT_EQ(from_export(large + export_entry()), kLine);
  EXPECT_EQ(from_export(std::string(3 << 20, 'x') + "\n\n" + export_entry()), kLine);
  error.clear();
  from_export(export_entry().substr(0, 40), &error);
  EXPECT_NE(error.find("cut"), std::string::npos);
}

TEST(JournalJson, ObjectsBecomeLines) {
  const std::string head =
      R"({"__CURSOR":"s=1","_AUDIT_TYPE" : "2500","_AUDIT_ID":"424","N":null,"A":["x","y"],)"
      R"("_SOURCE_REALTIME_TIMESTAMP":"1751328000250000","MESSAGE":)";
  EXPECT_EQ(from_json(head + "\"" + kMessage + "\"}\n"), kLine);
  EXPECT_EQ(from_json(head + "\"" + kMessage + "\"}"), kLine);
  std::string bytes;
  for (const char c : std::string_view(kMessage))
    bytes += (bytes.empty() ? "" : ",") + std::to_string(static_cast<unsigned char>(c));
  EXPECT_EQ(from_json(head + "[" + bytes + "]}\n"), kLine);
}

TEST(JournalJson, EscapesAreDecoded) {
  JournalEntry entry;
  ASSERT_TRUE(parse_journal_json(R"({"MESSAGE":"a\"\\\/\n\té\u20ac\ud83d\ude00"})", entry));
  EXPECT_EQ(entry.message, "a\"\\/\n\t\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
}

TEST(JournalJson, WhatIsNoObjectIsRefused) {
  for (const char* text :
       {"", "{", "{}x", "[1]", R"({"a":})", R"({"a":"b)", R"({"a":"\x"})", R"({"a":"\ud800"})",
        R"({"a":[1,})", R"({"a":[300]})", R"({"a":{}})", R"({"a":nul})", "{\"a\":\"\n\"}"}) {
    JournalEntry entry;
    EXPECT_FALSE(parse_journal_json(text, entry)) << text;
  }
  std::string error;
  EXPECT_EQ(from_json("{\"MESSAGE\":\"cut", &error), "");
  EXPECT_NE(error.find("cut"), std::string::npos);
}

TEST(Content, IsSeenFromTheFirstBytes) {
  EXPECT_EQ(content_of("\x1f\x8b\x08"), Content::Gzip);
  EXPECT_EQ(content_of("\x28\xb5\x2f\xfd"), Content::Zstd);
  EXPECT_EQ(content_of("__CURSOR=s"), Content::JournalExport);
  EXPECT_EQ(content_of("{\"_A\""), Content::JournalJson);
  EXPECT_EQ(content_of("type=X"), Content::Plain);
  EXPECT_EQ(content_of(""), Content::Plain);
}

}  // namespace
}  // namespace tenure::reader
