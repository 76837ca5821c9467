// SPDX-License-Identifier: Apache-2.0
#include "model/json_line.h"

#include <algorithm>

#include "base/identity.h"

namespace tenure::model {
namespace {

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

char* put(char* at, std::string_view text) {
  return std::copy(text.begin(), text.end(), at);
}

char* put_hex(char* at, char c) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  auto value = static_cast<uint8_t>(c);
  *at++ = kDigits[value >> 4];
  *at++ = kDigits[value & 15];
  return at;
}

char* put_ascii(char* at, char c) {
  if (static_cast<uint8_t>(c) < 0x20 || c == 0x7F)
    return put_hex(put(at, "\\u00"), c);
  if (c == '"' || c == '\\')
    *at++ = '\\';
  *at++ = c;
  return at;
}

}  // namespace

char* write_json_string(char* at, std::string_view text) {
  *at++ = '"';
  bool valid = is_utf8(text);
  for (size_t i = 0; i < text.size();) {
    size_t length = utf8_length(text, i);
    if (length == 0 || (!valid && text[i] == '%')) {
      at = put_hex(put(at, "%"), text[i]);
      length = 1;
    } else {
      at = length == 1 ? put_ascii(at, text[i]) : put(at, text.substr(i, length));
    }
    i += length;
  }
  *at++ = '"';
  return at;
}

void JsonLine::put_time(int64_t time_ms) {
  auto ms = static_cast<uint64_t>(std::max<int64_t>(time_ms, 0));
  put_number(ms / 1000);
  ms %= 1000;
  put('.');
  put(static_cast<char>('0' + ms / 100));
  put(static_cast<char>('0' + ms / 10 % 10));
  put(static_cast<char>('0' + ms % 10));
}

void JsonLine::put_proof(const Position& at) {
  put(at.serial == 0 ? "ledger(" : "audit(");
  if (at.serial != 0) {
    put_time(at.time_ms);
    put(':');
  }
  put_number(at.serial == 0 ? at.order : at.serial);
  put(')');
}

void JsonLine::put_position(const Position& at) {
  put(R"({"time":")");
  put_time(at.time_ms);
  put(at.serial == 0 ? R"(","serial":null,"ledger":)" : R"(","serial":)");
  put_number(at.serial == 0 ? at.order : at.serial);
  put('}');
}

void JsonLine::put_id(uint32_t value) {
  value == kUnsetId ? null() : put_number(value);
}

void JsonLine::put_asker(const Asker& who) {
  auto known = [](Name name) { return name.view() == "?" ? Name() : name; };
  key<"auid", '{'>();
  put_id(who.auid);
  key<"uid">();
  put_id(who.uid);
  key<"ses">();
  put_id(who.ses);
  number<"pid">(who.pid);
  text_or_null<"exe">(known(who.exe));
  text_or_null<"tty">(known(who.tty));
  put('}');
}

}  // namespace tenure::model
