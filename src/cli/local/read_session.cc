// SPDX-License-Identifier: Apache-2.0
#include "cli/local/read_session.h"

#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "base/clock.h"
#include "base/file.h"
#include "base/paths.h"
#include "base/text.h"
#include "cli/output.h"

namespace tenure::cli {
namespace {

constexpr int64_t kMs = 1'000'000;  // ns
constexpr int64_t kQuietMs = 400;   // a shorter reading shows no bar
constexpr int64_t kRedrawMs = 100;
constexpr size_t kMaxDoubts = 20;

bool names_root(const Options& options) {
  const char* env = std::getenv("TENURE_ROOT");
  return !options.root.empty() || (env != nullptr && *env != '\0');
}

reader::TimeContext time_context(bool end_of_range) {
  const int64_t now_ms = system_clock().realtime_ns() / kMs;
  return {.now_ms = now_ms,
          .zone = reader::local_zone(),
          .boot_ms = now_ms - system_clock().boottime_ns() / kMs,
          .end_of_range = end_of_range};
}

Result<std::optional<int64_t>> time_of(const std::string& text, bool end_of_range) {
  if (text.empty())
    return std::nullopt;
  TRY(const int64_t time, reader::parse_time(text, time_context(end_of_range)));
  return time;
}

std::string what_is_missing(const reader::SourceRequest& request) {
  std::string named;
  for (const std::string& log : request.logs) named += (named.empty() ? "" : ", ") + log;
  if (!named.empty())
    return printable("there is no log or ledger in " + named);
  return "there is no ledger in " + request.ledger +
         (request.ledger_only ? "" : " and no audit log in its place; see --log, --journal");
}

}  // namespace

Result<reader::SourceSet> sources_of(const Options& options) {
  const Paths paths = paths_below(choose_root(options.root));
  reader::SourceRequest request;
  request.logs = options.logs;
  request.journal = options.journal;
  request.follow = options.follow;
  request.ledger = paths.ledger;
  // An ordinary user's own instance stands for itself; without one they may still read the host's
  // logs.
  const bool own = !paths.root.empty() && ::access(paths.ledger.c_str(), F_OK) == 0;
  request.ledger_only = names_root(options) || own;
  TRY(reader::SourceSet set, reader::open_sources(request));
  if (set.sources.empty() && !set.problems.empty())
    return fail(set.problems.front());
  if (set.sources.empty() && !options.quiet)
    complain("nothing to read: " + what_is_missing(request));
  return set;
}

Result<reader::TimeRange> range_of(const Options& options) {
  reader::TimeRange range;
  if (!options.at.empty()) {
    if (!options.since.empty() || !options.until.empty())
      return fail(Errc::Invalid, "--at goes with neither --since nor --until");
    TRY(range.since, time_of(options.at, false));
    range.until = range.since;
    return range;
  }
  TRY(range.since, time_of(options.since, false));
  TRY(range.until, time_of(options.until, true));
  if (range.since && range.until && *range.until < *range.since)
    return fail(Errc::Invalid, "--until is before --since");
  return range;
}

std::function<void(uint64_t, uint64_t)> progress_bar(const Options& options) {
  if (options.quiet || ::isatty(STDERR_FILENO) == 0)
    return {};
  struct State {
    int64_t start_ms = system_clock().boottime_ns() / kMs;
    int64_t drawn_ms = 0;
    ~State() {
      if (drawn_ms != 0)
        std::fputs("\r\x1b[K", stderr);
    }
  };
  return [state = std::make_shared<State>()](uint64_t done, uint64_t total) {
    const int64_t now = system_clock().boottime_ns() / kMs;
    if (now - state->start_ms < kQuietMs || now - state->drawn_ms < kRedrawMs)
      return;
    state->drawn_ms = now;
    constexpr uint64_t kMiB = 1 << 20;
    if (total == 0) {
      std::fprintf(stderr, "\rread %zu MiB\x1b[K", static_cast<size_t>(done / kMiB));
      return;
    }
    constexpr size_t kWidth = 40;
    const uint64_t part = std::min(done, total);
    const std::string bar(static_cast<size_t>(part * kWidth / total), '#');
    std::fprintf(stderr, "\r[%-40s] %3u%% of %zu MiB\x1b[K", bar.c_str(),
                 static_cast<unsigned>(part * 100 / total), static_cast<size_t>(total / kMiB));
  };
}

std::expected<Session, int> open_session(
    const Options& options, bool keep_lines,
    const std::function<void(const reader::Event&, const reader::Stream&, uint64_t)>& each) {
  Session session;
  auto range = range_of(options);
  if (!range)
    return std::unexpected(give_up(range.error()));
  session.range = *range;
  auto sources = sources_of(options);
  if (!sources)
    return std::unexpected(give_up(sources.error()));
  const reader::ReadingOptions reading{.read = {.threads = 0, .progress = progress_bar(options)},
                                       .keep_lines = keep_lines,
                                       .node = options.node,
                                       .each = each};
  auto read = reader::read_everything(std::move(*sources), reading);
  if (!read)
    return std::unexpected(give_up(read.error()));
  session.reading = std::move(*read);
  return session;
}

int conclude(const Options& options, const std::vector<std::string>& doubts, bool found) {
  const size_t told = options.quiet ? 0 : std::min(doubts.size(), kMaxDoubts);
  for (size_t i = 0; i < told; ++i) complain("the answer may be incomplete: " + doubts[i]);
  if (told > 0 && told < doubts.size())
    complain(fmt::format("and {} more reasons", doubts.size() - told));
  if (!doubts.empty())
    return to_int(ExitCode::Incomplete);
  return to_int(found ? ExitCode::Ok : ExitCode::NothingFound);
}

int give_up(const Error& error) {
  complain(printable(error.what()));
  return to_int(exit_code_of(error));
}

}  // namespace tenure::cli
