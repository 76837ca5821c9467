// SPDX-License-Identifier: Apache-2.0
// `tenure report --html FILE`: gathers what the page shows and writes it.
#include <fmt/format.h>

#include <map>

#include "base/clock.h"
#include "base/file.h"
#include "base/identity.h"
#include "cli/local/commands.h"
#include "cli/local/read_render.h"
#include "cli/local/read_session.h"
#include "model/json.h"
#include "reader/page.h"

namespace tenure::cli {
namespace {

std::string json(std::string_view text) {
  std::string out;
  model::append_json_string(out, text);
  return out;
}

std::string ms_or_null(const std::optional<int64_t>& ms) {
  return ms ? std::to_string(*ms) : "null";
}

std::string array_of(const std::vector<std::string>& values) {
  std::string out = "[";
  for (const std::string& value : values) out += (out.size() == 1 ? "" : ",") + value;
  return out + "]";
}

std::string gap_object(const reader::Gap& gap) {
  return fmt::format(R"({{"node":{},"from":{},"until":{},"what":{},"lost":{},"proof":{}}})",
                     gap.node.empty() ? "null" : json(gap.node), ms_or_null(gap.from_ms),
                     ms_or_null(gap.until_ms), json(gap.what),
                     gap.lost ? std::to_string(*gap.lost) : "null", json(gap.proof));
}

// {"1001":"alice"} for the ids that the page shows; empty with -N.
std::string users_object(const Options& options, const std::vector<Found>& found) {
  std::map<uint32_t, std::string> names;
  Users users(options.numeric);
  const auto note = [&](std::optional<uint32_t> id) {
    if (id && *id != kUnsetId && !options.numeric)
      names.emplace(*id, users.name(*id));
  };
  for (const Found& one : found) {
    for (const model::Asker* asker : {one.tenure->requester, one.tenure->end_requester}) {
      if (asker != nullptr) {
        note(asker->auid);
        note(asker->uid);
      }
    }
    if (one.guess != nullptr)
      note(one.guess->auid ? one.guess->auid : one.guess->uid);
  }
  std::string out = "{";
  for (const auto& [id, name] : names)
    out += fmt::format("{}\"{}\":{}", out.size() == 1 ? "" : ",", id, json(name));
  return out + "}";
}

struct Answer {
  const Options& options;
  const Session& session;
  const reader::MarkFinder& marks;
  std::vector<Found> found;
  std::vector<std::string> doubts;
};

std::string about(const Answer& answer) {
  const reader::Reading& reading = answer.session.reading;
  std::vector<std::string> sources;
  for (const reader::Stream& stream : reading.streams) sources.push_back(json(stream.name));
  std::vector<std::string> doubts;
  for (const std::string& doubt : answer.doubts) doubts.push_back(json(doubt));
  std::vector<std::string> gaps;
  for (const reader::Gap& gap : reading.gaps) {
    if (answer.session.range.meets(gap.from_ms, gap.until_ms))
      gaps.push_back(gap_object(gap));
  }
  constexpr int64_t kMs = 1'000'000;  // ns
  return fmt::format(
      R"({{"schema":{},"program":"tenure {}","made":{},"by":{},"guest":{},"since":{},"until":{},)"
      R"("first":{},"last":{},"sources":{},"doubts":{},"gaps":{},"users":{},"marks_left_out":{}}})",
      model::kJsonSchema, TENURE_VERSION, system_clock().realtime_ns() / kMs,
      json(answer.options.by),
      answer.options.filter_guest.empty() ? "null" : json(answer.options.filter_guest),
      ms_or_null(answer.session.range.since), ms_or_null(answer.session.range.until),
      ms_or_null(answer.marks.first_ms()), ms_or_null(answer.marks.last_ms()), array_of(sources),
      array_of(doubts), array_of(gaps), users_object(answer.options, answer.found),
      answer.marks.left_out());
}

std::string tenure_lines(const std::vector<Found>& found) {
  std::string out;
  for (const Found& one : found) append_json(out, one);
  return out;
}

std::string run_lines(const Answer& answer, const reader::GuestSelector& guest) {
  std::string out;
  for (const reader::Stream& stream : answer.session.reading.streams) {
    for (const model::Run& run : stream.book.runs()) {
      if (guest.matches(run.guest, run.uuid) && in_range(run, answer.session.range))
        model::append_json_line(out, run);
    }
  }
  return out;
}

// The evidence: each line of the log that a tenure rests on, under the id that its proof has.
std::string record_lines(const Answer& answer) {
  std::map<std::pair<size_t, uint64_t>, const model::Tenure*> wanted;
  for (const Found& one : answer.found) {
    for (const auto& at : {one.tenure->from, one.tenure->until_after, one.tenure->until}) {
      if (at)
        wanted.emplace(std::pair(one.stream, at->order), one.tenure);
    }
  }
  std::string out;
  for (const reader::KeptLine& line : answer.session.reading.kept_lines) {
    const auto one = wanted.find({line.stream, line.order});
    if (one == wanted.end())
      continue;
    const model::Tenure& tenure = *one->second;
    std::string proof;
    for (const auto& at : {tenure.from, tenure.until_after, tenure.until}) {
      if (at && at->order == line.order)
        proof = model::proof_of(*at);
    }
    out += fmt::format(R"({{"proof":{},"node":{},"text":{}}})", json(proof),
                       tenure.node.empty() ? "null" : json(tenure.node), json(line.text));
    out += '\n';
  }
  return out;
}

int write_page(const Answer& answer, const reader::GuestSelector& guest) {
  const std::string page = reader::render_page({.about = about(answer),
                                                .tenures = tenure_lines(answer.found),
                                                .runs = run_lines(answer, guest),
                                                .marks = answer.marks.lines(),
                                                .records = record_lines(answer)});
  const std::string& file = answer.options.html;
  if (file == "-") {
    Out out;
    out.put(page);
    return out.flush() ? to_int(ExitCode::Ok) : to_int(ExitCode::Failed);
  }
  // Not for everybody: what stands in it came from logs that only few may read.
  const Result<> written = write_file_atomic(file, page, 0600);
  return written ? to_int(ExitCode::Ok) : give_up(written.error());
}

}  // namespace

int run_report_page(const Options& options) {
  const auto range = range_of(options);
  if (!range)
    return give_up(range.error());
  reader::MarkFinder marks(*range);
  const auto early = reader::GuestSelector::loose(options.filter_guest);
  auto session = open_session(
      options, true, [&](const reader::Event& event, const reader::Stream&, uint64_t order) {
        marks.event(event, order, early);
      });
  if (!session)
    return session.error();
  reader::GuestSelector guest;
  if (!options.filter_guest.empty()) {
    auto chosen = reader::GuestSelector::find(session->reading, options.filter_guest, false);
    if (!chosen) {
      complain(chosen.error().what());
      return to_int(ExitCode::NoSuchGuest);
    }
    guest = *chosen;
  }
  Answer answer{.options = options, .session = *session, .marks = marks, .found = {}, .doubts = {}};
  answer.found =
      find_tenures(session->reading, {.guest = guest, .resource = {}, .range = session->range});
  answer.doubts = session->reading.doubts(session->range);
  if (const int code = write_page(answer, guest); code != to_int(ExitCode::Ok))
    return code;
  return conclude(options, answer.doubts, !answer.found.empty() || !marks.lines().empty());
}

}  // namespace tenure::cli
