// SPDX-License-Identifier: Apache-2.0
// Calls to tenured over its socket, which starts the daemon when nobody serves this root yet.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/paths.h"
#include "base/result.h"

namespace tenure::cli {

// What the daemon answered an error with; `reached` is false if there was no daemon to answer.
struct CallError {
  Error error;
  bool reached = true;
};

// One call of org.tenure. Blocks until the daemon answers; the daemon finishes what it began even
// if we are killed.
std::expected<nlohmann::json, CallError> call(const Paths& paths, const std::string& method,
                                              const nlohmann::json& parameters);

// The same, but only of a daemon that runs already: none is started.
std::expected<nlohmann::json, CallError> call_running(const Paths& paths, const std::string& method,
                                                      const nlohmann::json& parameters);

// The exit code for it: 4 for a guest that is not there, 7 if no daemon was reached, else by the
// error.
int exit_code(const CallError& error);

}  // namespace tenure::cli
