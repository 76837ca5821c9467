// SPDX-License-Identifier: Apache-2.0
// decode(encode(r)) is r, for every kind and whatever the values hold; and no line of any bytes
// gets the decoder out of its bounds.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/property/trail/hostile.h"
#include "trail/decode.h"

namespace tenure::trail {
namespace {

// As libaudit completes the text and the kernel frames it.
std::string audit_line(const Record& record, std::string_view body) {
  return "type=" + std::string(type_name(spec(record.kind).type)) +
         " msg=audit(1751328000.250:424): pid=900 uid=0 auid=1000 ses=3 msg='" + std::string(body) +
         " exe=\"/usr/bin/tenured\" hostname=? addr=? terminal=? res=" +
         (record.success ? "success" : "failed") + "'";
}

// A value of bare words can make a record of one kind look like that of another; those the table
// itself tells apart by such a word are left out.
bool is_told_apart(const Record& record) {
  auto word = [&](std::string_view key) { return record.get(key).value_or(""); };
  return kind_of(spec(record.kind).type, word) == record.kind;
}

void check_round_trip(const Record& record, std::string_view tail) {
  auto body = encode(record);
  RC_ASSERT(body.has_value());
  std::string line = audit_line(record, *body) + std::string(tail);
  auto view = decode_line(line);
  RC_ASSERT(view.has_value());
  RC_ASSERT(view->glued_at == 0U);
  RC_ASSERT(!view->truncated);
  auto again = decode_record(*view);
  RC_ASSERT(again.has_value());
  RC_ASSERT(again->kind == record.kind);
  RC_ASSERT(again->success == record.success);
  auto sorted = [](Record one) {
    std::ranges::sort(one.fields);
    return one.fields;
  };
  RC_ASSERT(sorted(*again) == sorted(record));
}

TEST(Record, DecodesToWhatWasEncodedForEveryKind) {
  for (const KindSpec& row : vocabulary()) {
    bool holds = rc::check(std::string(row.name), [&] {
      Record record = arbitrary_record(row.kind);
      auto body = encode(record);
      RC_PRE(body.has_value() && is_told_apart(record));  // else too long
      check_round_trip(record, *rc::gen::element("", "\x1DUID=\"root\" AUID=\"alice\""));
    });
    EXPECT_TRUE(holds) << row.name;
  }
}

TEST(Record, TheFieldsOfALineAreThoseThatWereSet) {
  EXPECT_TRUE(rc::check("no value adds, hides or changes a field", [] {
    Kind kind = static_cast<Kind>(*rc::gen::inRange<size_t>(0, kKindCount));
    Record record = arbitrary_record(kind);
    auto body = encode(record);
    RC_PRE(body.has_value());
    size_t expected = record.fields.size();
    for (const KeySpec& key : spec(kind).keys) expected += key.fixed.empty() ? 0U : 1U;
    size_t count = 0;
    Fields fields(*body);
    for (Field field; fields.next(field); ++count) RC_ASSERT(!field.key.empty());
    RC_ASSERT(count == expected);
  }));
}

RC_GTEST_PROP(Entry, DecodesToWhatWasEncoded, ()) {
  Entry entry;
  entry.state = static_cast<EntryState>(*rc::gen::inRange(0, 5));
  entry.type =
      *rc::gen::oneOf(rc::gen::inRange<uint16_t>(2500, 2510), rc::gen::arbitrary<uint16_t>());
  entry.time_ms = *rc::gen::inRange<int64_t>(0, int64_t{1} << 45);
  entry.serial = *rc::gen::arbitrary<uint64_t>();
  entry.pid = *rc::gen::arbitrary<int32_t>();
  entry.uid = *rc::gen::arbitrary<uint32_t>();
  entry.auid = *rc::gen::arbitrary<uint32_t>();
  entry.ses = *rc::gen::arbitrary<uint32_t>();
  entry.body = *hostile_text();
  std::string line = encode_entry(entry);
  auto again = decode_entry(line);
  RC_ASSERT(again.has_value());
  RC_ASSERT(encode_entry(*again) == line);
  RC_ASSERT(again->body == entry.body);
  RC_ASSERT(again->serial == entry.serial);
  RC_ASSERT(again->time_ms == entry.time_ms);
  RC_ASSERT(again->type == entry.type);
  RC_ASSERT(again->pid == entry.pid);
}

// One byte changed, taken out or doubled: either another entry or an error, never the same text
// twice.
RC_GTEST_PROP(Entry, NoTwoLinesAreTheSameEntry, ()) {
  std::string line = encode_entry({.state = EntryState::Confirmed,
                                   .type = kVirtResource,
                                   .time_ms = 1795347817519,
                                   .serial = 9826,
                                   .pid = 22730,
                                   .body = "virt=kvm resrc=disk vm=\"o'brien\" res=success"});
  std::string other = line;
  auto at = *rc::gen::inRange<size_t>(0, line.size());
  switch (*rc::gen::inRange(0, 3)) {
    case 0:
      other[at] = *rc::gen::arbitrary<char>();
      break;
    case 1:
      other.erase(at, 1);
      break;
    default:
      other.insert(at, 1, *rc::gen::arbitrary<char>());
  }
  auto entry = decode_entry(other);
  if (entry)
    RC_ASSERT(encode_entry(*entry) == other);
}

RC_GTEST_PROP(Line, AnyBytesAreDecodedWithinBounds, ()) {
  std::string line = *rc::gen::oneOf(
      rc::gen::arbitrary<std::string>(), rc::gen::map(hostile_text(), [](const std::string& text) {
        return "type=VIRT_CONTROL msg=audit(1.000:1): pid=1 msg='op=start vm=" + text + "'";
      }));
  auto view = decode_line(line);
  if (!view) {
    RC_ASSERT(view.error().offset <= line.size());
    RC_ASSERT(view.error().resume < line.size() || line.empty());
    return;
  }
  RC_ASSERT(view->glued_at < line.size());
  FieldSet fields;
  fields.collect(*view);
  size_t length = 0;
  Fields each(view->body);
  for (Field field; each.next(field);) length += field.key.size() + field.raw.size();
  RC_ASSERT(length <= view->body.size());
}

// Spaces in names are the rule with libvirt's unencoded paths: all of it is the path.
RC_GTEST_PROP(Line, AnUnencodedPathIsDataUpToLibauditsOwnFields, ()) {
  std::string path = "/dev/shm/" + *hostile_text();
  RC_PRE(path.find_first_of("\x1D\n\r('") == path.npos);
  std::string line =
      "type=VIRT_RESOURCE msg=audit(1.000:1): pid=1 msg='virt=kvm resrc=shmem "
      "reason=attach vm=\"a\" uuid=u size=1 path=" +
      path + " exe=\"/usr/sbin/libvirtd\" hostname=? addr=? terminal=? res=success'";
  auto view = decode_line(line);
  RC_ASSERT(view.has_value());
  FieldSet fields;
  fields.collect(*view);
  RC_ASSERT(fields.raw(Key::Path) == path);
  RC_ASSERT(fields.raw(Key::Vm) == "a");
  RC_ASSERT(fields.raw(Key::Res) == "success");
}

}  // namespace
}  // namespace tenure::trail
