// SPDX-License-Identifier: Apache-2.0
#include "reader/reading.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "reader/time_words.h"

namespace tenure::reader {
namespace {

// Feeds events to the streams that they belong to.
class Intake {
 public:
  Intake(const SourceSet& set, const ReadingOptions& options, Reading& reading)
      : options_(options), reading_(reading) {
    std::optional<size_t> logs;
    for (const Source& source : set.sources) {
      const bool ledger = source.kind == SourceKind::Ledger;
      if (ledger || !logs) {
        reading_.streams.push_back(
            {.name = source.name, .ledger = ledger, .book = {}, .guesses = {}, .last_order = 0});
        finders_.emplace_back();
      }
      const size_t newest = reading_.streams.size() - 1;
      if (!ledger && !logs)
        logs = newest;
      stream_of_.push_back(ledger ? newest : *logs);
    }
  }

  void take(Batch batch) {
    reading_.damage.merge(batch.damage);
    for (const Event& event : batch.events) take(event);
    if (options_.keep_lines)
      reading_.kept.push_back(std::move(batch));
  }

  void finish() {
    for (Finders& finders : finders_) {
      auto gaps = finders.gaps.finish();
      std::move(gaps.begin(), gaps.end(), std::back_inserter(reading_.gaps));
    }
  }

 private:
  struct Finders {
    GapFinder gaps;
    GuessFinder guesses;
  };

  void take(const Event& event) {
    if (!options_.node.empty() && event.view.node != options_.node)
      return;
    Stream& stream = reading_.streams[stream_of_[event.source]];
    Finders& finders = finders_[stream_of_[event.source]];
    if (stream.ledger)
      in_ledger_.add(event);
    else if (in_ledger_.contains(event))
      return;
    // Of a ledger the order is the index, by which grants are named.
    const uint64_t order = stream.ledger ? event.offset : ++stream.last_order;
    stream.last_order = order;
    ++reading_.events;
    if (options_.keep_lines)
      reading_.kept_lines.push_back({stream_of_[event.source], order, event.text});
    if (auto guess = finders.guesses.event(event))
      stream.guesses.emplace(order, std::move(*guess));
    finders.gaps.event(event, order);
    stream.book.apply(event.view, order);
    if (options_.each)
      options_.each(event, stream, order);
  }

  const ReadingOptions& options_;
  Reading& reading_;
  std::vector<size_t> stream_of_;  // by source
  std::vector<Finders> finders_;   // as streams
  SeenInLedger in_ledger_;
};

std::string describe(const Gap& gap) {
  const Zone zone = local_zone();
  std::string out = gap.node.empty() ? "" : printable(gap.node) + ": ";
  out += printable(gap.what);
  if (gap.lost)
    out += fmt::format(", {} records", *gap.lost);
  const bool moment = gap.from_ms && gap.from_ms == gap.until_ms;
  if (moment)
    return fmt::format("{} at {} [{}]", out, format_time(*gap.from_ms, zone), gap.proof);
  if (gap.from_ms)
    out += " from " + format_time(*gap.from_ms, zone);
  out += gap.until_ms
             ? (gap.from_ms ? " to " : " some time before ") + format_time(*gap.until_ms, zone)
             : " to the end of the trail";
  return fmt::format("{} [{}]", out, gap.proof);
}

}  // namespace

SeenInLedger::Id SeenInLedger::id_of(const Event& event) {
  return {.time_ms = trail::time_ms(event.view),
          .serial = event.view.serial,
          .body = std::hash<std::string_view>()(event.view.body)};
}

void SeenInLedger::add(const Event& event) {
  if (event.view.state == trail::EntryState::Confirmed)
    ids_.insert(id_of(event));
}

bool SeenInLedger::contains(const Event& event) const {
  return !ids_.empty() && event.view.has_body && ids_.contains(id_of(event));
}

std::vector<std::string> Reading::doubts(const TimeRange& range) const {
  std::vector<std::string> out;
  for (const Error& problem : problems) out.push_back(problem.what());
  for (std::string& line : damage.lines()) out.push_back(printable(line));
  for (const Gap& gap : gaps) {
    if (range.meets(gap.from_ms, gap.until_ms))
      out.push_back(describe(gap));
  }
  uint64_t cut = 0;
  for (const Stream& stream : streams) cut += stream.book.counts().damaged;
  if (cut > 0)
    out.push_back(fmt::format("{} records are cut before their result and were not counted", cut));
  return out;
}

Result<Reading> read_everything(SourceSet set, const ReadingOptions& options) {
  std::stable_partition(set.sources.begin(), set.sources.end(),
                        [](const Source& source) { return source.kind == SourceKind::Ledger; });
  Reading reading;
  reading.problems = std::move(set.problems);
  Intake intake(set, options, reading);
  TRY_OK(read_sources(set, options.read, [&](Batch batch) {
    intake.take(std::move(batch));
    return true;
  }));
  intake.finish();
  return reading;
}

}  // namespace tenure::reader
