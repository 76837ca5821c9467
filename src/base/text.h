// SPDX-License-Identifier: Apache-2.0
// Small text helpers that the standard library lacks. Pure.
#pragma once

#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tenure {

// The whole of `text` as a number in `base`; nullopt on anything else (sign, space, overflow,
// rest).
template <class Int>
std::optional<Int> parse_int(std::string_view text, int base = 10) {
  Int value{};
  auto [end, err] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (err != std::errc{} || end != text.data() + text.size())
    return std::nullopt;
  return value;
}

// 0 to 9, whatever the locale.
constexpr bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// Without blanks, tabs, CR and LF at both ends.
std::string_view trim(std::string_view text);

// Pieces between `separator`; an empty text gives one empty piece.
std::vector<std::string_view> split(std::string_view text, char separator);

// The value of a hex digit of either case; -1 for anything else.
constexpr int hex_digit(char c) {
  if (is_digit(c))
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return -1;
}

// Upper-case hex, as the audit grammar wants it.
std::string to_hex(std::string_view bytes);
// Bytes of an even-length hex text (both cases); nullopt otherwise.
std::optional<std::string> from_hex(std::string_view hex);

// For a terminal or a log: control bytes, DEL and invalid UTF-8 become \xNN, so that no name can
// move the cursor or forge a line.
std::string printable(std::string_view text);

}  // namespace tenure
