// SPDX-License-Identifier: Apache-2.0
// The scan loads 32 or 64 bytes at a time, the decoder 16: none of them may touch a byte behind the
// text, of whatever length it is and whatever it ends with. And where a stream cuts its text into
// pieces makes no difference.
#include "tests/unit/reader/page_end.h"

#include <fcntl.h>

#include <string>
#include <thread>
#include <vector>

#include "reader/byte_stream.h"
#include "reader/scan.h"
#include "tests/unit/reader/scratch.h"
#include "trail/decode.h"

namespace tenure::reader {
namespace {

using Found = std::vector<std::pair<uint32_t, uint32_t>>;

Found spans_by(const ScanPath& path, std::string_view block) {
  ScanResult result;
  path.scan(block, result);
  Found spans;
  for (const LineSpan& span : result.lines) spans.emplace_back(span.offset, span.size);
  return spans;
}

// Every length up to a few steps of the widest path, ending in each beginning of what is looked
// for.
TEST(PageEnd, NoScanReadsBehindItsBlock) {
  PageEnd page(4096);
  const std::string words[] = {"type=VIRT_CONTROL", "pe=pe=pe=pe=",       "VIRVIRVIRVIR",
                               "VpVpRR==",          "type=SYSTEM_BOOT\n", "\n\n"};
  for (const std::string& word : words) {
    for (size_t size = 0; size <= 3 * 64 + 10; ++size) {
      for (size_t cut = 0; cut <= word.size(); ++cut) {
        std::string text(size, 'x');
        text += word.substr(0, cut);
        const std::string_view block = page.put(text);
        const Found portable = spans_by(scan_paths().back(), block);
        for (const ScanPath& path : scan_paths())
          ASSERT_EQ(spans_by(path, block), portable) << path.name << ": " << text;
      }
    }
  }
}

// A block of nothing but what candidates look like: each position is looked at.
TEST(PageEnd, NoCandidateReadsBehindItsBlock) {
  PageEnd page(4096);
  for (const char* pair : {"p=", "VR", "ppp===", "VVVRRR", "type=VIR", "pe=V"}) {
    for (size_t size = 0; size <= 200; ++size) {
      std::string text;
      while (text.size() < size) text += pair;
      text.resize(size);
      for (const ScanPath& path : scan_paths()) spans_by(path, page.put(text));
    }
  }
}

TEST(PageEnd, NoDecoderReadsBehindItsLine) {
  PageEnd page(8192);
  const std::string line = disk(1, 1, "attach", "/a", "/b");
  const std::string bodies[] = {
      line.substr(0, line.size() - 1),
      "type=VIRT_RESOURCE msg=audit(1.000:1): pid=1 msg='virt=kvm resrc=evdev reason=start vm=\"a\" "
      "uuid=? path=/dev/x y exe=\"/x\" res=success'",
      "type=VIRT_RESOURCE msg=audit(1.000:1): pid=1 msg='a=\"b bound-from=1 old-x=2 r=3",
      "audit: type=2500 audit(1.000:1): pid=1 msg='virt=kvm'\x1dUID=\"root\"",
      "node=h type=VIRT_RESOURCE msg=audit(1.000:1): atype=VIRT_CONTROL msg=audit(1.000:2): x"};
  trail::FieldSet fields;
  std::string scratch;
  for (const std::string& body : bodies) {
    for (size_t size = 0; size <= body.size(); ++size) {
      const auto view = trail::decode_line(page.put(std::string_view(body).substr(0, size)));
      if (!view)
        continue;
      fields.collect(*view);
      for (size_t key = 0; key < trail::kKeyCount; ++key)
        fields.text(static_cast<trail::Key>(key), scratch);
    }
  }
}

// Written to a pipe `piece` bytes at a time. Every line is read, and once.
std::vector<std::string> through_pipe(std::string_view text, size_t piece) {
  int ends[2] = {-1, -1};
  EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  std::jthread writer([text, piece, to = UniqueFd(ends[1])]() mutable {
    while (!text.empty()) {
      const ssize_t put = ::write(to.get(), text.data(), std::min(piece, text.size()));
      if (put <= 0)
        return;
      text.remove_prefix(static_cast<size_t>(put));
    }
  });
  SourceSet set;
  set.sources.emplace_back();
  set.sources.back().name = "pipe";
  set.sources.back().kind = SourceKind::Stream;
  set.sources.back().fd = UniqueFd(ends[0]);
  auto reading = read_everything(std::move(set), {.keep_lines = true});
  EXPECT_TRUE(reading);
  return texts(*reading);
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    lines.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

TEST(Streams, WhereTheyAreCutMakesNoDifference) {
  std::string text;
  for (int i = 0; i < 40; ++i)
    text += disk(i, i, "attach", "?", "/d" + std::string(static_cast<size_t>(i) * 7, 'x'));
  const std::vector<std::string> expected = lines_of(text);
  const std::string packed = gzip(text);
  for (size_t piece : {1UL, 2UL, 31UL, 32UL, 33UL, 63UL, 64UL, 65UL, 70UL, 71UL, 255UL, 4096UL}) {
    EXPECT_EQ(through_pipe(text, piece), expected) << piece;
    EXPECT_EQ(through_pipe(packed, piece), expected) << piece;
  }
}

// The line begun when a block ends stands in front of the next: the longest that is carried, and
// one byte more.
TEST(Streams, CarryTheLongestLineAndNoMore) {
  const std::string record = disk(1, 1, "attach", "?", "/d");
  for (size_t size : {kMaxLine - 1, kMaxLine, kMaxLine + 1, 2 * kMaxLine, (size_t{1} << 20) - 1,
                      size_t{1} << 20, (size_t{1} << 20) + 1}) {
    const std::string text = record + std::string(size, 'x') + "\n" + record;
    const std::vector<std::string> expected(2, record.substr(0, record.size() - 1));
    EXPECT_EQ(through_pipe(text, text.size()), expected) << size;
    EXPECT_EQ(through_pipe(gzip(text), text.size()), expected) << size;
  }
}

}  // namespace
}  // namespace tenure::reader
