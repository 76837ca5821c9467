// SPDX-License-Identifier: Apache-2.0
// Members of QEMU's answers and events. QEMU is not trusted: what is missing or of another type
// reads as empty, and never throws in the middle of an operation.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "qemu/qmp.h"

namespace tenure::guest {

// The member of that name; null if `object` is none or has it not.
inline nlohmann::json member(const nlohmann::json& object, const char* key) {
  if (!object.is_object())
    return nullptr;
  auto found = object.find(key);
  return found == object.end() ? nlohmann::json() : *found;
}

inline std::string word_in(const nlohmann::json& object, const char* key) {
  auto value = member(object, key);
  return value.is_string() ? value.get<std::string>() : std::string();
}

inline uint64_t number_in(const nlohmann::json& object, const char* key) {
  auto value = member(object, key);
  return value.is_number_unsigned() ? value.get<uint64_t>() : 0;
}

inline bool flag_in(const nlohmann::json& object, const char* key) {
  auto value = member(object, key);
  return value.is_boolean() && value.get<bool>();
}

inline std::string word_in(const qemu::QmpEvent& event, const char* key) {
  return event.data ? word_in(*event.data, key) : std::string();
}

}  // namespace tenure::guest
