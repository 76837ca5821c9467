// SPDX-License-Identifier: Apache-2.0
#include "reader/select.h"

#include <fnmatch.h>

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"

namespace tenure::reader {
namespace {

constexpr std::string_view kHexDashes = "0123456789abcdef-";

bool only(std::string_view text, std::string_view allowed) {
  return !text.empty() && text.find_first_not_of(allowed) == std::string_view::npos;
}

bool is_mac(std::string_view text) {
  return text.size() == 17 && std::count(text.begin(), text.end(), ':') == 5 &&
         only(text, "0123456789abcdef:");
}

// "5:0.0", "05:00.0", "0000:05:00.0" -> "0000:05:00.0"; "1.2" -> "001.002"; "" for no address.
std::string address(std::string_view text) {
  const size_t dot = text.rfind('.');
  if (dot == std::string_view::npos)
    return {};
  const auto colons = std::count(text.begin(), text.end(), ':');
  if (colons == 0) {
    const auto bus = parse_int<uint16_t>(text.substr(0, dot));
    const auto device = parse_int<uint16_t>(text.substr(dot + 1));
    return bus && device ? fmt::format("{:03}.{:03}", *bus, *device) : std::string();
  }
  const size_t last = text.rfind(':');
  const size_t first = text.find(':');
  const std::string_view bus =
      colons == 1 ? text.substr(0, last) : text.substr(first + 1, last - first - 1);
  const auto domain = parse_int<uint32_t>(colons == 2 ? text.substr(0, first) : "0", 16);
  const auto bus_number = parse_int<uint8_t>(bus, 16);
  const auto slot = parse_int<uint8_t>(text.substr(last + 1, dot - last - 1), 16);
  const auto function = parse_int<uint8_t>(text.substr(dot + 1), 16);
  if (colons > 2 || !domain || !bus_number || !slot || !function)
    return {};
  return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", *domain, *bus_number, *slot, *function);
}

}  // namespace

std::string lower_case(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return out;
}

std::string device_text(char devtype, std::string_view rdev) {
  const size_t colon = rdev.find(':');
  const auto major = parse_int<uint32_t>(rdev.substr(0, colon), 16);
  if (!major || colon == std::string_view::npos)
    return {};
  const std::string_view rest = rdev.substr(colon + 1);
  const auto minor = parse_int<uint32_t>(rest, 16);
  if (!minor && rest != "*")
    return {};
  const std::string type = devtype == 0 ? "" : std::string(1, devtype) + " ";
  return fmt::format("{}{}:{}", type, *major, minor ? std::to_string(*minor) : "*");
}

Result<GuestSelector> GuestSelector::find(const Reading& reading, const std::string& text,
                                          bool glob) {
  GuestSelector selector;
  selector.all_ = false;
  const std::string uuid = lower_case(text);
  std::set<std::string, std::less<>> by_prefix;
  for (const Stream& stream : reading.streams) {
    for (const model::Run& run : stream.book.runs()) {
      const std::string name(run.guest.view());
      const bool named = glob ? ::fnmatch(text.c_str(), name.c_str(), 0) == 0 : name == text;
      if (named)
        selector.names_.insert(name);
      if (!glob && !run.uuid.empty() && run.uuid.view().starts_with(uuid))
        by_prefix.insert(std::string(run.uuid.view()));
    }
  }
  if (!selector.names_.empty())
    return selector;
  if (by_prefix.size() == 1 || by_prefix.contains(uuid)) {
    selector.uuids_.insert(by_prefix.size() == 1 ? *by_prefix.begin() : uuid);
    return selector;
  }
  if (by_prefix.size() > 1) {
    return fail(Errc::NotFound, fmt::format("guest {}: {} uuids begin so; give more of it",
                                            printable(text), by_prefix.size()));
  }
  return fail(Errc::NotFound, "guest " + printable(text) +
                                  ": not seen in this trail (names match exactly; see --glob)");
}

GuestSelector GuestSelector::loose(const std::string& text) {
  GuestSelector selector;
  selector.all_ = text.empty();
  selector.names_.insert(text);
  constexpr size_t kLeast = 4;  // a shorter word is a name
  if (text.size() >= kLeast && only(lower_case(text), kHexDashes))
    selector.prefix_ = lower_case(text);
  return selector;
}

bool GuestSelector::matches(std::string_view name, std::string_view uuid) const {
  if (all_ || names_.contains(name) || uuids_.contains(uuid))
    return true;
  return !prefix_.empty() && lower_case(uuid).starts_with(prefix_);
}

ResourceSelector::ResourceSelector(const std::string& text) : text_(trim(text)) {
  const std::string low = lower_case(text_);
  std::string_view number = low;
  if (number.starts_with("b ") || number.starts_with("c ")) {
    devtype_ = number[0];
    number = trim(number.substr(2));
  }
  const size_t colon = number.find(':');
  const auto major = parse_int<uint32_t>(number.substr(0, colon));
  const auto minor = colon == std::string_view::npos
                         ? std::nullopt
                         : parse_int<uint32_t>(number.substr(colon + 1));
  if (low == "mem" || low == "vcpu" || low == "iothread") {
    form_ = Form::Kind;
    text_ = low;
  } else if (is_mac(low)) {
    form_ = Form::Mac;
    text_ = low;
  } else if (major && minor) {
    form_ = Form::Device;
    major_ = *major;
    minor_ = *minor;
  } else if (const std::string known = address(low); !known.empty()) {
    form_ = Form::Address;
    text_ = known;
  } else {
    form_ = Form::Path;
  }
}

bool ResourceSelector::matches_device(const Thing& thing) const {
  if (devtype_ != 0 && thing.devtype != 0 && thing.devtype != devtype_)
    return false;
  const size_t colon = thing.rdev.find(':');
  if (colon == std::string_view::npos)
    return false;
  if (parse_int<uint32_t>(thing.rdev.substr(0, colon), 16) != major_)
    return false;
  const std::string_view minor = thing.rdev.substr(colon + 1);
  return minor == "*" || parse_int<uint32_t>(minor, 16) == minor_;
}

bool ResourceSelector::matches(const Thing& thing) const {
  switch (form_) {
    case Form::All:
      return true;
    case Form::Kind:
      return thing.kind == text_;
    case Form::Path:
      return thing.id == text_;
    case Form::Device:
      return matches_device(thing);
    case Form::Mac:
      return lower_case(thing.id) == text_ || lower_case(thing.holder) == text_;
    case Form::Address:
      return thing.id == text_ || address(lower_case(thing.id)) == text_;
  }
  return false;
}

ResourceSelector::Thing ResourceSelector::thing_of(const model::Tenure& tenure) {
  return {.kind = tenure.kind,
          .id = tenure.id,
          .rdev = tenure.rdev,
          .category = tenure.category,
          .holder = tenure.holder,
          .devtype = tenure.devtype};
}

namespace {
std::optional<int64_t> time_of(const std::optional<model::Position>& at) {
  return at ? std::optional(at->time_ms) : std::nullopt;
}
}  // namespace

bool in_range(const model::Tenure& tenure, const TimeRange& range) {
  return range.meets(time_of(tenure.from), time_of(tenure.until));
}

bool in_range(const model::Run& run, const TimeRange& range) {
  return range.meets(time_of(run.start), time_of(run.end));
}

}  // namespace tenure::reader
