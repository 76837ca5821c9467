// SPDX-License-Identifier: Apache-2.0
// The line of a ledger entry. The decoder takes one form only, the one that the encoder writes: it
// encodes what it has read and compares, so no two lines mean the same entry.
#include "trail/entry.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/text.h"
#include "trail/vocabulary.h"

namespace tenure::trail {
namespace {

constexpr std::array<std::string_view, 5> kStates{"intent", "void", "confirmed", "unconfirmed",
                                                  "unsent"};

// Reads a line from the left; the first thing that does not fit stays the error.
class Scanner {
 public:
  explicit Scanner(std::string_view line) : line_(line) {}

  // The text up to `end`, which is skipped.
  std::string_view until(std::string_view end) {
    size_t stop = broken_ ? line_.npos : line_.find(end, at_);
    if (stop == line_.npos) {
      broken_ = true;
      return {};
    }
    std::string_view piece = line_.substr(at_, stop - at_);
    at_ = stop + end.size();
    return piece;
  }
  void expect(std::string_view text) {
    if (!broken_ && line_.substr(at_).starts_with(text))
      at_ += text.size();
    else
      broken_ = true;
  }
  template <class Int>
  Int number(std::string_view end) {
    size_t start = at_;
    auto value = parse_int<Int>(until(end));
    if (!value && !broken_) {
      broken_ = true;
      at_ = start;
    }
    return value.value_or(0);
  }
  void reject() { broken_ = true; }
  bool broken() const { return broken_; }
  size_t at() const { return at_; }

 private:
  std::string_view line_;
  size_t at_ = 0;
  bool broken_ = false;
};

uint16_t read_type(Scanner& scan) {
  std::string_view name = scan.until(" msg=audit(");
  for (uint16_t type = kVirtControl; !type_name(type).empty(); ++type)
    if (type_name(type) == name)
      return type;
  constexpr std::string_view kUnknown = "UNKNOWN[";
  if (name.starts_with(kUnknown) && name.ends_with(']')) {
    name = name.substr(kUnknown.size(), name.size() - kUnknown.size() - 1);
    if (auto type = parse_int<uint16_t>(name))
      return *type;
  }
  scan.reject();
  return 0;
}

EntryState read_state(Scanner& scan) {
  auto state = std::ranges::find(kStates, scan.until(" "));
  if (state == kStates.end()) {
    scan.reject();
    return {};
  }
  return static_cast<EntryState>(state - kStates.begin());
}

std::string type_text(uint16_t type) {
  std::string_view name = type_name(type);
  return name.empty() ? fmt::format("UNKNOWN[{}]", type) : std::string(name);
}

}  // namespace

std::string_view to_string(EntryState state) {
  return kStates[static_cast<size_t>(state)];
}

std::string encode_entry(const Entry& entry) {
  int64_t time_ms = std::max<int64_t>(entry.time_ms, 0);
  return fmt::format(
      "type={} msg=audit({}.{:03}:{}): state={} pid={} uid={} auid={} ses={} msg='{}'",
      type_text(entry.type), time_ms / 1000, time_ms % 1000, entry.serial, to_string(entry.state),
      entry.pid, entry.uid, entry.auid, entry.ses, entry.body);
}

Result<Entry> decode_entry(std::string_view line) {
  Scanner scan(line);
  Entry entry;
  scan.expect("type=");
  entry.type = read_type(scan);
  auto seconds = scan.number<int64_t>(".");
  auto millis = scan.number<uint16_t>(":");
  entry.serial = scan.number<uint64_t>("): state=");
  entry.state = read_state(scan);
  scan.expect("pid=");
  entry.pid = scan.number<int32_t>(" ");
  scan.expect("uid=");
  entry.uid = scan.number<uint32_t>(" ");
  scan.expect("auid=");
  entry.auid = scan.number<uint32_t>(" ");
  scan.expect("ses=");
  entry.ses = scan.number<uint32_t>(" msg='");
  size_t body = scan.at();
  if (scan.broken() || body >= line.size() || line.back() != '\'')
    return fail(Errc::Corrupt, fmt::format("ledger entry: unexpected text at byte {}",
                                           scan.broken() ? scan.at() : line.size()));
  constexpr int64_t kMaxSeconds = INT64_MAX / 1000 - 1;
  if (seconds < 0 || seconds > kMaxSeconds || millis > 999)
    return fail(Errc::Corrupt, "ledger entry: time out of range");
  entry.time_ms = seconds * 1000 + millis;
  entry.body = line.substr(body, line.size() - body - 1);
  if (std::string again = encode_entry(entry); again != line) {
    auto differs = std::ranges::mismatch(again, line).in2 - line.begin();
    return fail(Errc::Corrupt,
                fmt::format("ledger entry: not in canonical form at byte {}", differs));
  }
  return entry;
}

}  // namespace tenure::trail
