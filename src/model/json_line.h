// SPDX-License-Identifier: Apache-2.0
// Writes one JSON object into memory that is known to be enough. The history of a gigabyte of log
// is a hundred thousand lines; asking for room at each of their sixty pieces took most of the time
// that writing them took.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

#include "model/tenure.h"

namespace tenure::model {

// `,"name":`, made by the compiler; the first key of an object has `{` in place of the comma.
template <size_t kLength>
struct JsonKey {
  char text[kLength + 3] = {};
  consteval JsonKey(const char (&name)[kLength]) {  // NOLINT(google-explicit-constructor)
    text[1] = '"';
    for (size_t i = 0; i + 1 < kLength; ++i) text[2 + i] = name[i];
    text[kLength + 1] = '"';
    text[kLength + 2] = ':';
  }
};

// What a string takes at most, with its quotes: each byte may become \u00XX.
constexpr size_t json_room(size_t size) {
  return 6 * size + 2;
}
// What the line of a tenure or of a run takes at most.
size_t json_room(const Tenure& tenure);
size_t json_room(const Run& run);

// Each writes to memory that has the room told above; returns where it ends. A text by the rule of
// json.h, quoted; a line as append_json_line() appends it.
char* write_json_string(char* at, std::string_view text);
char* write_json_line(char* at, const Tenure& tenure, const Run& run);
char* write_json_line(char* at, const Run& run);

class JsonLine {
 public:
  explicit JsonLine(char* at) : at_(at) {}
  char* end() const { return at_; }

  template <JsonKey kKey, char kBefore = ','>
  void key() {
    std::memcpy(at_, kKey.text, sizeof kKey.text);
    *at_ = kBefore;
    at_ += sizeof kKey.text;
  }
  void put(char c) { *at_++ = c; }
  // Not memcpy: the text of an empty name is at no address.
  void put(std::string_view text) { at_ = std::copy(text.begin(), text.end(), at_); }
  void null() { put("null"); }

  template <JsonKey kKey, char kBefore = ','>
  void text(Name value) {
    key<kKey, kBefore>();
    put_name(value);
  }
  template <JsonKey kKey>
  void text_or_null(Name value) {
    key<kKey>();
    value.empty() ? null() : put_name(value);
  }
  template <JsonKey kKey, char kBefore = ','>
  void number(uint64_t value) {
    key<kKey, kBefore>();
    put_number(value);
  }
  template <JsonKey kKey>
  void boolean(bool value) {
    key<kKey>();
    put(value ? std::string_view("true") : std::string_view("false"));
  }
  template <JsonKey kKey>
  void position(const std::optional<Position>& at) {
    key<kKey>();
    at ? put_position(*at) : null();
  }
  // auid and ses of nobody's are null, as they are unset.
  template <JsonKey kKey>
  void asker(const Asker* who) {
    key<kKey>();
    who != nullptr ? put_asker(*who) : null();
  }

  void put_number(uint64_t value) {
    constexpr size_t kDigits = 20;
    at_ = std::to_chars(at_, at_ + kDigits, value).ptr;
  }
  void put_time(int64_t time_ms);
  void put_proof(const Position& at);  // without quotes

 private:
  void put_name(Name value) {
    if (!value.is_plain()) {
      at_ = write_json_string(at_, value);
      return;
    }
    put('"');
    put(value.view());
    put('"');
  }
  void put_id(uint32_t value);
  void put_position(const Position& at);
  void put_asker(const Asker& who);
  char* at_;
};

}  // namespace tenure::model
