// SPDX-License-Identifier: Apache-2.0
#include "base/uuid.h"

#include <fmt/format.h>
#include <sys/random.h>

#include "base/text.h"

namespace tenure {
std::string to_string(const Uuid& uuid) {
  std::string text;
  text.reserve(36);
  for (size_t i = 0; i < uuid.bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10)
      text += '-';
    fmt::format_to(std::back_inserter(text), "{:02x}", uuid.bytes[i]);
  }
  return text;
}

Result<Uuid> parse_uuid(std::string_view text) {
  Uuid uuid;
  size_t digits = 0;
  for (char c : text) {
    if (c == '-')
      continue;
    int value = hex_digit(c);
    if (value < 0 || digits == 32)
      return fail(Errc::Invalid,
                  fmt::format("uuid '{}': 32 hex digits expected", text.substr(0, 64)));
    uint8_t& byte = uuid.bytes[digits / 2];
    byte = static_cast<uint8_t>(byte << 4 | value);
    ++digits;
  }
  if (digits != 32)
    return fail(Errc::Invalid,
                fmt::format("uuid '{}': 32 hex digits expected", text.substr(0, 64)));
  return uuid;
}

Result<Uuid> random_uuid() {
  Uuid uuid;
  if (getrandom(uuid.bytes.data(), uuid.bytes.size(), 0) != 16)
    return fail_sys("getrandom", "");
  uuid.bytes[6] = static_cast<uint8_t>((uuid.bytes[6] & 0x0f) | 0x40);
  uuid.bytes[8] = static_cast<uint8_t>((uuid.bytes[8] & 0x3f) | 0x80);
  return uuid;
}

}  // namespace tenure
