// SPDX-License-Identifier: Apache-2.0
// Our decoder beside libauparse, an independent one: real lines of libvirt, our sample events, and
// lines with hostile values. Both must give the same fields with the same values, but for the
// differences that are named and explained here; each of those has to be met, or it is no
// difference any more.
#include <auparse.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "trail/decode.h"

namespace tenure::trail {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

struct Auparse {
  void operator()(auparse_state_t* state) const { auparse_destroy(state); }
};

// Decoded values of the fields of one line, as libauparse sees them.
Pairs theirs(const std::string& line) {
  std::string text = line + "\n";
  std::unique_ptr<auparse_state_t, Auparse> state(auparse_init(AUSOURCE_BUFFER, text.c_str()));
  Pairs pairs;
  if (!state || auparse_next_event(state.get()) <= 0)
    return pairs;
  auparse_set_escape_mode(state.get(), AUPARSE_ESC_RAW);  // as it is, not for a terminal
  auparse_first_record(state.get());
  auparse_first_field(state.get());
  bool head = true;  // node= and type= of the line; a body may have a type= as well
  do {
    std::string name = auparse_get_field_name(state.get());
    if (head && name == "node")
      continue;
    if (std::exchange(head, false))
      continue;
    const char* raw = auparse_get_field_str(state.get());
    bool escaped = auparse_get_field_type(state.get()) == AUPARSE_TYPE_ESCAPED ||
                   auparse_get_field_type(state.get()) == AUPARSE_TYPE_ESCAPED_FILE;
    const char* value = escaped ? auparse_interpret_field(state.get()) : raw;
    pairs.emplace_back(name, value == nullptr ? "" : value);
  } while (auparse_next_field(state.get()) > 0);
  return pairs;
}

// libauparse hands quoted values of fields that it does not know out with their quotes; which it
// knows is its own affair, so quotes at both ends are taken off on both sides.
std::string unquoted(std::string text) {
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"')
    text = text.substr(1, text.size() - 2);
  return text;
}

Pairs ours(const LineView& view) {
  Pairs pairs;
  for (std::string_view part : {view.outer, view.body}) {
    Fields fields(part);
    for (Field field; fields.next(field);) {
      bool text = encoding_of(field.key) == Encoding::Text;
      pairs.emplace_back(field.key, text ? decode_value(field) : std::string(field.raw));
    }
  }
  return pairs;
}

// Keys of ours that libauparse cannot know to be encoded: it hands their hex out as it is.
bool is_unknown_to_auparse(const std::string& key, const std::string& mine,
                           const std::string& other) {
  static const std::set<std::string> kLibvirts = [] {
    std::set<std::string> keys;
    for (const KindSpec& row : vocabulary())
      for (const KeySpec& one : row.keys)
        if (one.libvirt)
          keys.emplace(one.name);
    return keys;
  }();
  return !kLibvirts.contains(key) && encode_value(mine) == other;
}

struct Difference {
  std::string line;
  std::string key;
  std::string ours;
  std::string theirs;
};

void compare(const std::string& line, std::vector<Difference>& found) {
  auto view = decode_line(line);
  ASSERT_TRUE(view) << line;
  std::map<std::string, std::string> left;
  std::map<std::string, std::string> right;
  for (auto& [key, value] : ours(*view)) left.emplace(key, unquoted(value));
  for (auto& [key, value] : theirs(line)) right.emplace(key, unquoted(value));
  std::set<std::string> keys;
  for (auto& [key, value] : left) keys.insert(key);
  for (auto& [key, value] : right) keys.insert(key);
  auto value_of = [](auto& map, const std::string& key) {
    auto at = map.find(key);
    return at == map.end() ? std::string("(absent)") : at->second;
  };
  for (const std::string& key : keys)
    if (value_of(left, key) != value_of(right, key) &&
        !is_unknown_to_auparse(key, value_of(left, key), value_of(right, key)))
      found.push_back({line, key, value_of(left, key), value_of(right, key)});
}

std::string list(const std::vector<Difference>& found) {
  std::string text;
  for (const Difference& one : found)
    text +=
        fmt::format("{}: ours '{}' theirs '{}' in {}\n", one.key, one.ours, one.theirs, one.line);
  return text;
}

std::vector<std::string> lines_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

std::string disk_line(std::string_view name, std::string_view tail = "") {
  Record record(Kind::Disk);
  record.set("virt", "kvm").set("reason", "attach").set("vm", name).set("uuid", "u");
  record.set("old-disk", "?").set("new-disk", "/dev/sdb").set("txn", "1-1");
  return "type=VIRT_RESOURCE msg=audit(1795347817.519:9): pid=1 uid=0 auid=1000 ses=3 msg='" +
         encode(record).value() +
         " exe=\"/usr/bin/tenured\" hostname=? addr=? terminal=? res=success'" + std::string(tail);
}

TEST(Auparse, AgreesOnEveryLineThatLibvirtWrote) {
  std::filesystem::path folder = TENURE_SOURCE_DIR "/../shared/libvirt-logs";
  if (!std::filesystem::exists(folder))
    GTEST_SKIP() << "no logs of libvirt beside the sources";
  std::vector<Difference> found;
  size_t count = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    if (file.path().extension() != ".log")
      continue;
    for (const std::string& line : lines_of(file.path())) {
      compare(line, found);
      ++count;
    }
  }
  EXPECT_GT(count, 100U);
  EXPECT_EQ(list(found), "");
}

TEST(Auparse, AgreesOnEveryKindOfOurs) {
  std::vector<Difference> found;
  for (const std::string& line : lines_of(TENURE_SOURCE_DIR "/tests/golden/trail/samples.log"))
    compare(line, found);
  EXPECT_EQ(list(found), "");
}

TEST(Auparse, AgreesOnHostileNames) {
  std::vector<Difference> found;
  for (std::string_view name :
       {"o'brien", "q'res=failed", "xres=failed", "a b", "x\" vm=\"other", "a\nb", "vm=web-1",
        "\x1DUID=\"root\"", "caf\xC3\xA9", "CAFE", "4142", "?", "/a\\x2db"})
    for (std::string_view tail : {"", "\x1DUID=\"root\" AUID=\"alice\""})
      compare(disk_line(name, tail), found);
  EXPECT_EQ(list(found), "");
}

// Corner 14: it ends a path at the first blank, and takes what is in it for fields.
TEST(Auparse, CutsThePathsThatLibvirtDoesNotEncode) {
  std::vector<Difference> found;
  std::string line =
      "type=VIRT_RESOURCE msg=audit(1.000:1): pid=1 msg='virt=kvm resrc=shmem reason=attach vm=\"a\" "
      "uuid=u size=1 path=/dev/shm/my acl=rw exe=\"/x\" hostname=? addr=? terminal=? res=success'";
  compare(line, found);
  ASSERT_EQ(found.size(), 2U) << list(found);
  EXPECT_EQ(found[0].key, "acl");
  EXPECT_EQ(found[0].theirs, "rw");
  EXPECT_EQ(found[1].ours, "/dev/shm/my acl=rw");
  EXPECT_EQ(found[1].theirs, "/dev/shm/my");
}

// Corner 6: of two glued records it gives the first one's number with the second one's fields.
TEST(Auparse, MixesGluedRecords) {
  std::vector<Difference> found;
  std::string second = disk_line("web");
  compare("type=VIRT_RESOURCE msg=audit(1.000:1): pid=900 uid=0 auid=429" + second, found);
  std::set<std::string> keys;
  for (const Difference& one : found) keys.insert(one.key);
  EXPECT_TRUE(keys.contains("vm")) << list(found);
}

// Corner 12: an odd number of letters that look like hex are no hex.
TEST(Auparse, MakesRubbishOfBareNamesOfOthers) {
  std::vector<Difference> found;
  compare("type=VIRT_CONTROL msg=audit(1.000:1): pid=1 msg='op=start vm=abc res=success'", found);
  ASSERT_EQ(found.size(), 1U) << list(found);
  EXPECT_EQ(found[0].ours, "abc");
}

}  // namespace
}  // namespace tenure::trail
