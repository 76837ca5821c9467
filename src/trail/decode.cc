// SPDX-License-Identifier: Apache-2.0
// The frame of an audit line: prefix, node, type, event id, body, enrichment; and the damage that
// lines take on their way (cut, glued, NULs). Fields are in fields.cc.
#include "trail/decode.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/text.h"
#include "trail/bytes.h"

namespace tenure::trail {
namespace {

constexpr char kTailMark = '\x1D';  // AUDIT_INTERP_SEPARATOR of auditd
constexpr size_t kMaxPrefix = 340;  // what ausearch looks at, and more than any syslog header
constexpr uint64_t kMaxSerial = UINT32_MAX;
constexpr int64_t kMaxSeconds = INT64_MAX / 1000 - 1;  // times are counted in ms

struct TypeName {
  std::string_view name;
  uint16_t type;
};

// Beyond the VIRT_ types. Sorted by name.
constexpr TypeName kContextTypes[] = {
    {"ANOM_ABEND", kAnomAbend},
    {"ANOM_PROMISCUOUS", kAnomPromiscuous},
    {"AVC", kAvc},
    {"CONFIG_CHANGE", kConfigChange},
    {"CRED_ACQ", 1103},
    {"CRED_DISP", 1104},
    {"CRED_REFR", 1110},
    {"DAEMON_ABORT", kDaemonAbort},
    {"DAEMON_CONFIG", 1203},
    {"DAEMON_END", kDaemonEnd},
    {"DAEMON_ERR", kDaemonErr},
    {"DAEMON_RESUME", 1206},
    {"DAEMON_ROTATE", kDaemonRotate},
    {"DAEMON_START", kDaemonStart},
    {"EXECVE", kExecve},
    {"LOGIN", 1006},
    {"SERVICE_START", 1130},
    {"SERVICE_STOP", 1131},
    {"SYSCALL", kSyscall},
    {"SYSTEM_BOOT", kSystemBoot},
    {"SYSTEM_RUNLEVEL", 1129},
    {"SYSTEM_SHUTDOWN", kSystemShutdown},
    {"USER", 1005},
    {"USER_ACCT", 1101},
    {"USER_AUTH", 1100},
    {"USER_CMD", kUserCmd},
    {"USER_END", 1106},
    {"USER_LOGIN", 1112},
    {"USER_LOGOUT", 1113},
    {"USER_START", 1105},
};
static_assert(std::ranges::is_sorted(kContextTypes, {}, &TypeName::name));

uint16_t type_of(std::string_view name) {
  if (name == "VIRT_RESOURCE")
    return kVirtResource;
  if (name.starts_with("VIRT_")) {
    for (uint16_t type = kVirtControl; type <= kVirtMigrateOut; ++type)
      if (type_name(type) == name)
        return type;
    return 0;
  }
  constexpr std::string_view kUnknown = "UNKNOWN[";
  if (name.starts_with(kUnknown) && name.ends_with(']'))
    name = name.substr(kUnknown.size(), name.size() - kUnknown.size() - 1);
  if (auto number = parse_int<uint16_t>(name))
    return *number;
  auto row = std::ranges::lower_bound(kContextTypes, name, {}, &TypeName::name);
  return row != std::end(kContextTypes) && row->name == name ? row->type : uint16_t{0};
}

bool is_type_byte(char c) {
  return (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_' || c == '[' || c == ']';
}

// A cursor over the frame; offsets are those of the line as it was given.
struct Cursor {
  const char* begin;
  const char* at;
  const char* end;

  size_t offset() const { return static_cast<size_t>(at - begin); }
  std::string_view rest() const { return {at, end}; }
  bool take(std::string_view text) {
    if (!rest().starts_with(text))
      return false;
    at += text.size();
    return true;
  }
  // Up to the next blank.
  std::string_view word() {
    const char* start = at;
    at = find_byte(at, end, ' ');
    return {start, at};
  }
  std::unexpected<LineError> fault(LineFault why) const {
    return std::unexpected(LineError{.fault = why, .offset = offset(), .resume = 0});
  }
};

// Digits as a number; false if there are none, or more than it holds.
template <class Int>
bool take_number(Cursor& in, Int& value) {
  if (in.at == in.end || !is_digit(*in.at))
    return false;
  auto [stop, error] = std::from_chars(in.at, in.end, value);
  if (error != std::errc{})
    return false;
  in.at = stop;
  return true;
}

// "SEC[.MMM]:SERIAL):" and the blank after it.
std::expected<void, LineError> take_event_id(Cursor& in, LineView& view) {
  const char* start = in.at;
  if (!take_number(in, view.sec) || view.sec > kMaxSeconds)
    return in.fault(LineFault::Header);
  if (in.at != in.end && *in.at == '/') {  // ausearch -i: 07/01/2025 00:00:00.035:35
    in.at = start;
    return in.fault(LineFault::Interpreted);
  }
  if (in.take(".")) {
    const char* digits = in.at;
    if (!take_number(in, view.ms) || in.at - digits > 3)
      return in.fault(LineFault::Header);
  }
  if (!in.take(":") || !take_number(in, view.serial) || view.serial > kMaxSerial || !in.take("):"))
    return in.fault(LineFault::Header);
  in.take(" ");
  return {};
}

// Who writes `word: ` before an audit record: the kernel and auditd's syslog plugin, old and new.
bool is_relay(std::string_view word) {
  if (size_t bracket = word.find('['); bracket != word.npos && word.ends_with(']'))
    word = word.substr(0, bracket);
  return word == "audit" || word == "audispd" || word == "audisp-syslog";
}

// Skips "Jul  1 00:00:00 host audispd: " or "[   1.2] audit: ".
std::expected<void, LineError> skip_prefix(Cursor& in) {
  std::string_view head = in.rest().substr(0, kMaxPrefix);
  for (size_t colon = head.find(": "); colon != head.npos; colon = head.find(": ", colon + 1)) {
    size_t blank = head.substr(0, colon).rfind(' ');
    std::string_view word = head.substr(blank + 1, colon - blank - 1);  // npos + 1 is 0
    if (!is_relay(word))
      continue;
    std::string_view record = in.rest().substr(colon + 2);
    in.at += colon + 2;
    if (record.starts_with("type=") || record.starts_with("node="))
      return {};
    return in.fault(LineFault::NoId);
  }
  return in.fault(LineFault::Foreign);
}

bool is_blank(std::string_view line) {
  return line.empty() || line.find_first_not_of(" \t") == line.npos || line == "----" ||
         line.starts_with("time->");
}

// Behind the quote that ends the body stands nothing, or enrichment from which a shipper of logs
// has stripped the 0x1D (UID="root" …).
bool is_bare_tail(std::string_view rest) {
  size_t upper = 0;
  while (upper < rest.size() && ((rest[upper] >= 'A' && rest[upper] <= 'Z') || rest[upper] == '_'))
    ++upper;
  return upper > 0 && rest.substr(upper).starts_with("=\"");
}

// True if the last value lacks its closing quote: then a "'" behind it is part of that value.
bool ends_inside_value(std::string_view body) {
  if (body.ends_with(" res=success") || body.ends_with(" res=failed"))
    return false;
  Fields fields(body);
  Field last;
  for (Field field; fields.next(field);) last = field;
  return last.unterminated;
}

// The body goes to the last quote, since a value may hold one (vm="o'brien"). If anything but
// enrichment follows it, that quote is part of a value and the end of the body is missing.
void split_body(LineView& view, std::string_view text) {
  size_t quote = text.rfind('\'');
  std::string_view rest = quote == text.npos ? text : text.substr(quote + 1);
  while (rest.ends_with(' ')) rest.remove_suffix(1);
  bool ended = quote != text.npos && (rest.empty() || is_bare_tail(rest)) &&
               !ends_inside_value(text.substr(0, quote));
  view.truncated = !ended;
  view.body = ended ? text.substr(0, quote) : text;
  if (ended && view.tail.empty())
    view.tail = rest;
}

// What follows the event id, as far as the enrichment.
void split_text(LineView& view, std::string_view text) {
  if (const void* mark = std::memchr(text.data(), kTailMark, text.size())) {
    size_t at = static_cast<size_t>(static_cast<const char*>(mark) - text.data());
    view.tail = text.substr(at + 1);
    text = text.substr(0, at);
  }
  for (size_t quote = text.find('\''); quote != text.npos; quote = text.find('\'', quote + 1)) {
    constexpr std::string_view kMsg = "msg=";
    if (!text.substr(0, quote).ends_with(kMsg))
      continue;
    size_t start = quote - kMsg.size();
    if (start > 0 && text[start - 1] != ' ')
      continue;
    view.has_body = true;
    view.outer = text.substr(0, start);
    split_body(view, text.substr(quote + 1));
    return;
  }
  view.outer = text;
}

// True if byte `at` of `text` stands inside a whole quoted value: then it is data.
bool is_quoted_data(std::string_view text, size_t at) {
  Fields fields(text);
  for (Field field; fields.next(field);) {
    size_t start = static_cast<size_t>(field.raw.data() - text.data());
    if (at < start)
      return false;
    if (at >= start + field.raw.size())
      continue;
    // A cut value would run on to the first quote of the next record.
    return field.quoted && !field.unterminated && field.raw.find('"') == field.raw.npos;
  }
  return false;
}

// Where the record whose " msg=audit(" ends at byte `paren` begins: at its node= or type=; 0 if it
// does not look like one.
size_t start_of_record(std::string_view text, size_t paren) {
  constexpr std::string_view kId = " msg=audit(";
  constexpr std::string_view kType = "type=";
  constexpr std::string_view kNode = "node=";
  if (!text.substr(0, paren + 1).ends_with(kId))
    return 0;
  size_t name = paren + 1 - kId.size();
  while (name > 0 && is_type_byte(text[name - 1])) --name;
  if (!text.substr(0, name).ends_with(kType))
    return 0;
  size_t start = name - kType.size();
  if (start == 0 || text[start - 1] != ' ')
    return start;
  size_t blank = text.substr(0, start - 1).rfind(' ');
  size_t word = blank == text.npos ? 0 : blank + 1;
  size_t node = text.substr(word, start - word).find(kNode);
  return node == text.npos ? start : word + node;
}

// Byte of `text` where a second record begins, 0 if there is none.
size_t find_glued(std::string_view text) {
  int left = 16;  // quoted candidates that are looked at: a bound on the work for a hostile line
  for (size_t paren = text.find('('); paren != text.npos && left > 0;
       paren = text.find('(', paren + 1)) {
    size_t start = start_of_record(text, paren);
    if (start == 0)
      continue;
    if (!is_quoted_data(text, start))
      return start;
    --left;
  }
  return 0;
}

std::string_view strip_end(std::string_view line) {
  if (line.ends_with('\n'))
    line.remove_suffix(1);
  if (line.ends_with('\r'))
    line.remove_suffix(1);
  return line;
}

void read_state(LineView& view) {
  constexpr std::string_view kKey = "state=";
  if (!view.outer.starts_with(kKey))
    return;
  std::string_view word = view.outer.substr(kKey.size());
  word = word.substr(0, word.find(' '));
  for (auto state : {EntryState::Intent, EntryState::Void, EntryState::Confirmed,
                     EntryState::Unconfirmed, EntryState::Unsent})
    if (word == to_string(state))
      view.state = state;
}

constexpr std::string_view kFaultTexts[] = {
    "an empty line or a separator",
    "not an audit record",
    "an audit record without the id of its event; use journalctl -o export, or auditd's raw log",
    "output of ausearch -i, which has lost the numbers; use ausearch --raw",
    "an audit record whose msg=audit(SECONDS.MMM:SERIAL): cannot be read",
    "a line longer than any audit record",
};

}  // namespace

std::string_view to_string(LineFault fault) {
  return kFaultTexts[static_cast<size_t>(fault)];
}

Error to_error(const LineError& error) {
  return {Errc::Invalid, fmt::format("byte {}: {}", error.offset, to_string(error.fault))};
}

LineView decode_parts(uint16_t type, int64_t sec, uint16_t ms, uint64_t serial,
                      std::string_view text) {
  LineView view;
  view.type = type;
  view.type_name = type_name(type);
  view.sec = std::clamp<int64_t>(sec, 0, kMaxSeconds);
  view.ms = ms;
  view.serial = serial;
  split_text(view, strip_end(text));
  return view;
}

namespace {

std::expected<LineView, LineError> decode_frame(Cursor in) {
  LineView view;
  while (in.at != in.end && *in.at == '\0') {
    ++in.at;
    view.nuls = true;
  }
  if (is_blank(in.rest()) && !view.nuls)
    return in.fault(LineFault::Blank);
  if (!in.rest().starts_with("type=") && !in.rest().starts_with("node=")) {
    view.prefixed = true;
    if (auto skipped = skip_prefix(in); !skipped)
      return std::unexpected(skipped.error());
  }
  if (in.take("node=")) {
    view.node = in.word();
    in.take(" ");
  }
  if (!in.take("type="))
    return in.fault(LineFault::Header);
  view.type_name = in.word();
  view.type = type_of(view.type_name);
  // The kernel's own log has no "msg=".
  if (!in.take(" msg=audit(") && !(view.prefixed && in.take(" audit(")))
    return in.fault(LineFault::Header);
  if (auto id = take_event_id(in, view); !id)
    return std::unexpected(id.error());
  std::string_view rest = in.rest();
  if (size_t glued = find_glued(rest); glued != 0) {
    view.glued_at = in.offset() + glued;
    rest = rest.substr(0, glued);
  }
  split_text(view, rest);
  read_state(view);
  return view;
}

}  // namespace

std::expected<LineView, LineError> decode_line(std::string_view line) {
  std::string_view text = strip_end(line);
  if (text.size() > kMaxLine)
    return std::unexpected(LineError{.fault = LineFault::TooLong, .offset = kMaxLine, .resume = 0});
  auto view = decode_frame({text.data(), text.data(), text.data() + text.size()});
  if (!view && view.error().fault == LineFault::Header)
    view.error().resume = find_glued(text);
  return view;
}

}  // namespace tenure::trail
