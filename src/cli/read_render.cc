// SPDX-License-Identifier: Apache-2.0
#include "cli/read_render.h"

#include <fmt/format.h>

#include <algorithm>
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

// A hundred thousand lines cost as much as reading a gigabyte does: each core writes its share.
void print_json(Out& out, const std::vector<Found>& found) {
  constexpr size_t kShare = 4096;
  const size_t threads = std::max(1U, std::thread::hardware_concurrency());
  std::vector<std::string> parts(threads);
  for (size_t from = 0; from < found.size(); from += threads * kShare) {
    const auto render = [&](size_t part) {
      parts[part].clear();
      const size_t begin = std::min(found.size(), from + part * kShare);
      const size_t end = std::min(found.size(), begin + kShare);
      for (size_t i = begin; i < end; ++i) append_json(parts[part], found[i]);
    };
    std::vector<std::jthread> helpers;
    for (size_t part = 1; part < threads && from + part * kShare < found.size(); ++part)
      helpers.emplace_back(render, part);
    render(0);
    helpers.clear();  // joins
    for (std::string& part : parts) {
      out.put(part);
      part.clear();
    }
  }
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

std::vector<Found> find_tenures(reader::Reading& reading, const Selection& selection) {
  std::vector<Found> found;
  for (size_t i = 0; i < reading.streams.size(); ++i) {
    reader::Stream& stream = reading.streams[i];
    for (const model::Tenure& tenure : stream.book.tenures()) {
      if (!selection.guest.matches(tenure.guest, tenure.uuid) ||
          !selection.resource.matches(reader::ResourceSelector::thing_of(tenure)) ||
          !in_range(tenure, selection.range))
        continue;
      const auto guess =
          tenure.from ? stream.guesses.find(tenure.from->order) : stream.guesses.end();
      const bool guessed = tenure.requester == nullptr && guess != stream.guesses.end();
      found.push_back({.tenure = &tenure,
                       .run = &stream.book.run_of(tenure),
                       .guess = guessed ? &guess->second : nullptr,
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
