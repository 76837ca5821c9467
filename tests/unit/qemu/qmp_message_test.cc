// SPDX-License-Identifier: Apache-2.0
#include "qemu/qmp_message.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace tenure::qemu {
namespace {

using nlohmann::json;

std::string why(std::string_view line) {
  auto message = parse_qmp_message(line);
  return message ? "(accepted)" : message.error().what();
}

TEST(QmpLines, CutsAtEveryKindOfLineEnd) {
  QmpLines lines;
  lines.feed("one\r\n\r\n\ntwo\nthr");
  EXPECT_EQ(lines.next().value(), "one");
  EXPECT_EQ(lines.next().value(), "two");
  EXPECT_EQ(lines.next().value(), std::nullopt);
  EXPECT_EQ(lines.pending(), 3U);
  lines.feed("ee\r\n");
  EXPECT_EQ(lines.next().value(), "three");
  EXPECT_EQ(lines.next().value(), std::nullopt);
  EXPECT_EQ(lines.pending(), 0U);
}

TEST(QmpLines, OneByteAtATimeGivesTheSame) {
  QmpLines lines;
  std::string seen;
  for (char c : std::string("{\"a\":1}\r\n{}\n")) {
    lines.feed(std::string_view(&c, 1));
    for (auto line = lines.next(); line && *line; line = lines.next())
      seen += std::string(**line) + "|";
  }
  EXPECT_EQ(seen, "{\"a\":1}|{}|");
}

TEST(QmpLines, EndlessLineIsRefused) {
  QmpLines lines;
  std::string chunk(1 << 20, 'x');
  for (size_t i = 0; i < kMaxQmpMessage / chunk.size(); ++i) {
    lines.feed(chunk);
    ASSERT_TRUE(lines.next());
  }
  lines.feed("x");
  auto line = lines.next();
  ASSERT_FALSE(line);
  EXPECT_EQ(line.error().what(), "a message longer than 16777216 bytes");
}

TEST(QmpMessage, GreetingNeedsItsShape) {
  auto message = parse_qmp_message(R"({"QMP":{"version":{},"capabilities":[]}})");
  ASSERT_TRUE(message);
  EXPECT_EQ(message->kind, QmpMessage::Kind::Greeting);
  for (const char* line :
       {R"({"QMP":{}})", R"({"QMP":[]})", R"({"QMP":1})", R"({"QMP":{"version":{}}})",
        R"({"QMP":{"version":[],"capabilities":[]}})",
        R"({"QMP":{"version":{},"capabilities":{}}})"})
    EXPECT_EQ(why(line), "a greeting without version and capabilities") << line;
}

TEST(QmpMessage, EventHasNameDataAndTime) {
  auto message = parse_qmp_message(
      R"({"timestamp":{"seconds":12,"microseconds":34},"event":"RTC_CHANGE","data":{"offset":7}})");
  ASSERT_TRUE(message);
  EXPECT_EQ(message->kind, QmpMessage::Kind::Event);
  EXPECT_EQ(message->event.name, "RTC_CHANGE");
  EXPECT_EQ(message->event.time_us, 12'000'034);
  EXPECT_EQ((*message->event.data)["offset"], 7);
}

TEST(QmpMessage, EventWithoutDataHasAnEmptyObject) {
  auto message = parse_qmp_message(R"({"event":"STOP"})");
  ASSERT_TRUE(message);
  EXPECT_EQ(*message->event.data, json::object());
}

TEST(QmpMessage, OddTimesAreNoTime) {
  for (const char* stamp :
       {"{}", "1", R"({"seconds":-1,"microseconds":-1})", R"({"seconds":"1","microseconds":2})",
        R"({"seconds":1})", R"({"seconds":1,"microseconds":1000000})",
        R"({"seconds":18446744073709551615,"microseconds":1})",
        R"({"seconds":9223372036854,"microseconds":999999})"}) {
    auto message = parse_qmp_message(R"({"event":"STOP","timestamp":)" + std::string(stamp) + "}");
    ASSERT_TRUE(message) << stamp;
    EXPECT_EQ(message->event.time_us, 0) << stamp;
  }
}

TEST(QmpMessage, OddEventsAreRefused) {
  EXPECT_EQ(why(R"({"event":1})"), "an event without a name");
  EXPECT_EQ(why(R"({"event":""})"), "an event without a name");
  EXPECT_EQ(why(R"({"event":"X","data":[1]})"), "an event whose data is no object");
}

TEST(QmpMessage, EventNamesCannotForgeALog) {
  auto message = parse_qmp_message(R"({"event":"A\u001b[2J\nB"})");
  ASSERT_TRUE(message);
  EXPECT_EQ(message->event.name, "A\\x1B[2J\\x0AB");
}

struct ErrorCase {
  const char* body;
  Errc code;
  int sys_errno;
  const char* what;
};
TEST(QmpMessage, ErrorClassesHaveTheirCodes) {
  const ErrorCase cases[] = {
      {R"("class":"GenericError","desc":"Bus 'x' not found")", Errc::Internal, 0,
       "Bus 'x' not found"},
      {R"("class":"GenericError","desc":"Could not open '/dev/sda': Operation not permitted")",
       Errc::Denied, EPERM, "Could not open '/dev/sda': Operation not permitted"},
      {R"("class":"GenericError","desc":"Could not open 'x': Permission denied")", Errc::Denied,
       EACCES, "Could not open 'x': Permission denied"},
      {R"("class":"CommandNotFound","desc":"The command x has not been found")", Errc::Unsupported,
       0, "The command x has not been found"},
      {R"("class":"DeviceNotFound","desc":"Device 'x' not found")", Errc::NotFound, 0,
       "Device 'x' not found"},
      {R"("class":"Unheard","desc":"a\nb")", Errc::Internal, 0, "a\\x0Ab"},
      {R"("class":1,"desc":[])", Errc::Internal, 0, "refused without a reason"},
  };
  for (const ErrorCase& c : cases) {
    auto message = parse_qmp_message(R"({"id":5,"error":{)" + std::string(c.body) + "}}");
    ASSERT_TRUE(message && message->error) << c.body;
    EXPECT_EQ(message->id, 5U);
    EXPECT_EQ(message->error->code(), c.code) << c.body;
    EXPECT_EQ(message->error->sys_errno(), c.sys_errno) << c.body;
    EXPECT_EQ(message->error->what(), c.what);
  }
}

TEST(QmpMessage, ALongReasonIsCut) {
  auto message = parse_qmp_message(R"({"id":5,"error":{"class":"GenericError","desc":")" +
                                   std::string(100000, 'x') + "\"}}");
  ASSERT_TRUE(message && message->error);
  EXPECT_EQ(message->error->what().size(), 1000U);
}

TEST(QmpMessage, GarbageIsRefused) {
  for (const char* line :
       {"", "{", "nul", "1", "[]", "\"x\"", "{}", R"({"return":{},"error":{},"id":1})",
        R"({"error":5,"id":1})", R"({"return":{}})", R"({"return":{},"id":"1"})",
        R"({"return":{},"id":-1})", R"({"return":{},"id":1.5})", R"({"return":{},"id":1} x)",
        "{\"return\":\"\xff\xfe\",\"id\":1}", R"({"return":1e999,"id":1})", "\x01\x02"})
    EXPECT_FALSE(parse_qmp_message(line)) << line;
  // This is how QEMU answers what it could not parse; its reason must not be lost.
  EXPECT_EQ(why(R"({"error":{"class":"GenericError","desc":"JSON parse error"}})"),
            "a reply without an id of ours: JSON parse error");
}

TEST(QmpMessage, DeepNestingIsRefusedBeforeParsing) {
  auto nested = [](size_t depth) {
    return R"({"id":1,"return":)" + std::string(depth, '[') + std::string(depth, ']') + "}";
  };
  EXPECT_EQ(why(nested(kMaxQmpDepth - 1)), "(accepted)");
  EXPECT_EQ(why(nested(kMaxQmpDepth)), "nested deeper than 64");
  EXPECT_EQ(why(std::string(1 << 20, '[')), "nested deeper than 64");
  EXPECT_EQ(why(R"({"id":1,"return":"[[\"[[)" + std::string(100, '[') + "\"}"), "(accepted)");
}

TEST(QmpMessage, TooManyValuesAreRefusedBeforeParsing) {
  std::string many = R"({"id":1,"return":[0)";
  for (size_t i = 0; i < kMaxQmpValues; ++i) many += ",0";
  EXPECT_EQ(why(many + "]}"), "more than 262144 values");
}

TEST(QmpCommand, IsOneLine) {
  json arguments = {{"text", "a\nb"}};
  auto bytes = encode_qmp_command("do", arguments, 9);
  ASSERT_TRUE(bytes);
  EXPECT_EQ(*bytes, "{\"arguments\":{\"text\":\"a\\nb\"},\"execute\":\"do\",\"id\":9}\n");
  EXPECT_EQ(encode_qmp_command("do", json(), 9).value(), "{\"execute\":\"do\",\"id\":9}\n");
  json broken = {{"text", "\xff"}};
  EXPECT_EQ(encode_qmp_command("do", broken, 9).error().code(), Errc::Invalid);
}

}  // namespace
}  // namespace tenure::qemu
