// SPDX-License-Identifier: Apache-2.0
// Numbers as the C2SP formats have them, and the dash of a signature line. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tenure::ledger {

// What begins a signature line (C2SP signed-note): em dash, space.
inline constexpr std::string_view kDash = "\xE2\x80\x94 ";

// `bytes` as a number, the first byte being the highest; at most 8 of them count.
constexpr uint64_t get_big_endian(std::string_view bytes) {
  uint64_t value = 0;
  for (char byte : bytes) value = value << 8 | static_cast<uint8_t>(byte);
  return value;
}

// The lowest `bytes` bytes of `value`, the highest of them first.
inline void put_big_endian(std::string& out, uint64_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
    out += static_cast<char>(value >> shift);
}

}  // namespace tenure::ledger
