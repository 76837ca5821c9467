// SPDX-License-Identifier: Apache-2.0
// What the reading commands print for host.log, whole, in every form (NAME.txt; TENURE_UPDATE=1
// writes them anew: read the difference), their exit codes, and that tenure-json(5) names the keys
// that are printed, no more and no fewer.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "cli/local/commands.h"
#include "ledger/ledger.h"
#include "tests/unit/reader/scratch.h"
#include "trail/entry.h"

namespace tenure::cli {
namespace {

const std::string kFolder = TENURE_SOURCE_DIR "/tests/golden/reader/";

struct Answer {
  int code = 0;
  std::string out;
  std::string err;
};

Answer run(const std::string& command_line) {
  ::setenv("TZ", "UTC", 1);
  std::istringstream words(command_line);
  std::vector<std::string> args{std::istream_iterator<std::string>(words), {}};
  for (std::string& arg : args) {
    if (arg == "HOST")
      arg = kFolder + "host.log";
  }
  const Parsed parsed = parse_options(args);
  EXPECT_TRUE(parsed.options) << parsed.text;
  static const std::map<std::string, int (*)(const Options&)> kCommands = {
      {"who", run_who},       {"history", run_history}, {"log", run_log},
      {"report", run_report}, {"denials", run_denials}, {"verify", run_verify},
      {"prove", run_prove}};
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  Answer answer;
  answer.code = kCommands.at(parsed.options->command)(*parsed.options);
  answer.out = ::testing::internal::GetCapturedStdout();
  answer.err = ::testing::internal::GetCapturedStderr();
  return answer;
}

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Case {
  const char* name;
  const char* command;
  int code;
};

class Golden : public ::testing::TestWithParam<Case> {};

TEST_P(Golden, IsPrintedAsBefore) {
  const Answer answer = run(GetParam().command);
  const std::string path = kFolder + GetParam().name + ".txt";
  if (std::getenv("TENURE_UPDATE") != nullptr)
    std::ofstream(path, std::ios::binary) << answer.out;
  EXPECT_EQ(answer.out, read(path));
  EXPECT_EQ(answer.code, GetParam().code) << answer.err;
}

INSTANTIATE_TEST_SUITE_P(
    Commands, Golden,
    ::testing::Values(Case{"history-table", "history --log HOST -N", 5},
                      Case{"history-short", "history --log HOST -N -o short", 5},
                      Case{"history-text", "history --log HOST -N -o text", 5},
                      Case{"history-csv", "history --log HOST -o csv", 5},
                      Case{"history-json", "history --log HOST -o json", 5},
                      Case{"history-raw", "history web-1 --log HOST -o raw --until @1751328800", 0},
                      Case{"runs-table", "history --runs --log HOST", 5},
                      Case{"runs-json", "history --runs --log HOST -o json", 5},
                      Case{"blind-spots", "history --blind-spots --log HOST", 5},
                      Case{"who-device", "who b 8:16 --log HOST -N --at @1751329000", 0},
                      Case{"who-mac", "who 52:54:00:00:00:01 --log HOST -N -o short", 5},
                      Case{"who-nobody", "who /dev/sdc --log HOST --until @1751329000", 1},
                      Case{"log-short", "log --log HOST -N", 5},
                      Case{"log-table", "log --log HOST -N -o table", 5},
                      Case{"log-text", "log --log HOST -N -o text", 5},
                      Case{"log-json", "log --log HOST -o json", 5},
                      Case{"log-csv", "log --log HOST -N -o csv", 5},
                      Case{"log-failed", "log --log HOST -N --result failed", 5},
                      Case{"log-last-reversed", "log --log HOST -N -n 3 -r", 5},
                      Case{"log-raw", "log --log HOST -o raw --guest 6fe7fc2a --kind disk", 5},
                      Case{"denials-table", "denials --log HOST -N", 5},
                      Case{"denials-json", "denials --log HOST -o json", 5},
                      Case{"report-guest", "report --log HOST", 5},
                      Case{"report-who", "report --log HOST --by who -N", 5},
                      Case{"report-day-json", "report --log HOST --by day -o json", 5},
                      Case{"report-resource", "report --log HOST --by resource", 5}),
    [](const auto& test) {
      std::string name = test.param.name;
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

TEST(ExitCodes, AreThoseOfTheTable) {
  EXPECT_EQ(run("history web-1 --log HOST --until @1751328800").code, 0);
  EXPECT_EQ(run("history nobody --log HOST").code, 4);
  EXPECT_EQ(run("history web --log HOST").code, 4);  // exact names
  EXPECT_EQ(run("history web* --glob --log HOST --until @1751328800").code, 0);
  EXPECT_EQ(run("history --log HOST --since @1751329110").code, 5);
  EXPECT_EQ(run("history --log HOST --since whenever").code, 2);
  EXPECT_EQ(run("history --log HOST --since now --at now").code, 2);
  EXPECT_EQ(run("log --log HOST --who no-such-user-here").code, 2);
  EXPECT_EQ(run("history --log /nowhere/at/all").code, 4);
  EXPECT_EQ(run("log --log /nowhere/at/all").code, 4);
  EXPECT_EQ(run("denials --log /nowhere/at/all").code, 4);
  EXPECT_EQ(run("log --log HOST --since 2030-01-01").code, 1);
}

TEST(ExitCodes, AFileThatIsNotThereIsFourOfVerifyAndProveToo) {
  const reader::Scratch scratch;
  const std::string dir = scratch.path("ledger");
  ASSERT_TRUE(
      ledger::Ledger::open({.dir = dir, .key_path = scratch.path("key"), .origin = "tenure/test"}));
  const std::string verify = "verify --key " + scratch.path("key.pub") + " --dir ";
  EXPECT_EQ(run(verify + dir + " --log HOST").code, 0);
  EXPECT_EQ(run(verify + "/nowhere/at/all").code, 4);
  EXPECT_EQ(run(verify + dir + " --log /nowhere/at/all").code, 4);
  EXPECT_EQ(run(verify + dir + " --proof /nowhere/at/all").code, 4);
  EXPECT_EQ(run("verify --key /nowhere/at/all --dir " + dir).code, 4);
  EXPECT_EQ(run("prove 5 --dir /nowhere/at/all").code, 4);
}

TEST(Notices, NameTheFolderThatWasAskedFor) {
  const reader::Scratch scratch;
  std::filesystem::create_directories(scratch.path("empty"));
  const Answer answer = run("log --log " + scratch.path("empty"));
  EXPECT_EQ(answer.code, 1);
  EXPECT_NE(answer.err.find("there is no log or ledger in " + scratch.path("empty")),
            std::string::npos)
      << answer.err;
}

TEST(Notices, NameTheGapOnceAndAreSilencedByQuiet) {
  EXPECT_NE(
      run("history --log HOST").err.find("auditing was switched off from 2025-07-01 00:18:20"),
      std::string::npos);
  EXPECT_EQ(run("history --log HOST -q").err, "");
}

TEST(Terminal, NoNameCanForgeALineOrMoveTheCursor) {
  for (const char* format : {"table", "short", "text"}) {
    for (const std::string command : {"history", "log"}) {
      const Answer answer = run(command + " --log HOST -o " + format);
      EXPECT_EQ(answer.out.find('\x1b'), std::string::npos);
      EXPECT_NE(answer.out.find("evil \\x1B[31m"), std::string::npos);
    }
  }
}

// Much is not logged at all: the answer is "not seen", never "not had", and the holes are named.
TEST(Corner24, WhatWasNotSeenIsNotSaidNotToHaveBeen) {
  const Answer nobody = run("who /dev/sdc --log HOST --until @1751329000");
  EXPECT_EQ(nobody.code, 1);
  EXPECT_EQ(nobody.out, "");
  EXPECT_NE(nobody.err.find("not seen in this trail"), std::string::npos);
  const std::string holes = run("history --blind-spots --log HOST").out;
  for (const char* hole :
       {"network disks", "rng", "interfaces", "pause and resume", "libvirtd is down"})
    EXPECT_NE(holes.find(hole), std::string::npos) << hole;
}

// The instance's own ledger, without daemon.
TEST(OwnLedger, IsTheDefaultBelowARoot) {
  const reader::Scratch scratch;
  const std::string state = scratch.path("var/lib/tenure");
  std::filesystem::create_directories(state);
  auto ledger = ledger::Ledger::open(
      {.dir = state + "/ledger", .key_path = state + "/key", .origin = "tenure/test"});
  ASSERT_TRUE(ledger) << ledger.error().what();
  const auto entry = [](trail::EntryState entry_state, uint16_t type, int64_t time_ms,
                        const std::string& body) {
    trail::Entry out;
    out.state = entry_state;
    out.type = type;
    out.time_ms = time_ms;
    out.body = body;
    return trail::encode_entry(out);
  };
  const std::string who =
      " req-auid=1002 req-ses=9 req-uid=1002 req-pid=7 req-exe=\"/bin/tenure\" req-tty=?";
  const std::string disk = "virt=kvm resrc=disk reason=start " + reader::vm() +
                           " old-disk=\"?\" new-disk=\"/a\" access=rw txn=t run=1" + who;
  using enum trail::EntryState;
  ASSERT_TRUE(
      (*ledger)->append({entry(Intent, trail::kVirtResource, 1000, disk),
                         entry(Unsent, trail::kVirtResource, 1001,
                               "virt=kvm resrc=disk reason=start " + reader::vm() +
                                   " old-disk=\"?\" new-disk=\"/a\" access=rw txn=t grant=0 run=1" +
                                   who + " res=success"),
                         entry(Unsent, trail::kVirtControl, 1002,
                               "virt=kvm op=start reason=booted " + reader::vm() +
                                   " vm-pid=5 run=1" + who + " res=success")}));
  const Answer answer = run("history web -o json --root " + scratch.path(""));
  EXPECT_EQ(answer.code, 0) << answer.err;
  const auto tenure = nlohmann::json::parse(answer.out);
  EXPECT_EQ(tenure["id"], "/a");
  EXPECT_EQ(tenure["from"]["ledger"], 1);
  EXPECT_EQ(tenure["requester"]["auid"], 1002);
  EXPECT_EQ(tenure["requester"]["tty"], nullptr);
  EXPECT_EQ(tenure["until"], nullptr);
  const Answer log = run("log -o json --root " + scratch.path(""));
  EXPECT_EQ(std::count(log.out.begin(), log.out.end(), '\n'), 2);  // an intent is no event
  const auto event = nlohmann::json::parse(log.out.substr(0, log.out.find('\n')));
  EXPECT_EQ(event["ledger"], 1) << "what `prove` takes; the intent before it is no event";
  EXPECT_EQ(event["requester"]["tty"], nullptr) << "there is no terminal: the trail says ?";
  EXPECT_EQ(run("history --root " + scratch.path("elsewhere")).code, 1);
}

TEST(Denials, KeepToTheRulesOfThePageForIdsAndBytes) {
  const reader::Scratch scratch;
  std::ofstream(scratch.path("log"))
      << "type=VIRT_RESOURCE msg=audit(1751340050.000:2003): pid=900 uid=0 auid=4294967295 "
         "ses=4294967295 msg='virt=kvm resrc=cgroup reason=denied "
      << reader::vm()
      << " cgroup=\"/c\" class=device path=\"/dev/ptmx\" rdev=05:02 acl=rw devtype=c by-pid=4321 "
         "by-comm=FF41 by-uid=0 by-auid=4294967295 first=1751340049001 last=1751340050000 count=3 "
         "run=1 exe=\"/usr/bin/tenured\" hostname=? addr=? terminal=? res=failed'\n";
  const Answer answer = run("denials -o json --log " + scratch.path("log"));
  EXPECT_EQ(answer.code, 0) << answer.err;
  const auto denial = nlohmann::json::parse(answer.out);
  EXPECT_EQ(denial["comm"], "%FFA");
  EXPECT_EQ(denial["auid"], nullptr);
  EXPECT_EQ(denial["uid"], 0);
  EXPECT_EQ(denial["first"], "1751340049.001");
  // A console or serial port of type pty needs it, and does not claim it.
  EXPECT_EQ(denial["would_allow"], "base_devices in tenure.conf");
}

std::vector<nlohmann::json> events(const std::string& filters) {
  std::istringstream lines(run("log --log HOST -o json " + filters).out);
  std::vector<nlohmann::json> out;
  for (std::string line; std::getline(lines, line);) out.push_back(nlohmann::json::parse(line));
  return out;
}

struct Filter {
  std::string option;
  std::function<bool(const nlohmann::json&)> holds;
};

// A filter for each value that the events have.
std::vector<Filter> filters_of(const std::vector<nlohmann::json>& all) {
  std::map<std::string, Filter> found;
  const auto add = [&](const std::string& option, auto holds) {
    found[option] = {option, std::move(holds)};
  };
  for (const nlohmann::json& event : all) {
    for (const char* key : {"kind", "result"}) {
      const nlohmann::json value = event[key];
      if (value.is_string() && (value != "1"))  // of CONFIG_CHANGE; the option takes the words
        add("--" + std::string(key) + " " + value.get<std::string>(),
            [key, value](const auto& e) { return e[key] == value; });
    }
    if (event["type"].is_string())
      add("--kind " + event["type"].get<std::string>(),
          [type = event["type"]](const auto& e) { return e["type"] == type; });
    if (event["uuid"].is_string())
      add("--guest " + event["uuid"].get<std::string>().substr(0, 8),
          [uuid = event["uuid"]](const auto& e) { return e["uuid"] == uuid; });
    if (event["guest"] == "web-1")
      add("--guest web-1", [](const auto& e) { return e["guest"] == "web-1"; });
    if (const auto id = event["id"]; id.is_string() && id.get<std::string>().front() == '/' &&
                                     id.get<std::string>().find(' ') == std::string::npos)
      add("--resource " + id.get<std::string>(),
          [id](const auto& e) { return e["id"] == id || e["old_id"] == id; });
    if (event["requester"].is_object())
      add("--who " + event["requester"]["auid"].dump(),
          [who = event["requester"]["auid"]](const auto& e) {
            return e["requester"].is_object() && e["requester"]["auid"] == who;
          });
  }
  std::vector<Filter> out;
  for (auto& [option, filter] : found) out.push_back(std::move(filter));
  return out;
}

// Each filter, and each two of them, gives its part of the whole, in its order.
TEST(LogFilters, GiveTheirPartOfTheWhole) {
  const std::vector<nlohmann::json> all = events("");
  const std::vector<Filter> filters = filters_of(all);
  ASSERT_GT(filters.size(), 15U);
  for (const Filter& one : filters) {
    for (const Filter& other : filters) {
      const auto name = [](const Filter& f) { return f.option.substr(0, f.option.find(' ')); };
      if (name(one) == name(other) && one.option != other.option)
        continue;  // an option that is given twice is another matter
      const std::string options =
          one.option == other.option ? one.option : one.option + " " + other.option;
      std::vector<nlohmann::json> expected;
      std::copy_if(all.begin(), all.end(), std::back_inserter(expected),
                   [&](const auto& event) { return one.holds(event) && other.holds(event); });
      EXPECT_EQ(events(options), expected) << options;
    }
  }
}

// Keys of the sections of tenure-json(5).
std::map<std::string, std::set<std::string>> documented() {
  std::map<std::string, std::set<std::string>> out;
  std::istringstream page(read(TENURE_SOURCE_DIR "/man/tenure-json.5"));
  std::string section;
  std::string line;
  std::string before;
  while (std::getline(page, line)) {
    if (line.starts_with(".SS "))
      section = line.substr(4);
    if (line.starts_with(".B ") && before == ".TP")
      out[section].insert(line.substr(3));
    before = line;
  }
  return out;
}

using Keys = std::map<std::string, std::set<std::string>>;

void note(Keys& keys, const std::string& section, const nlohmann::json& object) {
  for (const auto& [key, value] : object.items()) {
    keys[section].insert(key);
    if (!value.is_object())
      continue;
    if (key == "guess")
      note(keys, "Guess", value);
    else if (key.ends_with("requester"))
      note(keys, "Requester", value);
    else
      note(keys, "Position", value);
  }
}

void note_lines(Keys& keys, const std::string& section, const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    note(keys, section, nlohmann::json::parse(line));
}

TEST(JsonSchema, IsThatOfTheManPage) {
  const reader::Scratch scratch;
  // What host.log has not: a release by somebody, a record that is in the ledger alone.
  const std::string state = scratch.path("ledger");
  auto ledger = ledger::Ledger::open(
      {.dir = state, .key_path = scratch.path("key"), .origin = "tenure/test"});
  ASSERT_TRUE(ledger);
  const std::string keys_of_ours = " txn=t grant=0 run=1 req-auid=1 req-uid=1 res=success";
  std::vector<std::string> entries;
  for (const std::string& change : {"attach " + reader::vm() + " old-disk=\"?\" new-disk=\"/a\"",
                                    "detach " + reader::vm() + " old-disk=\"/a\" new-disk=\"?\""}) {
    trail::Entry entry;
    entry.state = trail::EntryState::Unsent;
    entry.type = trail::kVirtResource;
    entry.time_ms = 1000;
    entry.body = "virt=kvm resrc=disk reason=" + change + keys_of_ours;
    entries.push_back(trail::encode_entry(entry));
  }
  ASSERT_TRUE((*ledger)->append(entries));
  Keys printed;
  note_lines(printed, "Tenure", run("history -o json --log HOST --log " + state).out);
  note_lines(printed, "Run", run("history --runs -o json --log HOST").out);
  note_lines(printed, "Event", run("log -o json --log HOST --log " + state).out);
  note_lines(printed, "Denial", run("denials -o json --log HOST").out);
  note_lines(printed, "Line of a report", run("report -o json --log HOST").out);
  note_lines(printed, "Blind spot", run("history --blind-spots -o json --log HOST").out);
  EXPECT_EQ(printed, documented());
}

}  // namespace
}  // namespace tenure::cli
