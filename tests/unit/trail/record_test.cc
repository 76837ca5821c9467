// SPDX-License-Identifier: Apache-2.0
// The encoder: libvirt's keys in libvirt's order, fixed words from the table, hostile values as
// data.
#include "trail/record.h"

#include <gtest/gtest.h>

#include <map>

namespace tenure::trail {
namespace {

constexpr std::string_view kRecordUuid = "6fe7fc2a-cc7c-4d6c-bb44-e1c7d275e875";

Record disk() {
  Record record(Kind::Disk);
  record.set("virt", "kvm").set("reason", "start").set("vm", "anchor").set("uuid", kRecordUuid);
  record.set("old-disk", "?").set("new-disk", "/dev/loop0");
  return record;
}

TEST(Encode, WritesLibvirtsKeysInLibvirtsOrderAndOursAfterThem) {
  Record record = disk();
  record.set("grant", 7).set("txn", "42-7").set("device", "virtio-disk0").set("dev", "vda");
  record.set("access", "rw").set("depth", 0);
  EXPECT_EQ(encode(record).value(),
            "virt=kvm resrc=disk reason=start vm=\"anchor\" "
            "uuid=6fe7fc2a-cc7c-4d6c-bb44-e1c7d275e875 old-disk=\"?\" new-disk=\"/dev/loop0\" "
            "dev=\"vda\" access=rw depth=0 device=\"virtio-disk0\" txn=42-7 grant=7");
}

TEST(Encode, OrderOfSetDoesNotMatter) {
  Record other(Kind::Disk);
  other.set("new-disk", "/dev/loop0")
      .set("old-disk", "?")
      .set("uuid", kRecordUuid)
      .set("vm", "anchor");
  other.set("reason", "start").set("virt", "kvm");
  EXPECT_EQ(encode(other).value(), encode(disk()).value());
}

TEST(Encode, SetReplacesAndGetReadsBack) {
  Record record = disk();
  record.set("reason", "attach");
  EXPECT_EQ(record.get("reason"), "attach");
  EXPECT_EQ(record.get("resrc"), "disk");
  EXPECT_EQ(record.get("bridge"), std::nullopt);
  EXPECT_EQ(record.fields.size(), 6U);
}

TEST(Encode, RefusesAKeyThatTheKindHasNot) {
  auto text = encode(disk().set("bridge", "br0"));
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code(), Errc::Invalid);
  EXPECT_EQ(text.error().what(), "encode disk record: bridge: no such key");
}

TEST(Encode, RefusesARecordWithoutAMandatoryKey) {
  Record record(Kind::Vcpu);
  record.set("virt", "kvm").set("reason", "start").set("vm", "a").set("uuid", kRecordUuid);
  record.set("old-vcpu", 0);
  EXPECT_EQ(encode(record).error().what(), "encode vcpu record: new-vcpu: is missing");
}

TEST(Encode, RefusesAWordThatCouldForgeAField) {
  EXPECT_EQ(encode(disk().set("reason", "start res=failed")).error().what(),
            "encode disk record: reason: 'start res=failed' is no bare word");
  EXPECT_FALSE(encode(disk().set("access", "")));
  EXPECT_FALSE(encode(disk().set("reason", "a\nb")));
  EXPECT_FALSE(encode(disk().set("depth", "-1")));
  EXPECT_FALSE(encode(disk().set("depth", "0x1")));
  EXPECT_TRUE(encode(disk().set("rdev", "?")));
  EXPECT_FALSE(encode(disk().set("rdev", "??")));
}

TEST(Encode, RefusesAnotherWordWhereTheTableHasOne) {
  EXPECT_EQ(encode(disk().set("resrc", "net")).error().what(),
            "encode disk record: resrc: is always disk");
}

TEST(Encode, RefusesTextThatAuditWouldNotTake) {
  auto text = encode(disk().set("new-disk", std::string(kMaxMessage, 'a')));
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code(), Errc::Invalid);
}

TEST(Encode, RequesterComesLast) {
  Record record = disk();
  set_requester(
      record,
      {.auid = 1000, .ses = 3, .uid = 0, .pid = 77, .exe = "/usr/bin/tenure", .tty = "pts/3"});
  EXPECT_TRUE(encode(record).value().ends_with(
      " req-auid=1000 req-ses=3 req-uid=0 req-pid=77 req-exe=\"/usr/bin/tenure\" "
      "req-tty=\"pts/3\""));
}

TEST(EncodeValue, QuotesWhatIsHarmlessAndHexesTheRest) {
  EXPECT_EQ(encode_value(""), "\"\"");
  EXPECT_EQ(encode_value("?"), "\"?\"");
  EXPECT_EQ(encode_value("web-1"), "\"web-1\"");
  EXPECT_EQ(encode_value("/a\\b"), "\"/a\\b\"");
  EXPECT_EQ(encode_value("a b"), "612062");
  EXPECT_EQ(encode_value("a\"b"), "612262");
  EXPECT_EQ(encode_value("é"), "C3A9");
  EXPECT_EQ(encode_value("\x7f"), "7F");
  EXPECT_EQ(encode_value(std::string_view("\0", 1)), "00");
}

// ausearch finds res= by strstr: what libaudit would quote must not be taken for the result.
TEST(EncodeValue, LeavesNothingThatAReaderWithStrstrTakesForAField) {
  EXPECT_EQ(encode_value("q'res=failed"), "71277265733D6661696C6564");
  EXPECT_EQ(encode_value("xres=failed"), "787265733D6661696C6564");
  EXPECT_EQ(encode_value("o'brien"), "6F27627269656E");
}

TEST(Vocabulary, NamesAreUniqueAndEveryKeyHasOneEncoding) {
  std::map<std::string_view, Kind> names;
  std::map<std::string_view, Encoding> encodings;
  for (const KindSpec& row : vocabulary()) {
    EXPECT_TRUE(names.emplace(row.name, row.kind).second) << row.name;
    EXPECT_FALSE(row.meaning.empty());
    EXPECT_EQ(&spec(row.kind), &row);
    std::map<std::string_view, int> seen;
    for (const KeySpec& key : row.keys) {
      EXPECT_EQ(++seen[key.name], 1) << row.name << ' ' << key.name;
      EXPECT_FALSE(key.meaning.empty()) << key.name;
      EXPECT_EQ(encodings.emplace(key.name, key.encoding).first->second, key.encoding) << key.name;
    }
  }
  EXPECT_EQ(names.size(), kKindCount);
}

// A reader of libvirt's records must find its keys before any of ours.
TEST(Vocabulary, LibvirtsKeysComeFirst) {
  for (const KindSpec& row : vocabulary()) {
    if (row.kind >= Kind::File && row.kind <= Kind::CgroupGroup)
      continue;
    if (row.kind == Kind::Denial || row.kind == Kind::Drift || row.type == kVirtIntegrityCheck ||
        row.kind >= Kind::Policy || row.type == kVirtCreate || row.type == kVirtDestroy)
      continue;  // kinds that libvirt has not
    bool was_ours = false;
    for (const KeySpec& key : row.keys) {
      EXPECT_FALSE(key.libvirt && was_ours) << row.name << ' ' << key.name;
      was_ours = !key.libvirt;
    }
  }
}

TEST(Vocabulary, KindOfFindsTheRowByTypeAndFixedWords) {
  auto lookup = [](std::map<std::string_view, std::string_view> words) {
    return [words = std::move(words)](std::string_view key) {
      auto at = words.find(key);
      return at == words.end() ? std::string_view() : at->second;
    };
  };
  EXPECT_EQ(kind_of(kVirtResource, lookup({{"resrc", "disk"}})), Kind::Disk);
  EXPECT_EQ(kind_of(kVirtResource, lookup({{"resrc", "net"}})), Kind::Net);
  EXPECT_EQ(kind_of(kVirtResource, lookup({{"resrc", "net"}, {"net", "52:54:00:00:00:01"}})),
            Kind::NetOpen);
  EXPECT_EQ(kind_of(kVirtResource, lookup({{"resrc", "cgroup"}, {"class", "all"}})),
            Kind::CgroupAll);
  EXPECT_EQ(kind_of(kVirtControl, lookup({{"op", "start"}, {"reason", "booted"}})), Kind::Control);
  EXPECT_EQ(kind_of(kVirtControl, lookup({{"op", "start"}, {"reason", "refused"}})), Kind::Refusal);
  EXPECT_EQ(kind_of(kVirtControl, lookup({{"op", "policy"}})), Kind::Policy);
  EXPECT_EQ(kind_of(kVirtResource, lookup({{"resrc", "flux-capacitor"}})), std::nullopt);
}

}  // namespace
}  // namespace tenure::trail
