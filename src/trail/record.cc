// SPDX-License-Identifier: Apache-2.0
// Encoder of records, driven by the vocabulary table: it walks the row of the kind, not the fields
// that were set, so order and fixed words cannot go wrong.
#include "trail/record.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"

namespace tenure::trail {
namespace {

bool is_word_byte(char c) {
  bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return letter || is_digit(c) || std::string_view("-._:/+*,").find(c) != std::string_view::npos;
}

bool is_word(std::string_view value) {
  return value == "?" || (!value.empty() && std::ranges::all_of(value, is_word_byte));
}

bool is_number(std::string_view value) {
  return parse_int<uint64_t>(value).has_value();
}

bool needs_hex(char c) {
  auto byte = static_cast<uint8_t>(c);
  return byte < 0x21 || byte >= 0x7F || c == '"' || c == '\'' || c == '=';
}

const std::string* find(const Record& record, std::string_view key) {
  for (const auto& [name, value] : record.fields)
    if (name == key)
      return &value;
  return nullptr;
}

Error bad(const Record& record, std::string_view key, std::string_view why) {
  return {Errc::Invalid, fmt::format("encode {} record: {}: {}", spec(record.kind).name, key, why)};
}

Result<> check_keys(const Record& record) {
  const KindSpec& row = spec(record.kind);
  for (const auto& [name, value] : record.fields) {
    auto key = std::ranges::find(row.keys, std::string_view(name), &KeySpec::name);
    if (key == row.keys.end())
      return fail(bad(record, printable(name), "no such key"));
    if (!key->fixed.empty() && key->fixed != value)
      return fail(bad(record, name, fmt::format("is always {}", key->fixed)));
  }
  return {};
}

Result<> append_value(std::string& text, const Record& record, const KeySpec& key,
                      std::string_view value) {
  if (key.encoding == Encoding::Text) {
    text += encode_value(value);
    return {};
  }
  if (key.encoding == Encoding::Word ? !is_word(value) : !is_number(value))
    return fail(bad(record, key.name,
                    fmt::format("'{}' is no {}", printable(value.substr(0, 64)),
                                key.encoding == Encoding::Word ? "bare word" : "number")));
  text += value;
  return {};
}

}  // namespace

Record& Record::set(std::string_view key, std::string_view value) {
  auto at = std::ranges::find(fields, key, [](const auto& f) { return std::string_view(f.first); });
  if (at == fields.end())
    fields.emplace_back(key, value);
  else
    at->second = value;
  return *this;
}

Record& Record::set(std::string_view key, uint64_t value) {
  return set(key, std::string_view(std::to_string(value)));
}

std::optional<std::string_view> Record::get(std::string_view key) const {
  if (const std::string* value = find(*this, key))
    return *value;
  for (const KeySpec& row : spec(kind).keys)
    if (row.name == key && !row.fixed.empty())
      return row.fixed;
  return std::nullopt;
}

void set_requester(Record& record, const Requester& who) {
  record.set("req-auid", uint64_t{who.auid})
      .set("req-ses", uint64_t{who.ses})
      .set("req-uid", uint64_t{who.uid})
      .set("req-pid", static_cast<uint64_t>(std::max(who.pid, 0)))
      .set("req-exe", who.exe)
      .set("req-tty", who.tty);
}

Result<std::string> encode(const Record& record) {
  TRY_OK(check_keys(record));
  std::string text;
  text.reserve(512);
  for (const KeySpec& key : spec(record.kind).keys) {
    const std::string* value = find(record, key.name);
    if (value == nullptr && key.fixed.empty()) {
      if (key.need == Need::Always)
        return fail(bad(record, key.name, "is missing"));
      continue;
    }
    if (!text.empty())
      text += ' ';
    text += key.name;
    text += '=';
    TRY_OK(append_value(text, record, key, value == nullptr ? key.fixed : *value));
  }
  if (text.size() > kMaxMessage)
    return fail(bad(
        record, "text",
        fmt::format("{} bytes are more than the {} that audit takes", text.size(), kMaxMessage)));
  return text;
}

std::string encode_value(std::string_view value) {
  if (std::ranges::any_of(value, needs_hex))
    return to_hex(value);
  std::string quoted;
  quoted.reserve(value.size() + 2);
  quoted += '"';
  quoted += value;
  quoted += '"';
  return quoted;
}

}  // namespace tenure::trail
