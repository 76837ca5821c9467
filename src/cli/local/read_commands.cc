// SPDX-License-Identifier: Apache-2.0
// `tenure who`, `history` and `report`: questions to everything that was read. `log` is in
// read_log.cc.
#include <fmt/format.h>

#include "base/text.h"
#include "cli/local/commands.h"
#include "cli/local/read_render.h"
#include "cli/local/read_session.h"
#include "model/json.h"
#include "reader/select.h"
#include "reader/summary.h"

namespace tenure::cli {
namespace {

using reader::GuestSelector;
using reader::Reading;
using reader::ResourceSelector;

int no_such_guest(const Error& error) {
  complain(error.what());
  return to_int(ExitCode::NoSuchGuest);
}

int print_found(const Options& options, const Reading& reading, const std::vector<Found>& found,
                const reader::TimeRange& range) {
  if (!found.empty() || options.output() == OutputFormat::Csv)
    print_tenures(options, reading, found);
  else if (!options.quiet && options.output() == OutputFormat::Table)
    complain("not seen in this trail");
  return conclude(options, reading.doubts(range), !found.empty());
}

Result<GuestSelector> select_guest(const Reading& reading, const std::string& guest, bool glob) {
  if (guest.empty())
    return GuestSelector();
  return GuestSelector::find(reading, guest, glob);
}

int show_runs(const Options& options, const Session& session, const GuestSelector& guest) {
  std::vector<const model::Run*> runs;
  for (const reader::Stream& stream : session.reading.streams) {
    for (const model::Run& run : stream.book.runs()) {
      if (guest.matches(run.guest, run.uuid) && in_range(run, session.range))
        runs.push_back(&run);
    }
  }
  print_runs(options, runs);
  return conclude(options, session.reading.doubts(session.range), !runs.empty());
}

struct BlindSpot {
  std::string_view subject;
  std::string_view what;
};

// What libvirt 9.0 and 11.3 write no record of, whatever happens.
constexpr BlindSpot kOfLibvirt[] = {
    {"network disks", "rbd, iscsi, nbd, http and nvme disks are not recorded at all"},
    {"backing files", "of a chain of images only the top one is recorded"},
    {"block jobs", "commit, pull and the pivot of a copy are not recorded"},
    {"evdev", "an input device that is detached is not recorded: it seems held until the stop"},
    {"rng", "a random source attached to a running guest is not recorded, only its device rule"},
    {"memory", "the start says the maximum, not what is in use; balloon changes are not recorded"},
    {"interfaces", "no record names the tap, the bridge or the close of an opened device"},
    {"vsock, watchdog, controller, lease", "attach and detach are not recorded"},
    {"pause and resume", "not recorded, and neither are reboot, reset, dump and migration's start"},
    {"device rules at stop", "no record withdraws them: they end with the guest"},
    {"guests that end while libvirtd is down", "no stop is recorded"},
    {"device rules changed by others", "a write to devices.allow or a BPF program is not recorded"},
    {"who asked", "records name libvirtd only; a name with ? is a guess from commands run nearby"},
    {"failed starts", "each device says success; only the last record says failed"},
};

constexpr BlindSpot kOfLedger[] = {
    {"inside QEMU", "what the guest does with a device that it holds"},
    {"other programs", "what processes outside the guests' cgroups do to the same resources"},
};

void print_blind_spots(const Options& options, const Reading& reading) {
  Out out;
  const bool as_json = options.output() == OutputFormat::Json;
  Table table({"SUBJECT", "WHAT THE TRAIL CANNOT TELL"}, options.output() == OutputFormat::Csv,
              !options.no_legend);
  const auto add = [&](std::string_view subject, std::string_view what) {
    if (!as_json)
      return table.row({std::string(subject), std::string(what)});
    std::string& line = out.buffer();
    line += fmt::format("{{\"schema\":{},\"subject\":", model::kJsonSchema);
    model::append_json_string(line, subject);
    line += ",\"blind_spot\":";
    model::append_json_string(line, what);
    line += "}\n";
  };
  for (const reader::Stream& stream : reading.streams) {
    if (stream.ledger) {
      for (const BlindSpot& spot : kOfLedger) add(spot.subject, spot.what);
    } else {
      for (const BlindSpot& spot : kOfLibvirt) add(spot.subject, spot.what);
    }
    const model::BookCounts& counts = stream.book.counts();
    if (counts.unmatched > 0)
      add(stream.name, fmt::format("{} records end what no record had begun", counts.unmatched));
    if (counts.unknown > 0)
      add(stream.name, fmt::format("{} records of kinds that are not known", counts.unknown));
  }
  if (!as_json)
    table.print(out);
}

}  // namespace

int run_history(const Options& options) {
  auto session = open_session(options, options.output() == OutputFormat::Raw);
  if (!session)
    return session.error();
  const auto guest = select_guest(session->reading, options.guest, options.glob);
  if (!guest)
    return no_such_guest(guest.error());
  if (options.blind_spots) {
    print_blind_spots(options, session->reading);
    return conclude(options, session->reading.doubts(session->range), true);
  }
  if (options.runs)
    return show_runs(options, *session, *guest);
  const auto found =
      find_tenures(session->reading, {.guest = *guest, .resource = {}, .range = session->range});
  return print_found(options, session->reading, found, session->range);
}

int run_who(const Options& options) {
  auto session = open_session(options, options.output() == OutputFormat::Raw);
  if (!session)
    return session.error();
  const auto guest = select_guest(session->reading, options.filter_guest, false);
  if (!guest)
    return no_such_guest(guest.error());
  std::string words;
  for (const std::string& word : options.resource) words += (words.empty() ? "" : " ") + word;
  const auto found =
      find_tenures(session->reading,
                   {.guest = *guest, .resource = ResourceSelector(words), .range = session->range});
  return print_found(options, session->reading, found, session->range);
}

namespace {

reader::SummaryBy summary_by(const std::string& word) {
  using enum reader::SummaryBy;
  static constexpr std::pair<std::string_view, reader::SummaryBy> kWords[] = {
      {"guest", Guest}, {"resource", Resource}, {"who", Who}, {"day", Day}};
  for (const auto& [name, by] : kWords) {
    if (name == word)
      return by;
  }
  return Guest;
}

// "1000?" -> "alice?"; "" -> "(not told)".
std::string who_name(Users& users, const std::string& key) {
  if (key.empty())
    return "(not told)";
  const bool guess = key.back() == '?';
  const auto uid = parse_int<uint32_t>(key.substr(0, key.size() - (guess ? 1 : 0)));
  return uid ? users.name(*uid) + (guess ? "?" : "") : key;
}

std::string upper_case(std::string text) {
  for (char& c : text) c = static_cast<char>(c - 'a' + 'A');
  return text;
}

std::string seconds(const std::optional<int64_t>& ms) {
  return ms ? fmt::format("\"{}.{:03}\"", *ms / 1000, *ms % 1000) : "null";
}

void print_summary(const Options& options, const reader::Summary& summary) {
  Out out;
  Users users(options.numeric);
  const reader::Zone zone = reader::local_zone();
  const bool who = options.by == "who";
  Table table({upper_case(options.by), "RUNS", "GRANTS", "RELEASES", "OPEN", "FAILED", "REFUSED",
               "FIRST", "LAST"},
              options.output() == OutputFormat::Csv, !options.no_legend);
  for (const auto& [key, line] : summary.lines()) {
    if (options.output() == OutputFormat::Json) {
      std::string& text = out.buffer();
      text += fmt::format("{{\"schema\":{},\"by\":\"{}\",\"key\":", model::kJsonSchema, options.by);
      model::append_json_string(text, key);
      text += fmt::format(
          ",\"runs\":{},\"grants\":{},\"releases\":{},\"open\":{},\"failed\":{},\"refused\":{},"
          "\"first\":{},\"last\":{}}}\n",
          line.runs, line.grants, line.releases, line.open, line.failed, line.refused,
          seconds(line.first_ms), seconds(line.last_ms));
      continue;
    }
    const auto time = [&](const std::optional<int64_t>& ms) {
      return ms ? reader::format_time(*ms, zone) : std::string("-");
    };
    table.row({who ? who_name(users, key) : key, std::to_string(line.runs),
               std::to_string(line.grants), std::to_string(line.releases),
               std::to_string(line.open), std::to_string(line.failed), std::to_string(line.refused),
               time(line.first_ms), time(line.last_ms)});
  }
  if (options.output() != OutputFormat::Json)
    table.print(out);
}

}  // namespace

int run_report(const Options& options) {
  if (!options.html.empty())
    return run_report_page(options);
  const auto range = range_of(options);
  if (!range)
    return give_up(range.error());
  reader::Summary summary(summary_by(options.by), *range);
  const GuestSelector early = GuestSelector::loose(options.filter_guest);
  auto session = open_session(
      options, false, [&](const reader::Event& event, const reader::Stream&, uint64_t order) {
        summary.event(event, order, early);
      });
  if (!session)
    return session.error();
  const auto guest = select_guest(session->reading, options.filter_guest, false);
  if (!guest)
    return no_such_guest(guest.error());
  summary.finish(session->reading, *guest);
  print_summary(options, summary);
  return conclude(options, session->reading.doubts(session->range), !summary.lines().empty());
}

}  // namespace tenure::cli
