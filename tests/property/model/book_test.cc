// SPDX-License-Identifier: Apache-2.0
// The laws of the tenure book, on arbitrary streams of records: of several guests on several hosts,
// libvirt's and ours mixed, with crashes, lost records and nonsense.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <set>

#include "model/json.h"
#include "model/tenure_book.h"
#include "trail/decode.h"

namespace tenure::model {
namespace {

using rc::gen::element;
using Stream = std::vector<std::string>;

// Builds one line after another; serials rise, but for a crash.
class Writer {
 public:
  explicit Writer(std::string node) : node_(std::move(node)) {}

  std::string next() {
    second_ += *rc::gen::inRange(0, 3);
    ++serial_;
    std::string who = " vm=\"g" + *element<std::string>("1", "2") + "\" uuid=0000000" +
                      *element<std::string>("1", "2") + "-0000-0000-0000-000000000000 ";
    switch (*rc::gen::inRange(0, 12)) {
      case 0:
        return line("VIRT_MACHINE_ID", "virt=kvm" + who + "vm-ctx=a img-ctx=b model=dac");
      case 1:
        return line("VIRT_CONTROL", "virt=kvm op=start reason=booted" + who + "vm-pid=1");
      case 2:
        return line("VIRT_CONTROL", "virt=kvm op=stop reason=shutdown" + who + "vm-pid=0");
      case 3:
        return crash();
      case 4:
        return pair(who, "mem", *element<std::string>("0", "512", "1024"),
                    *element<std::string>("0", "512", "1024"));
      case 5:
        return rule(who);
      case 6:
        return ours(who);
      default:
        return pair(who, *element<std::string>("disk", "net", "rng"),
                    *element<std::string>("\"?\"", "\"/a\"", "\"/b\""),
                    *element<std::string>("\"?\"", "\"/a\"", "\"/b\""));
    }
  }

 private:
  std::string line(std::string_view type, std::string body) {
    body += " exe=\"/x\" hostname=? addr=? terminal=? res=";
    body += *element<std::string>("success", "success", "success", "failed");
    return raw(type, "pid=1 msg='" + body + "'");
  }
  std::string raw(std::string_view type, const std::string& text) {
    return "node=" + node_ + " type=" + std::string(type) + " msg=audit(" +
           std::to_string(second_) + ".000:" + std::to_string(serial_) + "): " + text;
  }
  std::string pair(const std::string& who, const std::string& kind, const std::string& from,
                   const std::string& to) {
    std::string reason = *element<std::string>("start", "attach", "detach", "update");
    return line("VIRT_RESOURCE", "virt=kvm resrc=" + kind + " reason=" + reason + who + "old-" +
                                     kind + "=" + from + " new-" + kind + "=" + to);
  }
  std::string rule(const std::string& who) {
    std::string which = *element<std::string>("class=all", "class=major category=pty maj=88 acl=rw",
                                              "class=path path=\"/a\" rdev=08:10 acl=rw",
                                              "class=path path=\"/b\" rdev=08:10 acl=r");
    return line("VIRT_RESOURCE",
                "virt=kvm resrc=cgroup reason=" + *element<std::string>("allow", "deny") + who +
                    "cgroup=\"/c\" " + which);
  }
  std::string ours(const std::string& who) {
    std::string grant = *element<std::string>("1", "2", "3");
    return line("VIRT_RESOURCE",
                "virt=kvm resrc=acl reason=" + *element<std::string>("allow", "deny", "recovered") +
                    who + "path=\"/i\" acl=rw acl-uid=1 grant=" + grant +
                    " run=" + *element<std::string>("1", "2"));
  }
  std::string crash() {
    second_ += 100;
    serial_ = 1;
    return raw("SYSTEM_BOOT", "pid=1");
  }

  std::string node_;
  int64_t second_ = 1000;
  uint64_t serial_ = 0;
};

Stream stream_of(const std::string& node) {
  Writer writer(node);
  Stream stream;
  for (int left = *rc::gen::inRange(0, 60); left > 0; --left) stream.push_back(writer.next());
  return stream;
}

void feed(TenureBook& book, const Stream& stream, uint64_t& order) {
  for (const std::string& line : stream) {
    auto view = trail::decode_line(line);
    RC_ASSERT(view.has_value());
    book.apply(*view, order++);
  }
}

TenureBook book_of(const Stream& stream) {
  TenureBook book;
  uint64_t order = 0;
  feed(book, stream, order);
  return book;
}

// All that a book says, in an order that does not depend on how it was put together.
std::multiset<std::string> said(TenureBook& book) {
  std::multiset<std::string> lines;
  for (const Tenure& tenure : book.tenures()) {
    std::string line;
    append_json_line(line, tenure, book.run_of(tenure));
    lines.insert(line);
  }
  for (const Run& run : book.runs()) {
    std::string line;
    append_json_line(line, run);
    lines.insert(line);
  }
  return lines;
}

RC_GTEST_PROP(Book, ClosesAfterOpening, ()) {
  TenureBook book = book_of(stream_of("h1"));
  for (const Tenure& tenure : book.tenures()) {
    RC_ASSERT(tenure.from || tenure.until);
    RC_ASSERT(tenure.from.has_value() == (tenure.certainty != Certainty::UnknownStart));
    RC_ASSERT(tenure.open() == (tenure.certainty == Certainty::Open));
    RC_ASSERT(tenure.open() == tenure.until_reason.empty());
    if (tenure.from && tenure.until)
      RC_ASSERT(tenure.from->order < tenure.until->order);
    if (tenure.until_after)
      RC_ASSERT(tenure.until_after->order < tenure.until->order);
  }
}

RC_GTEST_PROP(Book, NoTwoTenuresOfOneGrantOverlap, ()) {
  TenureBook book = book_of(stream_of("h1"));
  std::map<std::tuple<std::string_view, std::string_view, uint64_t>, uint64_t> held_until;
  for (const Tenure& tenure : book.tenures()) {
    if (!tenure.grant || !tenure.from)
      continue;
    uint64_t& until = held_until[{tenure.uuid, tenure.kind, *tenure.grant}];
    RC_ASSERT(tenure.from->order >= until);
    until = tenure.until ? tenure.until->order : UINT64_MAX;
  }
}

RC_GTEST_PROP(Book, ARunHasOneValueOfMemoryAtATime, ()) {
  TenureBook book = book_of(stream_of("h1"));
  std::map<uint32_t, uint64_t> held_until;
  for (const Tenure& tenure : book.tenures()) {
    if (tenure.kind.view() != "mem" || !tenure.from)
      continue;
    uint64_t& until = held_until[tenure.run];
    RC_ASSERT(tenure.from->order >= until);
    until = tenure.until ? tenure.until->order : UINT64_MAX;
  }
}

RC_GTEST_PROP(Book, NothingIsHeldAfterItsRunButByTheLedger, ()) {
  TenureBook book = book_of(stream_of("h1"));
  std::map<std::string_view, int> open_runs;
  for (const Run& run : book.runs()) open_runs[run.uuid] += run.open() ? 1 : 0;
  for (const auto& [uuid, count] : open_runs) RC_ASSERT(count <= 1);
  for (const Tenure& tenure : book.tenures()) {
    const Run& run = book.run_of(tenure);
    RC_ASSERT(run.uuid == tenure.uuid);
    // A record of ours may name a run that is over: what it grants is then its own release's to
    // end.
    if (!tenure.grant && !run.open())
      RC_ASSERT(!tenure.open());
  }
}

RC_GTEST_PROP(Book, ReplayingIsTheSameAsLive, ()) {
  Stream stream = stream_of("h1");
  TenureBook live;
  uint64_t order = 0;
  for (const std::string& line : stream) {
    feed(live, {line}, order);
    if (*rc::gen::arbitrary<bool>())
      live.tenures();  // looking does not change it
  }
  TenureBook replayed = book_of(stream);
  RC_ASSERT(said(live) == said(replayed));
  for (std::string_view uuid : {"00000001-0000-0000-0000-000000000000"}) {
    size_t open = 0;
    for (const Tenure& tenure : replayed.tenures())
      open += tenure.open() && tenure.uuid.view() == uuid ? 1U : 0U;
    RC_ASSERT(live.open_tenures(uuid, "h1").size() == open);
  }
}

RC_GTEST_PROP(Book, MergeIsAssociativeAndKeepsEverything, ()) {
  Stream a = stream_of("h1");
  Stream b = stream_of("h2");
  Stream c = stream_of("h3");
  TenureBook left = book_of(a);
  RC_ASSERT(left.absorb(book_of(b)).has_value());
  RC_ASSERT(left.absorb(book_of(c)).has_value());
  TenureBook tail = book_of(b);
  RC_ASSERT(tail.absorb(book_of(c)).has_value());
  TenureBook right = book_of(a);
  RC_ASSERT(right.absorb(std::move(tail)).has_value());
  std::multiset<std::string> merged = said(left);
  RC_ASSERT(merged == said(right));
  std::multiset<std::string> parts;
  for (const Stream* stream : {&a, &b, &c}) {
    TenureBook one = book_of(*stream);
    parts.merge(said(one));
  }
  RC_ASSERT(merged == parts);
}

// Hosts are independent: how their records are interleaved does not matter.
RC_GTEST_PROP(Book, RecordsOfOtherHostsChangeNothing, ()) {
  Stream a = stream_of("h1");
  Stream b = stream_of("h2");
  TenureBook mixed;
  uint64_t order = 0;
  size_t i = 0;
  size_t j = 0;
  while (i < a.size() || j < b.size()) {
    bool first = j == b.size() || (i < a.size() && *rc::gen::arbitrary<bool>());
    feed(mixed, {first ? a[i++] : b[j++]}, order);
  }
  TenureBook apart = book_of(a);
  RC_ASSERT(apart.absorb(book_of(b)).has_value());
  RC_ASSERT(said(mixed) == said(apart));
}

}  // namespace
}  // namespace tenure::model
