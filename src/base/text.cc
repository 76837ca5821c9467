// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"

#include <fmt/format.h>

#include <cstdint>

namespace tenure {
namespace {

constexpr std::string_view kBlank = " \t\r\n";

// Length of the well-formed UTF-8 sequence (RFC 3629) at the front of `text`, 0 if there is none.
size_t utf8_length(std::string_view text) {
  auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  auto tail = [&](size_t i) { return i < text.size() && (byte(i) & 0xC0) == 0x80; };
  uint8_t lead = byte(0);
  if (lead < 0x80)
    return 1;
  if (lead >= 0xC2 && lead < 0xE0)
    return tail(1) ? 2 : 0;
  if (lead >= 0xE0 && lead < 0xF0) {
    if (!tail(1) || !tail(2))
      return 0;
    bool overlong = lead == 0xE0 && byte(1) < 0xA0;
    bool surrogate = lead == 0xED && byte(1) >= 0xA0;
    return overlong || surrogate ? 0 : 3;
  }
  if (lead >= 0xF0 && lead < 0xF5) {
    if (!tail(1) || !tail(2) || !tail(3))
      return 0;
    bool overlong = lead == 0xF0 && byte(1) < 0x90;
    bool too_large = lead == 0xF4 && byte(1) >= 0x90;
    return overlong || too_large ? 0 : 4;
  }
  return 0;
}

bool is_control(std::string_view sequence) {
  auto lead = static_cast<uint8_t>(sequence[0]);
  if (sequence.size() == 1)
    return lead < 0x20 || lead == 0x7F;
  return lead == 0xC2 && static_cast<uint8_t>(sequence[1]) < 0xA0;  // C1: U+0080 to U+009F
}

}  // namespace

std::string_view trim(std::string_view text) {
  size_t first = text.find_first_not_of(kBlank);
  if (first == text.npos)
    return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  for (size_t at = 0;;) {
    size_t end = text.find(separator, at);
    pieces.push_back(text.substr(at, end - at));
    if (end == text.npos)
      return pieces;
    at = end + 1;
  }
}

std::string to_hex(std::string_view bytes) {
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (char c : bytes) fmt::format_to(std::back_inserter(hex), "{:02X}", static_cast<uint8_t>(c));
  return hex;
}

std::optional<std::string> from_hex(std::string_view hex) {
  if (hex.size() % 2 != 0)
    return std::nullopt;
  std::string bytes;
  bytes.reserve(hex.size() / 2);
  for (size_t i = 0; i < hex.size(); i += 2) {
    int high = hex_digit(hex[i]);
    int low = hex_digit(hex[i + 1]);
    if (high < 0 || low < 0)
      return std::nullopt;
    bytes += static_cast<char>(high << 4 | low);
  }
  return bytes;
}

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    size_t length = utf8_length(text);
    if (length > 0 && !is_control(text.substr(0, length))) {
      out += text.substr(0, length);
    } else {
      length = 1;
      fmt::format_to(std::back_inserter(out), "\\x{:02X}", static_cast<uint8_t>(text[0]));
    }
    text.remove_prefix(length);
  }
  return out;
}

}  // namespace tenure
