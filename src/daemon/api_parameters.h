// SPDX-License-Identifier: Apache-2.0
// What the methods of the API share: parameters out of JSON, and a reply that several give.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "daemon/guests.h"

namespace tenure::daemon {

// A string parameter; "" if it is absent or null. Wrong types are found by call()'s catch.
inline std::string text(const nlohmann::json& parameters, const char* key) {
  auto it = parameters.find(key);
  return it == parameters.end() || it->is_null() ? "" : it->get<std::string>();
}

inline std::optional<bool> flag(const nlohmann::json& parameters, const char* key) {
  auto it = parameters.find(key);
  if (it == parameters.end() || it->is_null())
    return std::nullopt;
  return it->get<bool>();
}

template <class Number>
std::optional<Number> number(const nlohmann::json& parameters, const char* key) {
  auto it = parameters.find(key);
  if (it == parameters.end() || it->is_null())
    return std::nullopt;
  return it->get<Number>();
}

inline Result<StartOptions> start_options(const nlohmann::json& parameters) {
  StartOptions options{.discard_saved = flag(parameters, "discard_saved").value_or(false),
                       .require_fence = flag(parameters, "require_fence"),
                       .fence = {}};
  std::string fence = text(parameters, "fence");
  if (fence == "v1")
    options.fence = kernel::CgroupVersion::V1;
  if (fence == "v2")
    options.fence = kernel::CgroupVersion::V2;
  if (!fence.empty() && fence != "auto" && !options.fence)
    return fail(Errc::Invalid, fmt::format("fence '{}': one of auto, v1, v2", fence));
  return options;
}

// The reply to what began a run.
inline nlohmann::json started(const guest::Guest& guest) {
  const guest::RunState& state = guest.state();
  return {{"name", state.ref.vm},
          {"uuid", state.ref.uuid},
          {"run", state.ref.run},
          {"pid", state.process.pid}};
}

}  // namespace tenure::daemon
