// SPDX-License-Identifier: Apache-2.0
// json_line.h writes without asking for room: what it is given has to be enough for the worst that
// a record can say. Each text is written to memory of exactly the promised size, where the
// sanitizer sees the first byte beyond it; and what the texts leave has to be enough for the
// largest numbers.
#include <algorithm>
#include <limits>
#include <memory>
#include <tuple>
#include <utility>

#include "base/text.h"
#include "model/json_line.h"
#include "tests/unit/model/feed.h"

namespace tenure::model {
namespace {

// On the heap, exactly as large as asked for.
template <typename Write>
std::string write_into(size_t room, Write write) {
  const auto memory = std::make_unique_for_overwrite<char[]>(room);
  char* const end = write(memory.get());
  EXPECT_LE(end, memory.get() + room);
  return {memory.get(), end};
}

constexpr size_t kLong = 4096;

// What takes most room in JSON, byte for byte, and what is easily counted wrong.
std::vector<std::string> hostile_texts() {
  std::vector<std::string> texts;
  for (size_t size : {size_t{1}, size_t{2}, size_t{3}, size_t{7}, kLong}) {
    for (char c : {'\0', '\n', '\x1f', '\x7f', '"', '\\', '%', 'a', '\xFF', '\xC3', '\xF4'})
      texts.emplace_back(size, c);
  }
  std::string mixed;
  for (size_t i = 0; i < kLong; ++i) mixed += static_cast<char>(i);
  texts.push_back(mixed);
  texts.emplace_back("\\u0000\\u");
  texts.emplace_back("\xF0\x9F\x98\x80\xF0\x9F\x98");  // cut within a character
  texts.emplace_back("\xE2\x82");
  return texts;
}

TEST(JsonRoom, IsEnoughForEveryText) {
  for (const std::string& text : hostile_texts()) {
    const std::string written =
        write_into(json_room(text.size()), [&](char* at) { return write_json_string(at, text); });
    EXPECT_GE(written.size(), 2 + text.size());
  }
}

// Were it one byte less, the sanitizer would end this.
TEST(JsonRoom, IsTakenWhollyByControlBytes) {
  for (size_t size : {size_t{0}, size_t{1}, kLong}) {
    const std::string text(size, '\x01');
    const std::string written =
        write_into(json_room(size), [&](char* at) { return write_json_string(at, text); });
    EXPECT_EQ(written.size(), json_room(size));
  }
}

constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();

// Its text is as long as any position's: of what the kernel confirmed, or of the ledger alone.
Position longest(bool confirmed) {
  return {.order = kMost,
          .time_ms = std::numeric_limits<int64_t>::max(),
          .serial = confirmed ? kMost : 0};
}

// Each name is `text`, but the kind and the category, which decide on further keys; each number is
// the largest.
struct Worst {
  Worst(std::string_view text, std::string_view kind, std::string_view category, bool confirmed) {
    const Name name = pool.intern(text);
    constexpr uint32_t kMostId = std::numeric_limits<uint32_t>::max() - 1;  // the next is "unset"
    asker = {
        .auid = kMostId, .ses = kMostId, .uid = kMostId, .pid = kMostId, .exe = name, .tty = name};
    for (Name* each : {&tenure.node, &tenure.guest, &tenure.uuid, &tenure.id, &tenure.access,
                       &tenure.rdev, &tenure.holder, &tenure.from_reason, &tenure.until_reason,
                       &run.node, &run.guest, &run.uuid, &run.start_reason, &run.end_reason})
      *each = name;
    tenure.kind = pool.intern(kind.empty() ? text : kind);
    tenure.category = pool.intern(category.empty() ? text : category);
    tenure.requester = tenure.end_requester = &asker;
    tenure.grant = kMost;
    tenure.from = tenure.until = tenure.until_after = longest(confirmed);
    tenure.devtype = 'b';
    tenure.certainty = Certainty::UnknownStart;
    run.number = std::numeric_limits<uint32_t>::max();
    run.pid = kMost;
    run.start = run.end = run.end_after = longest(confirmed);
    run.certainty = Certainty::UnknownStart;
  }
  NamePool pool;
  Asker asker;
  Tenure tenure;
  Run run;
};

std::vector<std::unique_ptr<Worst>> worst_of(std::string_view text) {
  std::vector<std::unique_ptr<Worst>> found;
  for (const auto& [kind, category] : {std::tuple{"", ""}, std::tuple{"cgroup", "major"},
                                       std::tuple{"cgroup", ""}, std::tuple{"dev", ""}}) {
    for (bool confirmed : {true, false})
      found.push_back(std::make_unique<Worst>(text, kind, category, confirmed));
  }
  // No grant: then the bound has a proof of its own, a third one.
  found.push_back(std::make_unique<Worst>(text, "cgroup", "major", true));
  found.back()->tenure.grant.reset();
  return found;
}

TEST(JsonRoom, IsEnoughForEveryTenureAndRun) {
  for (const std::string& text : hostile_texts()) {
    for (const auto& worst : worst_of(text)) {
      const Tenure& tenure = worst->tenure;
      const model::Run& run = worst->run;
      const std::string line =
          write_into(json_room(tenure), [&](char* at) { return write_json_line(at, tenure, run); });
      const std::string life =
          write_into(json_room(run), [&](char* at) { return write_json_line(at, run); });
      std::string appended = "x";  // and behind what is there already
      append_json_line(appended, tenure, run);
      append_json_line(appended, run);
      EXPECT_EQ(appended, "x" + line + life);
    }
  }
}

// What is left over is the same whatever the texts are: each of them is counted, and counted whole.
TEST(JsonRoom, CountsEachTextWhole) {
  const std::string small(1, '\x01');
  const std::string large(kLong, '\x01');
  const auto left = [](const Worst& worst) {
    const std::string line = write_into(json_room(worst.tenure), [&](char* at) {
      return write_json_line(at, worst.tenure, worst.run);
    });
    const std::string life =
        write_into(json_room(worst.run), [&](char* at) { return write_json_line(at, worst.run); });
    return std::pair(json_room(worst.tenure) - line.size(), json_room(worst.run) - life.size());
  };
  const std::vector<std::unique_ptr<Worst>> smalls = worst_of(small);
  const std::vector<std::unique_ptr<Worst>> larges = worst_of(large);
  for (size_t i = 0; i < smalls.size(); ++i) {
    const auto [line, life] = left(*smalls[i]);
    const auto [large_line, large_life] = left(*larges[i]);
    EXPECT_GE(large_line, line);  // some kinds leave out a text that has its room
    EXPECT_EQ(large_life, life);
    EXPECT_GE(line, 64U);
    EXPECT_GE(life, 64U);
  }
}

TEST(JsonRoom, NothingIsWrittenOfNothing) {
  const Tenure tenure;
  const model::Run run;
  write_into(json_room(tenure), [&](char* at) { return write_json_line(at, tenure, run); });
  const std::string life =
      write_into(json_room(run), [&](char* at) { return write_json_line(at, run); });
  EXPECT_TRUE(life.starts_with(R"({"schema":1,"node":null,"guest":"",)")) << life;
}

// Through the door: a line of the log whose values are as bad as they can be is one line of JSON.
TEST(JsonRoom, HostileRecordsGiveOneLine) {
  for (const std::string& text : hostile_texts()) {
    Feed feed;
    const std::string hex = to_hex(text);
    feed.resource("resrc=disk reason=attach", "old-disk=\"?\" new-disk=" + hex + " device=" + hex);
    feed.resource("resrc=cgroup reason=allow", "cgroup=" + hex + " class=path path=" + hex +
                                                   " rdev=" + std::string(kLong, 'F') +
                                                   " acl=\\\" devtype=\"");
    std::string out;
    for (const Tenure& tenure : feed.book.tenures()) {
      append_json_line(out, tenure, feed.book.run_of(tenure));
      EXPECT_EQ(tenure.devtype, 0);
    }
    for (const model::Run& run : feed.book.runs()) append_json_line(out, run);
    EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 3) << out;
  }
}

TEST(JsonRoom, ADeviceTypeThatIsNoneIsNotQuoted) {
  for (const char* devtype : {"\"", "\\", "x", "\x01", "bc"}) {
    Feed feed;
    feed.resource(
        "resrc=cgroup reason=allow",
        std::string("cgroup=\"/c\" class=path path=\"/dev/x\" rdev=1:2 acl=rw devtype=") + devtype);
    ASSERT_EQ(feed.book.tenures().size(), 1U);
    std::string out;
    append_json_line(out, feed.tenure(0), feed.book.runs()[0]);
    EXPECT_NE(out.find(R"("devtype":null)"), std::string::npos) << out;
  }
}

}  // namespace
}  // namespace tenure::model
