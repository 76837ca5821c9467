// SPDX-License-Identifier: Apache-2.0
// What the commands that call the daemon have in common: the instance, complaints, answers.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/paths.h"
#include "base/result.h"
#include "cli/client.h"
#include "cli/options.h"
#include "cli/output.h"

namespace tenure::cli {

Paths paths_of(const Options& options);

// Complain on stderr; return the exit code.
int failed(const Options& options, const CallError& error);
int failed_locally(const Options& options, const Error& error);

// JSON as it is, on one line a value; invalid UTF-8 is replaced, as names of files may hold any
// byte.
void put_json(Out& out, const nlohmann::json& value);
bool wants_json(const Options& options);

// A call whose reply is printed: as JSON, or by `say`, and not at all if --quiet. Returns the exit
// code.
using Say = std::function<void(Out& out, const nlohmann::json& reply)>;
int run_call(const Options& options, const std::string& method, const nlohmann::json& parameters,
             const Say& say);

// The same where the answer is only that it was done.
int run_simple(const Options& options, const std::string& method, const nlohmann::json& parameters,
               std::string_view done);

// Whether `start` takes its argument for a file: what is a regular file here, has a slash, or is
// "-".
bool names_file(const std::string& word);

// A file of domain XML; "-" is stdin. Bounded by domain::kMaxXml.
Result<std::string> read_definition(const std::string& path);

}  // namespace tenure::cli
