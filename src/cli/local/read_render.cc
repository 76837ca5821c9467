// SPDX-License-Identifier: Apache-2.0
#include "cli/local/read_render.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <tuple>

#include "base/identity.h"
#include "base/text.h"
#include "model/json.h"
#include "reader/select.h"

namespace tenure::cli {
namespace {

using model::Position;
using model::Tenure;

std::string time_of(const std::optional<Position>& at, const reader::Zone& zone,
                    std::string_view none) {
  return at ? reader::format_time(at->time_ms, zone) : std::string(none);
}

std::string until_of(const Tenure& tenure, const reader::Zone& zone) {
  const std::string until = time_of(tenure.until, zone, "held");
  if (tenure.certainty != model::Certainty::Bounded || !tenure.until_after)
    return until;
  return reader::format_time(tenure.until_after->time_ms, zone) + " .. " + until;
}

std::string guest_of(const Tenure& tenure) {
  return std::string(tenure.guest.empty() ? tenure.uuid.view() : tenure.guest.view());
}

// What of the resource people want to see: the id, and the device number where there is one.
std::string resource_of(const Tenure& tenure) {
  std::string out(tenure.id.view());
  const std::string device = reader::device_text(tenure.devtype, tenure.rdev);
  if (!device.empty())
    out += " (" + device + ")";
  return out.empty() ? "-" : out;
}

std::vector<std::string> proofs_of(const Tenure& tenure) {
  std::vector<std::string> out;
  if (tenure.from)
    out.push_back(model::proof_of(*tenure.from));
  if (tenure.until && !(tenure.from && tenure.from->same_event(*tenure.until)))
    out.push_back(model::proof_of(*tenure.until));
  return out;
}

void append_guess(std::string& out, const reader::Guess& guess) {
  const auto id = [](const std::optional<uint32_t>& value) {
    return value ? std::to_string(*value) : "null";
  };
  out += fmt::format(",\"guess\":{{\"auid\":{},\"uid\":{},\"ses\":{},\"exe\":", id(guess.auid),
                     id(guess.uid), id(guess.ses));
  model::append_json_string(out, guess.exe);
  out += ",\"command\":";
  model::append_json_string(out, guess.command);
  out += fmt::format(",\"names_guest\":{},\"before_ms\":{},\"evidence\":[", guess.names_guest,
                     guess.before_ms);
  for (size_t i = 0; i < guess.evidence.size(); ++i) {
    out += i == 0 ? "" : ",";
    model::append_json_string(out, guess.evidence[i]);
  }
  out += "]}";
}

// Pieces of the answer, written in order by whoever rendered them: while one thread waits for
// standard output the others render on.
class InOrder {
 public:
  explicit InOrder(Out& out) : out_(out) {}
  size_t next() { return next_++; }
  void put(size_t piece, std::string_view text) {
    std::unique_lock lock(mutex_);
    turn_changed_.wait(lock, [&] { return turn_ == piece; });
    out_.put(text);
    ++turn_;
    turn_changed_.notify_all();
  }

 private:
  Out& out_;
  std::atomic<size_t> next_ = 0;
  std::mutex mutex_;
  std::condition_variable turn_changed_;
  size_t turn_ = 0;
};

// A hundred thousand lines cost as much as reading a gigabyte does: all cores write them.
void print_json(Out& out, const std::vector<Found>& found) {
  constexpr size_t kPiece = 512;  // lines; some 256 KiB, which stay in a core's cache
  InOrder order(out);
  const auto render = [&] {
    std::string text;
    for (size_t piece = order.next(); piece * kPiece < found.size(); piece = order.next()) {
      const size_t end = std::min(found.size(), (piece + 1) * kPiece);
      text.clear();
      for (size_t i = piece * kPiece; i < end; ++i) append_json(text, found[i]);
      order.put(piece, text);
    }
  };
  std::vector<std::jthread> helpers;
  const size_t cores = std::max(1U, std::thread::hardware_concurrency());
  for (size_t i = 1; i < cores && i * kPiece < found.size(); ++i) helpers.emplace_back(render);
  render();
}

void print_csv(const Options& options, Out& out, const std::vector<Found>& found) {
  if (!options.no_legend)
    model::append_csv_header(out.buffer());
  for (const Found& one : found) {
    model::append_csv_line(out.buffer(), *one.tenure, *one.run);
    out.settle();
  }
}

void print_table(const Options& options, Out& out, const std::vector<Found>& found) {
  const bool nodes = std::any_of(found.begin(), found.end(),
                                 [](const Found& one) { return !one.tenure->node.empty(); });
  std::vector<std::string> columns = {"GUEST", "RUN", "KIND", "RESOURCE", "ACCESS", "FROM",
                                      "UNTIL", "END", "SURE", "ASKED BY", "PROOF"};
  if (nodes)
    columns.insert(columns.begin(), "NODE");
  Table table(columns, false, !options.no_legend);
  Users users(options.numeric);
  const reader::Zone zone = reader::local_zone();
  for (const Found& one : found) {
    const Tenure& tenure = *one.tenure;
    std::string proof;
    for (const std::string& id : proofs_of(tenure)) proof += (proof.empty() ? "" : " ") + id;
    std::vector<std::string> cells = {
        guest_of(tenure),
        std::to_string(one.run->number),
        std::string(tenure.kind.view()),
        resource_of(tenure),
        tenure.access.empty() ? "-" : std::string(tenure.access.view()),
        time_of(tenure.from, zone, "before the trail"),
        until_of(tenure, zone),
        tenure.until_reason.empty() ? "-" : std::string(tenure.until_reason.view()),
        std::string(model::to_string(tenure.certainty)),
        who_of(users, tenure.requester, one.guess),
        proof};
    if (nodes)
      cells.insert(cells.begin(), std::string(tenure.node.view()));
    table.row(std::move(cells));
  }
  table.print(out);
}

// One line a tenure: "short" tersely, "text" as a sentence.
void print_lines(const Options& options, Out& out, const std::vector<Found>& found, bool text) {
  Users users(options.numeric);
  const reader::Zone zone = reader::local_zone();
  for (const Found& one : found) {
    const Tenure& tenure = *one.tenure;
    const std::string who = who_of(users, tenure.requester, one.guess);
    const std::string from = time_of(tenure.from, zone, "before the trail");
    std::string line;
    if (text) {
      line = fmt::format("{} held {} {}{} from {} {} {} ({}){}", guest_of(tenure),
                         tenure.kind.view(), resource_of(tenure),
                         tenure.access.empty() ? "" : fmt::format(" ({})", tenure.access.view()),
                         from, tenure.open() ? "on:" : "to", until_of(tenure, zone),
                         tenure.open() ? "open" : tenure.until_reason.view(),
                         who == "-" ? "" : "; asked for by " + who);
    } else {
      line = fmt::format("{} {} {} {} {} -> {} {}", guest_of(tenure), tenure.kind.view(),
                         resource_of(tenure), tenure.access.empty() ? "-" : tenure.access.view(),
                         from, until_of(tenure, zone), who);
    }
    for (const std::string& id : proofs_of(tenure)) line += " " + id;
    out.line(printable(line));
  }
}

// The records that prove the tenures, as they stand in the log.
void print_raw(Out& out, const reader::Reading& reading, const std::vector<Found>& found) {
  std::vector<std::set<uint64_t>> wanted(reading.streams.size());
  for (const Found& one : found) {
    for (const auto& at : {one.tenure->from, one.tenure->until}) {
      if (at)
        wanted[one.stream].insert(at->order);
    }
  }
  for (const reader::KeptLine& line : reading.kept_lines) {
    if (wanted[line.stream].contains(line.order))
      out.line(evidence(line.text));
  }
}

const reader::Guess* guess_of(const reader::Stream& stream, const Tenure& tenure) {
  if (tenure.requester != nullptr || !tenure.from)
    return nullptr;
  const auto guess = stream.guesses.find(tenure.from->order);
  return guess == stream.guesses.end() ? nullptr : &guess->second;
}

void sort_found(std::vector<Found>& found) {
  const auto begin = [](const Tenure& tenure) {
    return tenure.from ? tenure.from->time_ms : tenure.until ? tenure.until->time_ms : 0;
  };
  const bool several = std::any_of(found.begin(), found.end(), [&](const Found& one) {
    return one.stream != found.front().stream;
  });
  if (several)
    std::stable_sort(found.begin(), found.end(), [&](const Found& a, const Found& b) {
      return begin(*a.tenure) < begin(*b.tenure);
    });
}

}  // namespace

void append_json(std::string& out, const Found& one) {
  model::append_json_line(out, *one.tenure, *one.run);
  if (one.guess == nullptr)
    return;
  out.resize(out.size() - 2);  // "}\n"
  append_guess(out, *one.guess);
  out += "}\n";
}

std::string who_of(Users& users, const model::Asker* asker, const reader::Guess* guess) {
  if (asker != nullptr)
    return users.name(asker->auid != kUnsetId ? asker->auid : asker->uid);
  if (guess == nullptr || (!guess->auid && !guess->uid))
    return "-";
  return users.name(guess->auid ? *guess->auid : *guess->uid) + "?";
}

std::vector<Found> find_tenures(const reader::Reading& reading, const Selection& selection) {
  std::vector<Found> found;
  for (size_t i = 0; i < reading.streams.size(); ++i) {
    const reader::Stream& stream = reading.streams[i];
    found.reserve(found.size() + stream.book.tenures().size());
    for (const model::Tenure& tenure : stream.book.tenures()) {
      if (!selection.guest.matches(tenure.guest, tenure.uuid) ||
          !selection.resource.matches(reader::ResourceSelector::thing_of(tenure)) ||
          !in_range(tenure, selection.range))
        continue;
      found.push_back({.tenure = &tenure,
                       .run = &stream.book.run_of(tenure),
                       .guess = guess_of(stream, tenure),
                       .stream = i});
    }
  }
  sort_found(found);
  return found;
}

void print_tenures(const Options& options, const reader::Reading& reading,
                   const std::vector<Found>& found) {
  Out out;
  switch (options.output()) {
    case OutputFormat::Json:
      return print_json(out, found);
    case OutputFormat::Csv:
      return print_csv(options, out, found);
    case OutputFormat::Table:
      return print_table(options, out, found);
    case OutputFormat::Raw:
      return print_raw(out, reading, found);
    case OutputFormat::Short:
      return print_lines(options, out, found, false);
    case OutputFormat::Text:
      return print_lines(options, out, found, true);
  }
}

void print_runs(const Options& options, const std::vector<const model::Run*>& runs) {
  Out out;
  if (options.output() == OutputFormat::Json) {
    for (const model::Run* run : runs) model::append_json_line(out.buffer(), *run);
    return;
  }
  Table table({"GUEST", "UUID", "RUN", "START", "REASON", "PID", "END", "CAUSE", "SURE", "OK"},
              options.output() == OutputFormat::Csv, !options.no_legend);
  const reader::Zone zone = reader::local_zone();
  for (const model::Run* run : runs) {
    table.row({std::string(run->guest.view()), std::string(run->uuid.view()),
               std::to_string(run->number), time_of(run->start, zone, "before the trail"),
               run->start_reason.empty() ? "-" : std::string(run->start_reason.view()),
               run->pid == 0 ? "-" : std::to_string(run->pid), time_of(run->end, zone, "running"),
               run->end_reason.empty() ? "-" : std::string(run->end_reason.view()),
               std::string(model::to_string(run->certainty)),
               run->failed ? "failed"
               : run->ok   ? "yes"
                           : "not seen"});
  }
  table.print(out);
}

}  // namespace tenure::cli
