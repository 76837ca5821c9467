// SPDX-License-Identifier: Apache-2.0
#include "model/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>

#include "base/identity.h"
#include "base/text.h"

namespace tenure::model {
namespace {

auto to(std::string& out) {
  return std::back_inserter(out);
}

// to_chars, not fmt: a history is mostly numbers, and this is where writing it spends its time.
void append_number(std::string& out, uint64_t value) {
  std::array<char, 20> digits;
  auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  out.append(digits.data(), end);
}

void append_time(std::string& out, int64_t time_ms) {
  auto ms = static_cast<uint64_t>(std::max<int64_t>(time_ms, 0));
  append_number(out, ms / 1000);
  ms %= 1000;
  std::array<char, 4> fraction{'.', static_cast<char>('0' + ms / 100),
                               static_cast<char>('0' + ms / 10 % 10),
                               static_cast<char>('0' + ms % 10)};
  out.append(fraction.data(), fraction.size());
}

void append_proof(std::string& out, const Position& at) {
  out += at.serial == 0 ? "ledger(" : "audit(";
  if (at.serial != 0) {
    append_time(out, at.time_ms);
    out += ':';
  }
  append_number(out, at.serial == 0 ? at.order : at.serial);
  out += ')';
}

// Writes `"key":value` pairs with their commas.
class Object {
 public:
  explicit Object(std::string& out) : out_(out) { out_ += '{'; }
  void close() { out_ += '}'; }

  void text_or_null(std::string_view key, std::string_view value) {
    name(key);
    value.empty() ? void(out_ += "null") : append_json_string(out_, value);
  }
  void text(std::string_view key, std::string_view value) {
    name(key);
    append_json_string(out_, value);
  }
  void number(std::string_view key, uint64_t value) {
    name(key);
    append_number(out_, value);
  }
  void boolean(std::string_view key, bool value) {
    name(key);
    out_ += value ? "true" : "false";
  }
  void position(std::string_view key, const std::optional<Position>& at) {
    name(key);
    if (!at) {
      out_ += "null";
      return;
    }
    out_ += "{\"time\":\"";
    append_time(out_, at->time_ms);
    out_ += at->serial == 0 ? "\",\"serial\":null,\"ledger\":" : "\",\"serial\":";
    append_number(out_, at->serial == 0 ? at->order : at->serial);
    out_ += '}';
  }
  // auid and ses of nobody's are null, as they are unset.
  void asker(std::string_view key, const Asker* who) {
    name(key);
    if (who == nullptr) {
      out_ += "null";
      return;
    }
    Object object(out_);
    object.id("auid", who->auid);
    object.id("uid", who->uid);
    object.id("ses", who->ses);
    object.number("pid", who->pid);
    object.text_or_null("exe", who->exe.view() == "?" ? "" : who->exe.view());
    object.text_or_null("tty", who->tty.view() == "?" ? "" : who->tty.view());
    object.close();
  }
  void proof(const Tenure& tenure) {
    name("proof");
    out_ += '[';
    bool first = true;
    for (const auto* at : {&tenure.from, &tenure.until_after, &tenure.until}) {
      // Our own bounds are times within one record; that record is the proof.
      bool bound = at == &tenure.until_after && tenure.grant;
      if (!at->has_value() || bound)
        continue;
      if (!first)
        out_ += ',';
      first = false;
      out_ += '"';
      append_proof(out_, **at);
      out_ += '"';
    }
    out_ += ']';
  }

 private:
  void id(std::string_view key, uint32_t value) {
    name(key);
    value == kUnsetId ? void(out_ += "null") : void(fmt::format_to(to(out_), "{}", value));
  }
  void name(std::string_view key) {
    if (!first_)
      out_ += ',';
    first_ = false;
    out_ += '"';
    out_ += key;
    out_ += "\":";
  }
  std::string& out_;
  bool first_ = true;
};

// What only some kinds have.
void append_details(Object& object, const Tenure& tenure) {
  std::string_view kind = tenure.kind;
  std::string_view category = tenure.category;
  if (kind == "cgroup") {
    object.text_or_null("class", category);
    object.text_or_null("category", category == "major" ? tenure.id.view() : "");
  }
  if (kind == "dev")
    object.text_or_null("bus", category);
  if (!tenure.holder.empty())
    object.text("device", tenure.holder);
  if (tenure.grant)
    object.number("grant", *tenure.grant);
  if (tenure.until_after)
    object.position("until_after", tenure.until_after);
  if (tenure.end_requester != nullptr)
    object.asker("until_requester", tenure.end_requester);
}

// Length of the well-formed UTF-8 sequence at `at`, 0 if there is none: what printable() leaves as
// it is, or a control character.
size_t utf8_length(std::string_view text, size_t at) {
  auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : 0U; };
  unsigned lead = byte(at);
  auto tail = [&](size_t i) { return (byte(at + i) & 0xC0U) == 0x80; };
  if (lead < 0x80)
    return 1;
  if (lead >= 0xC2 && lead < 0xE0)
    return tail(1) ? 2 : 0;
  if (lead >= 0xE0 && lead < 0xF0) {
    bool overlong = lead == 0xE0 && byte(at + 1) < 0xA0;
    bool surrogate = lead == 0xED && byte(at + 1) >= 0xA0;
    return tail(1) && tail(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (lead >= 0xF0 && lead < 0xF5) {
    bool overlong = lead == 0xF0 && byte(at + 1) < 0x90;
    bool too_large = lead == 0xF4 && byte(at + 1) >= 0x90;
    return tail(1) && tail(2) && tail(3) && !overlong && !too_large ? 4 : 0;
  }
  return 0;
}

bool is_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    size_t length = utf8_length(text, at);
    if (length == 0)
      return false;
    at += length;
  }
  return true;
}

bool is_plain(std::string_view text) {
  bool plain = true;  // no early return: this way the compiler makes vectors of it
  for (char c : text)
    plain &= (static_cast<uint8_t>(c) >= 0x20) & (static_cast<uint8_t>(c) < 0x7F) & (c != '"') &
             (c != '\\');
  return plain;
}

void append_ascii(std::string& out, char c) {
  if (c == '"' || c == '\\')
    (out += '\\') += c;
  else if (static_cast<uint8_t>(c) < 0x20 || c == 0x7F)
    fmt::format_to(to(out), "\\u{:04X}", static_cast<unsigned>(c));
  else
    out += c;
}

void append_csv(std::string& out, std::string_view text, bool last = false) {
  bool quote = text.find_first_of(",\"\r\n") != text.npos;
  if (quote)
    out += '"';
  for (char c : text) {
    if (c == '"')
      out += '"';
    out += c;
  }
  if (quote)
    out += '"';
  out += last ? '\n' : ',';
}

void append_csv_time(std::string& out, const std::optional<Position>& at) {
  if (at)
    append_time(out, at->time_ms);
  out += ',';
  if (at && at->serial != 0)
    fmt::format_to(to(out), "{}", at->serial);
  out += ',';
}

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  if (is_plain(text)) {
    out += text;
  } else {
    bool valid = is_utf8(text);
    for (size_t at = 0; at < text.size();) {
      size_t length = utf8_length(text, at);
      if (length == 0 || (!valid && text[at] == '%')) {
        fmt::format_to(to(out), "%{:02X}", static_cast<uint8_t>(text[at]));
        length = 1;
      } else if (length == 1) {
        append_ascii(out, text[at]);
      } else {
        out += text.substr(at, length);
      }
      at += length;
    }
  }
  out += '"';
}

std::string proof_of(const Position& at) {
  std::string text;
  append_proof(text, at);
  return text;
}

void append_json_line(std::string& out, const Tenure& tenure, const Run& run) {
  Object object(out);
  object.number("schema", kJsonSchema);
  object.text_or_null("node", tenure.node);
  object.text("guest", tenure.guest);
  object.text_or_null("uuid", tenure.uuid);
  object.number("run", run.number);
  object.text("kind", tenure.kind);
  object.text("id", tenure.id);
  object.text_or_null("access", tenure.access);
  object.text_or_null("devtype", std::string_view(&tenure.devtype, tenure.devtype != 0 ? 1 : 0));
  object.text_or_null("rdev", tenure.rdev);
  object.position("from", tenure.from);
  object.text_or_null("from_reason", tenure.from_reason);
  object.position("until", tenure.until);
  object.text_or_null("until_reason", tenure.until_reason);
  object.text("certainty", to_string(tenure.certainty));
  object.asker("requester", tenure.requester);
  object.proof(tenure);
  append_details(object, tenure);
  object.close();
  out += '\n';
}

void append_json_line(std::string& out, const Run& run) {
  Object object(out);
  object.number("schema", kJsonSchema);
  object.text_or_null("node", run.node);
  object.text("guest", run.guest);
  object.text_or_null("uuid", run.uuid);
  object.number("run", run.number);
  object.position("start", run.start);
  object.text_or_null("start_reason", run.start_reason);
  object.number("pid", run.pid);
  object.boolean("ok", run.ok);
  object.position("end", run.end);
  object.text_or_null("end_reason", run.end_reason);
  object.text("certainty", to_string(run.certainty));
  if (run.end_after)
    object.position("end_after", run.end_after);
  object.close();
  out += '\n';
}

void append_csv_header(std::string& out) {
  out +=
      "node,guest,uuid,run,kind,id,access,devtype,rdev,from_time,from_serial,from_reason,until_time,"
      "until_serial,until_reason,certainty,requester_auid,requester_uid,grant,device\n";
}

void append_csv_line(std::string& out, const Tenure& tenure, const Run& run) {
  // A name may be any bytes; a table program gets the printable form, as a terminal does.
  auto name = [&](std::string_view text) { append_csv(out, printable(text)); };
  name(tenure.node);
  name(tenure.guest);
  name(tenure.uuid);
  fmt::format_to(to(out), "{},", run.number);
  name(tenure.kind);
  name(tenure.id);
  name(tenure.access);
  name(std::string_view(&tenure.devtype, tenure.devtype != 0 ? 1 : 0));
  name(tenure.rdev);
  append_csv_time(out, tenure.from);
  name(tenure.from_reason);
  append_csv_time(out, tenure.until);
  name(tenure.until_reason);
  name(to_string(tenure.certainty));
  auto id = [&](uint32_t value) {
    if (tenure.requester != nullptr && value != kUnsetId)
      fmt::format_to(to(out), "{}", value);
    out += ',';
  };
  id(tenure.requester != nullptr ? tenure.requester->auid : kUnsetId);
  id(tenure.requester != nullptr ? tenure.requester->uid : kUnsetId);
  if (tenure.grant)
    fmt::format_to(to(out), "{}", *tenure.grant);
  out += ',';
  append_csv(out, printable(tenure.holder), true);
}

}  // namespace tenure::model
