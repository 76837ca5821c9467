// SPDX-License-Identifier: Apache-2.0
// docs/records.md is written from the vocabulary table and the sample events of samples.log;
// tools/gen-records writes it anew (TENURE_UPDATE=1). Drift of either fails here.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "trail/decode.h"

namespace tenure::trail {
namespace {

const std::string kFolder = TENURE_SOURCE_DIR "/tests/golden/trail/";
const std::string kDocument = TENURE_SOURCE_DIR "/docs/records.md";

constexpr std::string_view kIntroduction = R"(# Records of the trail

<!-- Generated from src/trail/vocabulary.cc and tests/golden/trail/samples.log by tools/gen-records. -->

Every record is one line in the Linux audit grammar; the same text goes to the kernel's audit system and
into the ledger. A record of a kind that libvirt has as well is a superset of libvirt's: same type, same
keys, same order, our keys after them. The keys below stand in the order of the text.

How values are written:

- **word**: bare letters, digits and `-._:/+*,`, or `?` for none. Nothing else is accepted.
- **number**: unsigned decimal.
- **text**: what anyone outside can influence, in audit's own encoding: `"quoted"`, or upper-case hex
  without quotes if a byte is `"`, `'`, `=`, a blank, a control character or not ASCII. Libaudit quotes
  `'` and `=`; we do not, since `ausearch` searches for `res=` with strstr(3), so that a guest named
  `xres=failed` would make it show a success as a failure. Every audit reader decodes both forms.

Behind our keys libaudit appends `exe= hostname= addr= terminal= res=success|failed`, and in front of
`msg='` the kernel puts `pid= uid= auid= ses=` of the sender, tenured. Who asked is in the `req-` keys.

In the ledger a line begins its fields with `state=`: `intent` (about to be tried, no `res=`), `void`
(ends an intent that came to nothing), `confirmed` (the kernel emitted the record, with this time and
serial), `unconfirmed` and `unsent` (it stands in the ledger alone; serial 0). `grant=` of a result and
of a release is the index of the intent's entry.
)";

std::map<Kind, std::string> samples() {
  std::map<Kind, std::string> by_kind;
  std::ifstream file(kFolder + "samples.log");
  for (std::string line; std::getline(file, line);) {
    auto view = decode_line(line);
    EXPECT_TRUE(view) << line;
    if (!view)
      continue;
    auto record = decode_record(*view);
    EXPECT_TRUE(record) << record.error().what();
    if (record)
      by_kind.emplace(record->kind, line);
  }
  return by_kind;
}

std::string_view word_of(Encoding encoding) {
  constexpr std::string_view kWords[] = {"word", "text", "number"};
  return kWords[static_cast<size_t>(encoding)];
}

void append_key(std::string& out, const KeySpec& key) {
  std::string value = key.fixed.empty() ? std::string(word_of(key.encoding))
                                        : fmt::format("always `{}`", key.fixed);
  out += fmt::format("| `{}` | {} | {} | {} | {} |\n", key.name, value,
                     key.need == Need::Always ? "always" : "", key.libvirt ? "libvirt" : "ours",
                     key.meaning);
}

bool is_common(std::string_view key) {
  // The keys that every kind ends with; Gap has no others of them before its own end.
  std::string_view first = "txn";
  const KindSpec& row = spec(Kind::Vcpu);
  bool common = false;
  for (const KeySpec& one : row.keys) {
    common = common || one.name == first;
    if (common && one.name == key)
      return true;
  }
  return false;
}

constexpr std::string_view kHead =
    "| key | value | present | whose | meaning |\n|---|---|---|---|---|\n";

std::string document() {
  std::string out(kIntroduction);
  out += "\n## Common keys\n\nAt the end of every kind, each where it applies.\n\n";
  out += kHead;
  for (const KeySpec& key : spec(Kind::Vcpu).keys)
    if (is_common(key.name))
      append_key(out, key);
  std::map<Kind, std::string> lines = samples();
  for (const KindSpec& row : vocabulary()) {
    out += fmt::format("\n## {}\n\n{} ({}): {}.\n\n", row.name, type_name(row.type), row.type,
                       row.meaning);
    out += kHead;
    for (const KeySpec& key : row.keys)
      if (!is_common(key.name))
        append_key(out, key);
    out += fmt::format("\n```\n{}\n```\n", lines[row.kind]);
  }
  return out;
}

std::string contents_of(const std::string& path) {
  std::ifstream file(path);
  return (std::ostringstream() << file.rdbuf()).str();
}

TEST(RecordsDocument, SaysWhatTheTableSays) {
  if (std::getenv("TENURE_UPDATE") != nullptr)
    std::ofstream(kDocument) << document();
  EXPECT_EQ(contents_of(kDocument), document()) << "run tools/gen-records";
}

TEST(Samples, ThereIsOneOfEveryKindAndItIsWhatEncodeWrites) {
  std::map<Kind, std::string> lines = samples();
  for (const KindSpec& row : vocabulary()) {
    ASSERT_TRUE(lines.contains(row.kind)) << "no sample of " << row.name;
    LineView view = decode_line(lines[row.kind]).value();
    std::string body = encode(decode_record(view).value()).value();
    EXPECT_TRUE(view.body.starts_with(body + " exe=")) << body << "\n" << view.body;
  }
}

}  // namespace
}  // namespace tenure::trail
