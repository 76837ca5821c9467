// SPDX-License-Identifier: Apache-2.0
#include "cli/answer.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/text.h"
#include "cli/client.h"
#include "cli/exit_code.h"
#include "domain/domain.h"

namespace tenure::cli {

using nlohmann::json;

Paths paths_of(const Options& options) {
  return paths_below(choose_root(options.root));
}

int failed(const Options& options, const CallError& error) {
  complain(fmt::format("{}: {}", options.command, printable(error.error.what())));
  return exit_code(error);
}

int failed_locally(const Options& options, const Error& error) {
  complain(fmt::format("{}: {}", options.command, printable(error.what())));
  return to_int(exit_code_of(error));
}

void put_json(Out& out, const json& value) {
  out.line(value.dump(-1, ' ', false, json::error_handler_t::replace));
}

bool wants_json(const Options& options) {
  return options.output() == OutputFormat::Json;
}

int run_call(const Options& options, const std::string& method, const json& parameters,
             const Say& say) {
  auto reply = call(paths_of(options), method, parameters);
  if (!reply)
    return failed(options, reply.error());
  Out out;
  if (wants_json(options))
    put_json(out, *reply);
  else if (!options.quiet)
    say(out, *reply);
  return 0;
}

int run_simple(const Options& options, const std::string& method, const json& parameters,
               std::string_view done) {
  return run_call(options, method, parameters, [&](Out& out, const json&) {
    out.line(printable(fmt::format("{} {}", options.guest, done)));
  });
}

bool names_file(const std::string& word) {
  std::error_code error;
  return std::filesystem::is_regular_file(word, error) || word == "-" ||
         word.find('/') != word.npos;
}

Result<std::string> read_definition(const std::string& path) {
  if (path == "-")
    return read_fd(STDIN_FILENO, domain::kMaxXml, "standard input");
  return read_file(path, domain::kMaxXml);
}

}  // namespace tenure::cli
