// SPDX-License-Identifier: Apache-2.0
// `tenure log`: the records as events, one a line, at once or as they come.
#include <fmt/format.h>

#include <algorithm>
#include <deque>

#include "base/text.h"
#include "cli/local/commands.h"
#include "cli/local/read_session.h"
#include "cli/output.h"
#include "reader/cursor.h"
#include "reader/event_order.h"
#include "reader/event_view.h"
#include "reader/follow.h"

namespace tenure::cli {
namespace {

using reader::Event;
using reader::EventView;

// Names the event in the chosen form.
class EventPrinter {
 public:
  explicit EventPrinter(const Options& options)
      : format_(options.output(OutputFormat::Short)),
        users_(options.numeric),
        zone_(reader::local_zone()) {}

  OutputFormat format() const { return format_; }

  std::string line(const Event& event, const EventView& view) {
    if (format_ == OutputFormat::Raw)
      return evidence(event.text);
    if (format_ == OutputFormat::Json) {
      std::string out;
      reader::append_json_line(out, view);
      out.pop_back();  // the newline
      return out;
    }
    if (format_ == OutputFormat::Csv)
      return csv(view);
    return printable(format_ == OutputFormat::Text ? sentence(view) : terse(view));
  }

  static std::vector<std::string> columns() {
    return {"TIME",     "NODE",   "GUEST",  "KIND",     "ACTION",
            "RESOURCE", "ACCESS", "RESULT", "ASKED BY", "PROOF"};
  }
  std::vector<std::string> cells(const EventView& view) {
    return {reader::format_time(view.time_ms, zone_),
            view.node,
            guest_of(view),
            view.kind,
            action_of(view),
            resource_of(view),
            view.access,
            view.result,
            who_of(view),
            view.proof};
  }

 private:
  static std::string guest_of(const EventView& view) {
    return view.guest.empty() ? view.uuid : view.guest;
  }
  static std::string action_of(const EventView& view) {
    if (view.detail.empty() || view.guest.empty())
      return view.action;
    return view.action + " (" + view.detail + ")";
  }
  static std::string resource_of(const EventView& view) {
    std::string out = view.resource;
    if (!view.old_resource.empty())
      out = view.old_resource + " -> " + out;
    const std::string device = reader::device_text(view.devtype, view.rdev);
    if (!device.empty())
      out += " (" + device + ")";
    return out;
  }
  std::string who_of(const EventView& view) {
    const auto who = view.who_auid ? view.who_auid : view.who_uid;
    return who ? users_.name(*who) : std::string();
  }

  // Empty parts leave no blanks.
  static std::string joined(const std::vector<std::string>& parts) {
    std::string out;
    for (const std::string& part : parts) {
      if (!part.empty())
        out += (out.empty() ? "" : " ") + part;
    }
    return out;
  }

  std::string terse(const EventView& view) {
    const std::string who = who_of(view);
    const bool host = view.guest.empty() && view.uuid.empty();
    return joined({reader::format_time(view.time_ms, zone_), view.node, guest_of(view), view.kind,
                   host ? view.detail : action_of(view), resource_of(view), view.access,
                   host ? "" : view.result, view.why, who.empty() ? "" : "by " + who, view.state,
                   view.proof});
  }

  std::string sentence(const EventView& view) {
    const std::string who = who_of(view);
    return joined({"At", reader::format_time(view.time_ms, zone_),
                   view.node.empty() ? "" : "on " + view.node, view.kind, action_of(view),
                   guest_of(view).empty() ? "" : "of guest " + guest_of(view),
                   resource_of(view).empty() ? "" : "for " + resource_of(view),
                   view.access.empty() ? "" : "with access " + view.access,
                   view.result.empty() ? "" : "was a " + view.result,
                   view.why.empty() ? "" : "because " + view.why,
                   who.empty() ? "" : "asked for by " + who, "[" + view.proof + "]"});
  }

  std::string csv(const EventView& view) {
    std::string out;
    for (const std::string& cell : cells(view)) out += (out.empty() ? "" : ",") + csv_cell(cell);
    return out;
  }

  OutputFormat format_;
  Users users_;
  reader::Zone zone_;
};

Result<reader::EventFilter> filter_of(const Options& options) {
  reader::EventFilter filter;
  TRY(filter.range, range_of(options));
  filter.guest = reader::GuestSelector::loose(options.filter_guest);
  filter.by_guest = !options.filter_guest.empty();
  filter.resource = reader::ResourceSelector(options.filter_resource);
  filter.by_resource = !options.filter_resource.empty();
  filter.result = options.filter_result;
  filter.kind = options.filter_kind;
  filter.node = options.node;
  if (options.filter_who.empty())
    return filter;
  filter.who = Users::find(options.filter_who);
  if (!filter.who)
    return fail(Errc::Invalid, "--who " + options.filter_who + ": no such user; give a number");
  return filter;
}

class LogCommand {
 public:
  LogCommand(const Options& options, reader::EventFilter filter)
      : options_(options),
        filter_(std::move(filter)),
        printer_(options),
        table_(EventPrinter::columns(), false, !options.no_legend) {}

  int run(reader::SourceSet set) {
    order_.begin(set);
    if (!options_.cursor_file.empty()) {
      auto cursor = reader::Cursor::load(options_.cursor_file);
      if (!cursor)
        return give_up(cursor.error());
      cursor_ = std::move(*cursor);
      cursor_->attach(set);
    }
    prepare(set);
    std::optional<reader::Follower> follower;
    const bool streams = std::all_of(set.sources.begin(), set.sources.end(), [](const auto& s) {
      return s.kind == reader::SourceKind::Stream;
    });
    if (options_.follow && !streams) {
      auto started = reader::Follower::start(set);
      if (!started)
        return give_up(started.error());
      follower = std::move(*started);
    }
    const auto read = read_all(set);
    if (!read)
      return give_up(read.error());
    if (follower)
      return follow(*follower);
    return finish();
  }

 private:
  struct Line {
    int64_t time_ms;
    std::string text;
    std::vector<std::string> cells;
  };

  // Lines are held back where their order is not yet known, or only the last are wanted.
  void prepare(const reader::SourceSet& set) {
    limit_ = options_.lines;
    if (options_.follow && !limit_)
      limit_ = 10;
    const bool streams = std::any_of(set.sources.begin(), set.sources.end(), [](const auto& s) {
      return s.kind == reader::SourceKind::Stream && s.size == 0;
    });
    if (options_.follow && streams)
      limit_.reset();  // a pipe has no end to count from
    ledgers_ = static_cast<size_t>(
        std::count_if(set.sources.begin(), set.sources.end(),
                      [](const auto& s) { return s.kind == reader::SourceKind::Ledger; }));
    several_ = ledgers_ > 1 || (ledgers_ == 1 && set.sources.size() > 1);
    table_form_ = printer_.format() == OutputFormat::Table && !options_.follow;
    hold_ = limit_ || options_.reverse || several_;
    if (printer_.format() == OutputFormat::Csv && !options_.no_legend) {
      std::string header;
      for (const std::string& column : EventPrinter::columns())
        header += (header.empty() ? "" : ",") + csv_cell(column);
      out_.line(header);
    }
  }

  Result<> read_all(reader::SourceSet& set) {
    reader::ReadOptions read{.threads = 0, .progress = progress_bar(options_)};
    TRY_OK(reader::read_sources(set, read, [&](reader::Batch batch) {
      take(batch);
      if (options_.follow && !hold_)
        out_.flush();
      return true;
    }));
    release();
    return {};
  }

  void take(const reader::Batch& batch) {
    order_.add(batch.damage);
    for (const Event& event : batch.events) take(event);
  }

  void take(const Event& event) {
    const auto place = order_.place(event);
    if (!place)
      return;
    if (cursor_ && cursor_->passed(event))
      return;
    if (!may_match(event, filter_))
      return;
    EventView view = events_.read(event, place->order);
    if (place->stream != 0)
      view.entry = place->order;
    if (!matches(view, filter_))
      return;
    found_ = true;
    Line line{view.time_ms, {}, {}};
    if (table_form_)
      line.cells = printer_.cells(view);
    else
      line.text = printer_.line(event, view);
    if (!hold_)
      return print(std::move(line));
    held_.push_back(std::move(line));
    if (limit_ && !several_ && held_.size() > *limit_)
      held_.pop_front();
  }

  void print(Line line) {
    if (table_form_)
      table_.row(std::move(line.cells));
    else
      out_.line(line.text);
  }

  void release() {
    if (several_) {
      std::stable_sort(held_.begin(), held_.end(),
                       [](const Line& a, const Line& b) { return a.time_ms < b.time_ms; });
    }
    while (limit_ && held_.size() > *limit_) held_.pop_front();
    if (options_.reverse)
      std::reverse(held_.begin(), held_.end());
    for (Line& line : held_) print(std::move(line));
    held_.clear();
    hold_ = false;
    if (table_form_)
      table_.print(out_);
    out_.flush();
  }

  int follow(reader::Follower& follower) {
    order_.hand_over(follower);
    while (out_.flush()) {
      const auto more = follower.poll(-1, [&](const reader::Batch& batch) { take(batch); });
      if (!more)
        return give_up(more.error());
      if (const int code = store_cursor(); code != 0)
        return code;
    }
    return to_int(ExitCode::Failed);
  }

  int store_cursor() const {
    if (!cursor_)
      return 0;
    const auto stored = cursor_->store(options_.cursor_file);
    return stored ? 0 : give_up(stored.error());
  }

  int finish() {
    if (!out_.flush()) {
      complain("standard output cannot be written");
      return to_int(ExitCode::Failed);
    }
    if (const int code = store_cursor(); code != 0)
      return code;
    return conclude(options_, order_.doubts(filter_.range), found_);
  }

  const Options& options_;
  reader::EventFilter filter_;
  EventPrinter printer_;
  reader::EventReader events_;
  reader::EventOrder order_;
  std::optional<reader::Cursor> cursor_;
  std::deque<Line> held_;
  Table table_;
  Out out_;
  std::optional<uint64_t> limit_;
  size_t ledgers_ = 0;
  bool several_ = false;
  bool table_form_ = false;
  bool hold_ = false;
  bool found_ = false;
};

}  // namespace

int run_log(const Options& options) {
  auto filter = filter_of(options);
  if (!filter)
    return give_up(filter.error());
  auto sources = sources_of(options);
  if (!sources)
    return give_up(sources.error());
  return LogCommand(options, std::move(*filter)).run(std::move(*sources));
}

}  // namespace tenure::cli
