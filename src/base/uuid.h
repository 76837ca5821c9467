// SPDX-License-Identifier: Apache-2.0
// The 128-bit name of a guest (RFC 4122 text form).
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace tenure {

struct Uuid {
  std::array<uint8_t, 16> bytes{};
  auto operator<=>(const Uuid&) const = default;
};

// 36 characters, lower case.
std::string to_string(const Uuid& uuid);
// With or without dashes, any case (as libvirt's virUUIDParse); else Invalid.
Result<Uuid> parse_uuid(std::string_view text);
// Version 4, from getrandom(2).
Result<Uuid> random_uuid();

}  // namespace tenure
