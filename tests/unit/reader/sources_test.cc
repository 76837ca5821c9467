// SPDX-License-Identifier: Apache-2.0
// Files in every form and order come out as the same records; whatever is wrong with them is told.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "base/file.h"
#include "reader/byte_stream.h"
#include "reader/pipeline.h"
#include "reader/segment.h"
#include "tests/unit/reader/scratch.h"

namespace tenure::reader {
namespace {

std::string lines(int from, int count) {
  std::string out;
  for (int i = from; i < from + count; ++i)
    out += disk(i, i, "attach", "?", "/d" + std::to_string(i));
  return out;
}

// The serials in the order in which the events came.
std::vector<uint64_t> serials(const std::vector<std::string>& paths) {
  SourceRequest request;
  request.logs = paths;
  auto set = open_sources(request);
  std::vector<uint64_t> out;
  const ReadingOptions options{.each = [&](const Event& event, const Stream&, uint64_t) {
    out.push_back(event.view.serial);
  }};
  EXPECT_TRUE(set && read_everything(std::move(*set), options));
  return out;
}

// While it lives, `fd` is our standard input.
class AsInput {
 public:
  explicit AsInput(UniqueFd fd) { ::dup2(fd.get(), STDIN_FILENO); }
  AsInput(const AsInput&) = delete;
  AsInput& operator=(const AsInput&) = delete;
  ~AsInput() { ::dup2(saved_.get(), STDIN_FILENO); }

 private:
  UniqueFd saved_{::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)};
};

// A pipe that a thread of its own writes `text` to, in pieces of all sizes.
class Pipe {
 public:
  explicit Pipe(const std::string& text) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    out_ = UniqueFd(ends[0]);
    writer_ = std::jthread([&text, in = UniqueFd(ends[1])] {
      size_t piece = 1;
      for (size_t at = 0; at < text.size(); at += piece) {
        piece = std::min(piece * 7 % 300'007, text.size() - at);
        if (!write_all(in.get(), std::string_view(text).substr(at, piece), "pipe"))
          break;  // nobody reads any more
      }
    });
  }
  UniqueFd take() { return std::move(out_); }

 private:
  UniqueFd out_;
  std::jthread writer_;
};

std::vector<uint64_t> numbers(uint64_t from, uint64_t to) {
  std::vector<uint64_t> out;
  while (from < to) out.push_back(from++);
  return out;
}

TEST(RotatedNames, AreTakenApart) {
  const auto check = [](const std::string& name, const std::string& family, uint32_t number,
                        const std::string& date) {
    const RotatedName got = parse_rotated(name);
    EXPECT_EQ(got.family, family) << name;
    EXPECT_EQ(got.number, number) << name;
    EXPECT_EQ(got.date, date) << name;
  };
  check("audit.log", "audit.log", 0, "");
  check("/var/log/audit/audit.log.12", "/var/log/audit/audit.log", 12, "");
  check("audit.log.2.gz", "audit.log", 2, "");
  check("audit.log-20250701.zst", "audit.log", 0, "20250701");
  check("audit-07", "audit-07", 0, "");
  check("audit.gz", "audit", 0, "");
}

TEST(RotatedNames, OldestFirst) {
  std::vector<std::string> paths = {"b.log", "a.log", "a.log.1", "a.log.10.gz", "a.log.2"};
  sort_rotated(paths);
  EXPECT_EQ(paths,
            (std::vector<std::string>{"b.log", "a.log.10.gz", "a.log.2", "a.log.1", "a.log"}));
}

TEST(Sources, AFolderIsReadInTheOrderOfItsRotation) {
  const Scratch scratch;
  scratch.write("audit.log", lines(30, 10));
  scratch.write("audit.log.1", lines(20, 10));
  scratch.write("audit.log.2.gz", gzip(lines(10, 10)));
  scratch.write("audit.log.10.zst", zstd(lines(0, 10)));
  EXPECT_EQ(serials({scratch.path("")}), numbers(0, 40));
}

TEST(Sources, FamiliesOfAFolderFollowEachOtherByTime) {
  const Scratch scratch;
  scratch.write("a.log", lines(2000000000, 2));
  scratch.write("b.log", lines(1000000000, 2));
  EXPECT_EQ(serials({scratch.path("")}).front(), 1000000000U);
}

TEST(Sources, AuditdConfNamesTheLog) {
  const Scratch scratch;
  EXPECT_EQ(auditd_log_file(scratch.path("none")), "/var/log/audit/audit.log");
  EXPECT_EQ(auditd_log_file(scratch.write("c", "#log_file = /x\n log_file  =  /srv/a.log \n")),
            "/srv/a.log");
}

TEST(Sources, DefaultsAreTheRotatedLogsOfAuditd) {
  const Scratch scratch;
  scratch.write("a.log", lines(5, 5));
  scratch.write("a.log.1", lines(0, 5));
  scratch.write("other.log", lines(50, 5));
  SourceRequest request;
  request.ledger = scratch.path("no-ledger");
  request.auditd_conf = scratch.write("conf", "log_file = " + scratch.path("a.log") + "\n");
  auto set = open_sources(request);
  ASSERT_TRUE(set);
  ASSERT_EQ(set->sources.size(), 2U);
  EXPECT_EQ(set->sources[0].name, scratch.path("a.log.1"));
  EXPECT_TRUE(set->sources[1].growing);
  request.ledger_only = true;
  EXPECT_TRUE(open_sources(request)->sources.empty());
}

TEST(Sources, AMissingLogIsAnError) {
  EXPECT_EQ(open_sources({.logs = {"/nowhere/at/all"}}).error().code(), Errc::NotFound);
}

TEST(Sources, EveryFormGivesTheSameRecords) {
  const Scratch scratch;
  const std::string text = lines(0, 5000);
  const auto expected = numbers(0, 5000);
  EXPECT_EQ(serials({scratch.write("plain", text)}), expected);
  EXPECT_EQ(serials({scratch.write("a.gz", gzip(text))}), expected);
  EXPECT_EQ(serials({scratch.write("b.gz", gzip(text.substr(0, 777)) + gzip(text.substr(777)))}),
            expected);
  EXPECT_EQ(serials({scratch.write("c.gz", gzip(text) + std::string(1000, '\0'))}), expected);
  EXPECT_EQ(serials({scratch.write("a.zst", zstd(text.substr(0, 777)) + zstd(text.substr(777)))}),
            expected);
}

TEST(Sources, DamagedCompressionIsToldAndTheRestRead) {
  const Scratch scratch;
  const std::string text = lines(0, 5000);
  for (const std::string& whole : {gzip(text), zstd(text)}) {
    scratch.write("x", whole.substr(0, whole.size() / 2));
    const Reading cut = read_logs({scratch.path("x"), scratch.write("y", lines(9000, 1))});
    EXPECT_EQ(cut.damage.count(DamageKind::ReadError), 1U);
    EXPECT_GT(cut.events, 100U);
    EXPECT_EQ(texts(cut).back() + "\n", lines(9000, 1));
    EXPECT_FALSE(cut.doubts({}).empty());
  }
  const Reading xz = read_logs({scratch.write("z", std::string("\xfd"
                                                               "7zXZ\0rest",
                                                               10))});
  EXPECT_NE(xz.damage.first(DamageKind::ReadError).find("xz -dc"), std::string::npos);
}

TEST(Sources, StandardInputIsASource) {
  const Scratch scratch;
  const std::string path = scratch.write("in", gzip(lines(0, 7)));
  const AsInput input(UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)));
  EXPECT_EQ(serials({"-"}), numbers(0, 7));
}

TEST(Segments, TileAFileWhateverItsLines) {
  const Scratch scratch;
  std::string text;
  for (unsigned i = 0; text.size() < 5 * kSegment; ++i) {
    text += std::string(i * 7919 % 3000, 'x') + "\n";
  }
  scratch.write("t", text);
  FILE* file = std::fopen(scratch.path("t").c_str(), "r");
  std::string joined;
  ReadBuffer buffer;
  for (uint64_t i = 0; i < segment_count(text.size()); ++i) {
    const Segment segment = read_segment(::fileno(file), "t", text.size(), i, buffer);
    EXPECT_EQ(segment.offset, joined.size());
    EXPECT_TRUE(segment.damage.empty());
    EXPECT_EQ(segment.last, i + 1 == segment_count(text.size()));
    joined += segment.bytes;
  }
  EXPECT_EQ(joined, text);
  std::fclose(file);
}

TEST(Segments, AnEndlessLineIsCutAndTold) {
  const Scratch scratch;
  const std::string text = std::string(3 * kSegment + 100, 'x');
  scratch.write("t", text);
  FILE* file = std::fopen(scratch.path("t").c_str(), "r");
  ReadBuffer buffer;
  size_t total = 0;
  uint64_t cuts = 0;
  for (uint64_t i = 0; i < segment_count(text.size()); ++i) {
    const Segment segment = read_segment(::fileno(file), "t", text.size(), i, buffer);
    total += segment.bytes.size();
    cuts += segment.damage.count(DamageKind::NoLineEnd);
  }
  EXPECT_EQ(total, text.size());
  EXPECT_EQ(cuts, 2U);  // the last 100 bytes are too short to miss a newline
  std::fclose(file);
}

TEST(Segments, AFileThatShrinksIsTold) {
  const Scratch scratch;
  const std::string path = scratch.write("t", lines(0, 10000));
  SourceRequest request;
  request.logs = {path};
  auto set = open_sources(request);
  ASSERT_TRUE(set);
  ASSERT_EQ(::truncate(path.c_str(), 100000), 0);
  const auto reading = read_everything(std::move(*set), {});
  ASSERT_TRUE(reading);
  EXPECT_GE(reading->damage.count(DamageKind::Shrunk), 1U);
  EXPECT_GT(reading->events, 100U);
}

TEST(Sources, ARecordBehindAGigabyteOfNulsIsFoundInBoundedMemory) {
  const Scratch scratch;
  const std::string path = scratch.path("sparse");
  FILE* file = std::fopen(path.c_str(), "w");
  ASSERT_EQ(::ftruncate(::fileno(file), int64_t{1} << 27), 0);
  std::fseek(file, 0, SEEK_END);
  std::fputs(lines(7, 1).c_str(), file);
  std::fclose(file);
  const Reading reading = read_logs({path});
  ASSERT_EQ(reading.events, 1U);
  EXPECT_EQ(texts(reading)[0] + "\n", lines(7, 1));
  EXPECT_EQ(reading.damage.count(DamageKind::NulBlock), 1U);
  EXPECT_GT(reading.damage.count(DamageKind::NoLineEnd), 0U);
}

// Corner 7: the live file's last line may be half written; elsewhere a cut line is damage.
// The first block of a stream ends in the line, a megabyte behind the newline in front of it.
TEST(Sources, AnEndlessLineBehindARecordIsCutInBoundedMemory) {
  const Scratch scratch;
  const std::string text = lines(0, 1) + std::string(5 << 20, 'x') + "\n" + lines(1, 1);
  const Reading reading = read_logs({scratch.write("a.log.gz", gzip(text))});
  EXPECT_GE(reading.damage.count(DamageKind::NoLineEnd), 1U);
  EXPECT_EQ(texts(reading).size(), 2U);
}

TEST(Sources, AHalfWrittenLastLineIsNoDamageInTheNewestFile) {
  const Scratch scratch;
  const std::string cut = lines(0, 2).substr(0, lines(0, 1).size() + 150);
  scratch.write("a.log.1", cut);
  scratch.write("a.log", cut);
  const Reading both = read_logs({scratch.path("")});
  EXPECT_EQ(both.damage.count(DamageKind::Truncated), 1U);
  EXPECT_NE(both.damage.first(DamageKind::Truncated).find("a.log.1"), std::string::npos);
  const Reading newest = read_logs({scratch.path("a.log")});
  EXPECT_TRUE(newest.damage.empty());
  EXPECT_EQ(newest.events, 1U);
}

TEST(Sources, TheLastLineNeedsNoNewline) {
  const Scratch scratch;
  std::string text = lines(0, 3);
  text.pop_back();
  EXPECT_EQ(serials({scratch.write("a.log", text)}), numbers(0, 3));
}

// Corner 6.
TEST(Sources, GluedRecordsAreTwoAndTold) {
  const Scratch scratch;
  std::string first = lines(1, 1);
  first.resize(first.size() - 20);
  const Reading reading = read_logs({scratch.write("x", first + lines(2, 1))});
  EXPECT_EQ(reading.damage.count(DamageKind::Glued), 1U);
  EXPECT_EQ(texts(reading).back() + "\n", lines(2, 1));
}

TEST(Pipeline, ManyThreadsKeepTheOrder) {
  const Scratch scratch;
  std::string text;
  for (int i = 0; text.size() < 5 * kSegment; ++i) {
    text += i % 3 == 0 ? disk(i, i, "attach", "?", "/x") : std::string(300, 'n') + "\n";
  }
  scratch.write("a.log.1", text);
  scratch.write("a.log", gzip(text));
  std::vector<std::string> one = texts(read_logs({scratch.path("")}, 1));
  EXPECT_GT(one.size(), 10000U);
  EXPECT_EQ(texts(read_logs({scratch.path("")}, 7)), one);
}

TEST(Pipeline, ThreadsReadAPipeInTurnsAndKeepTheOrder) {
  const std::string text = lines(0, 60'000);
  Pipe pipe(text);
  const AsInput input(pipe.take());
  EXPECT_EQ(serials({"-"}), numbers(0, 60'000));
}

TEST(Pipeline, ThreadsShareTheLastOfManyStreams) {
  const Scratch scratch;
  for (int i = 0; i < 5; ++i)
    scratch.write("a.log." + std::to_string(5 - i), gzip(lines(i * 5000, 5000)));
  const std::vector<std::string> one = texts(read_logs({scratch.path("")}, 1));
  EXPECT_EQ(one.size(), 25'000U);
  for (const unsigned threads : {2U, 7U})
    EXPECT_EQ(texts(read_logs({scratch.path("")}, threads)), one);
}

TEST(Pipeline, WhoWantsNoMoreEndsAStream) {
  ::signal(SIGPIPE, SIG_IGN);  // the writer's; its end is seen by EPIPE
  const std::string text = lines(0, 60'000);
  {
    Pipe pipe(text);
    const AsInput input(pipe.take());
    auto set = open_sources({.logs = {"-"}});
    ASSERT_TRUE(set) << set.error().what();
    size_t batches = 0;
    EXPECT_TRUE(read_sources(*set, {.threads = 4, .progress = {}},
                             [&](const Batch&) { return ++batches < 3; }));
    EXPECT_EQ(batches, 3U);
  }
  ::signal(SIGPIPE, SIG_DFL);
}

}  // namespace
}  // namespace tenure::reader
