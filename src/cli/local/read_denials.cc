// SPDX-License-Identifier: Apache-2.0
// `tenure denials`: what the fence refused, with the rule that came nearest and the claim that
// would have let it through. The rules are those that the guest held at that place of the trail.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/device_number.h"
#include "base/identity.h"
#include "base/text.h"
#include "cli/local/commands.h"
#include "cli/local/read_session.h"
#include "cli/output.h"
#include "model/json.h"
#include "model/tenure_book.h"
#include "reader/event_order.h"
#include "reader/follow.h"
#include "reader/pipeline.h"
#include "reader/select.h"
#include "trail/decode.h"

namespace tenure::cli {
namespace {

using nlohmann::json;
using reader::Event;
using trail::Record;

struct Denial {
  int64_t time_ms = 0;
  std::string node;
  Record record{trail::Kind::Denial};
  std::string nearest;  // "c 1:3 rw (/dev/null)"; "" if the guest has nothing like it
  std::string claim;    // what would have allowed it

  std::string get(std::string_view key) const { return std::string(record.get(key).value_or("")); }
};

// What in a definition claims devices of a kind, by the numbers of Documentation/admin-guide/
// devices.txt; the first row that fits counts.
struct Remedy {
  char devtype;
  int major, minor;  // -1: any
  std::string_view claim;
};
constexpr Remedy kRemedies[] = {
    {'c', 10, 232, "<domain type='kvm'>"},
    {'c', 10, 200, "<interface type='bridge'>: tenured opens it and passes it on"},
    {'c', 10, 238, "<interface> with <driver name='vhost'/>: tenured opens it and passes it on"},
    {'c', 136, -1, "<console type='pty'> or <serial type='pty'>"},
    {'c', 5, 2, "base_devices in tenure.conf"},
    {'c', 116, -1, "<sound>"},
    {'c', 13, -1, "<input type='evdev'>"},
    {'c', 1, 8, "<rng> with <backend model='random'>, or base_devices in tenure.conf"},
    {'c', 1, 9, "<rng> with <backend model='random'>, or base_devices in tenure.conf"},
    {'c', 10, 183, "<rng> with <backend model='random'>"},
    {'c', 1, -1, "base_devices in tenure.conf"},
    {'c', -1, -1, "<serial type='dev'>, or base_devices in tenure.conf"},
    {'b', -1, -1, "<disk type='block'>"},
};

struct Number {
  char devtype = 0;
  uint32_t major = 0;
  std::optional<uint32_t> minor;
};

std::optional<Number> number_of(std::string_view devtype, std::string_view rdev) {
  auto parts = split(rdev, ':');
  if (parts.size() != 2 || devtype.empty())
    return std::nullopt;
  auto major = parse_int<uint32_t>(parts[0], 16);
  auto minor = parse_int<uint32_t>(parts[1], 16);
  if (!major || (!minor && parts[1] != "*"))
    return std::nullopt;
  return Number{devtype[0], *major, minor};
}

std::string claim_for(const Number& device, const std::string& path, const std::string& access,
                      bool has_rule) {
  auto fits = [&](const Remedy& r) {
    return r.devtype == device.devtype &&
           (r.major < 0 || r.major == static_cast<int>(device.major)) &&
           (r.minor < 0 || (device.minor && r.minor == static_cast<int>(*device.minor)));
  };
  auto remedy = std::ranges::find_if(kRemedies, fits);
  std::string claim = remedy == std::end(kRemedies) ? "none" : std::string(remedy->claim);
  if (device.devtype == 'b')
    claim += fmt::format(" with <source dev='{}'/>", path.empty() ? "PATH" : path);
  if (device.devtype == 'b' && access.contains('w'))
    claim += has_rule ? " and without <readonly/>" : "";
  if (access.contains('m'))
    return "none: guests may not make device nodes";
  return claim;
}

// The open rule that shares most with the device: the very number, else its major.
const model::Tenure* nearest_rule(model::TenureBook& book, std::string_view uuid,
                                  const Number& device) {
  const model::Tenure* best = nullptr;
  int most = 0;
  for (const model::Tenure* tenure : book.open_tenures(uuid)) {
    if (std::string_view(tenure->kind) != "cgroup" || tenure->devtype != device.devtype)
      continue;
    auto rule = number_of(std::string_view(&tenure->devtype, 1), tenure->rdev);
    if (!rule || rule->major != device.major)
      continue;
    int shares = rule->minor == device.minor ? 3 : !rule->minor ? 2 : 1;
    if (shares > most) {
      most = shares;
      best = tenure;
    }
  }
  return best;
}

class DenialsCommand {
 public:
  DenialsCommand(const Options& options, reader::TimeRange range)
      : options_(options),
        range_(range),
        guest_(reader::GuestSelector::loose(options.guest)),
        format_(options.output()),
        users_(options.numeric),
        zone_(reader::local_zone()),
        table_(columns(), format_ == OutputFormat::Csv, !options.no_legend) {}

  int run(reader::SourceSet set) {
    order_.begin(set);
    std::optional<reader::Follower> follower;
    if (options_.follow) {
      auto started = reader::Follower::start(set);
      if (!started)
        return give_up(started.error());
      follower = std::move(*started);
    }
    reader::ReadOptions read{.threads = 0, .progress = progress_bar(options_)};
    auto done = reader::read_sources(set, read, [&](reader::Batch batch) {
      take(batch);
      return true;
    });
    if (!done)
      return give_up(done.error());
    if (follower)
      return follow(*follower);
    if (in_table())
      table_.print(out_);
    if (!out_.flush()) {
      complain("standard output cannot be written");
      return to_int(ExitCode::Failed);
    }
    if (!options_.guest.empty() && !seen_)
      return no_such_guest();
    return finish();
  }

 private:
  static std::vector<std::string> columns() {
    return {"LAST", "GUEST", "DEVICE", "PATH",  "ACCESS",       "PID",
            "COMM", "UID",   "COUNT",  "PROBE", "NEAREST RULE", "WOULD ALLOW"};
  }
  bool in_table() const {
    return format_ == OutputFormat::Csv || (format_ != OutputFormat::Json && !options_.follow);
  }

  void take(const reader::Batch& batch) {
    order_.add(batch.damage);
    for (const Event& event : batch.events) take(event);
  }

  void take(const Event& event) {
    const auto place = order_.place(event);
    if (!place)
      return;
    auto record = trail::decode_record(event.view);
    if (record && guest_.matches(record->get("vm").value_or(""), record->get("uuid").value_or("")))
      seen_ = true;
    if (!record || record->kind != trail::Kind::Denial) {
      books_[place->stream].apply(event.view, place->order);
      return;
    }
    const int64_t time_ms = trail::time_ms(event.view);
    if (!range_.meets(time_ms, time_ms) ||
        !guest_.matches(record->get("vm").value_or(""), record->get("uuid").value_or("")))
      return;
    show(understand(books_[place->stream],
                    Denial{time_ms, std::string(event.view.node), std::move(*record), {}, {}}));
  }

  static Denial understand(model::TenureBook& book, Denial denial) {
    auto device = number_of(denial.get("devtype"), denial.get("rdev"));
    if (!device)
      return denial;
    const model::Tenure* rule = nearest_rule(book, denial.get("uuid"), *device);
    bool very_device = false;
    if (rule != nullptr) {
      auto number = number_of(denial.get("devtype"), rule->rdev);
      very_device = number && number->minor == device->minor;
      denial.nearest = fmt::format("{} {} ({})", reader::device_text(rule->devtype, rule->rdev),
                                   std::string_view(rule->access), std::string_view(rule->id));
    }
    denial.claim = claim_for(*device, denial.get("path"), denial.get("acl"), very_device);
    return denial;
  }

  std::string device_of(const Denial& denial) const {
    std::string devtype = denial.get("devtype");
    std::string text = reader::device_text(devtype.empty() ? '\0' : devtype[0], denial.get("rdev"));
    return text.empty() ? "?" : text;
  }

  std::string user_of(const Denial& denial) {
    auto uid = parse_int<uint32_t>(denial.get("by-uid"));
    return uid ? users_.name(*uid) : "?";
  }

  std::vector<std::string> cells(const Denial& denial) {
    auto last = parse_int<int64_t>(denial.get("last")).value_or(denial.time_ms);
    return {reader::format_time(last, zone_),
            denial.get("vm"),
            device_of(denial),
            denial.get("path"),
            denial.get("acl"),
            denial.get("by-pid"),
            denial.get("by-comm"),
            user_of(denial),
            denial.get("count"),
            denial.get("probe"),
            denial.nearest.empty() ? "none" : denial.nearest,
            denial.claim};
  }

  // The Denial of tenure-json(5).
  json object(const Denial& denial) const {
    auto number = [&](std::string_view key) -> json {
      auto value = parse_int<uint64_t>(denial.get(key));
      return value ? json(*value) : json(nullptr);
    };
    auto id = [&](std::string_view key) -> json {
      auto value = number(key);
      return value == kUnsetId ? json(nullptr) : value;
    };
    // With its rule for what is not UTF-8.
    auto text = [](const std::string& value) -> json {
      std::string quoted;
      model::append_json_string(quoted, value);
      return value.empty() ? json(nullptr) : json::parse(quoted);
    };
    auto time = [&](std::string_view key) -> json {
      auto ms = parse_int<uint64_t>(denial.get(key));
      return ms ? json(fmt::format("{}.{:03}", *ms / 1000, *ms % 1000)) : json(nullptr);
    };
    return {{"schema", model::kJsonSchema},
            {"node", text(denial.node)},
            {"guest", text(denial.get("vm"))},
            {"uuid", denial.get("uuid")},
            {"run", number("run")},
            {"device", device_of(denial)},
            {"path", text(denial.get("path"))},
            {"access", denial.get("acl")},
            {"pid", number("by-pid")},
            {"comm", text(denial.get("by-comm"))},
            {"uid", id("by-uid")},
            {"auid", id("by-auid")},
            {"first", time("first")},
            {"last", time("last")},
            {"count", number("count")},
            {"probe", text(denial.get("probe"))},
            {"nearest_rule", text(denial.nearest)},
            {"would_allow", text(denial.claim)}};
  }

  void show(const Denial& denial) {
    found_ = true;
    if (format_ == OutputFormat::Json) {
      out_.line(object(denial).dump(-1, ' ', false, json::error_handler_t::replace));
    } else if (in_table()) {
      table_.row(cells(denial));
    } else {
      std::string line;
      for (const std::string& cell : cells(denial))
        line += (line.empty() ? "" : "  ") + (cell.empty() ? "-" : cell);
      out_.line(printable(line));
    }
  }

  int follow(reader::Follower& follower) {
    order_.hand_over(follower);
    while (out_.flush()) {
      const auto more = follower.poll(-1, [&](const reader::Batch& batch) { take(batch); });
      if (!more)
        return give_up(more.error());
    }
    return to_int(ExitCode::Failed);
  }

  int no_such_guest() const {
    complain(fmt::format("no guest '{}' in the trail", options_.guest));
    return to_int(ExitCode::NoSuchGuest);
  }

  int finish() { return conclude(options_, order_.doubts(range_), found_); }

  const Options& options_;
  reader::TimeRange range_;
  reader::GuestSelector guest_;
  OutputFormat format_;
  Users users_;
  reader::Zone zone_;
  Table table_;
  Out out_;
  reader::EventOrder order_;
  std::map<uint32_t, model::TenureBook> books_;  // by stream
  bool seen_ = false;                            // the guest is in the trail
  bool found_ = false;
};

}  // namespace

int run_denials(const Options& options) {
  auto range = range_of(options);
  if (!range)
    return give_up(range.error());
  auto sources = sources_of(options);
  if (!sources)
    return give_up(sources.error());
  return DenialsCommand(options, *range).run(std::move(*sources));
}

}  // namespace tenure::cli
