// SPDX-License-Identifier: Apache-2.0
// `tenure`: reads the command line and runs one command.
#include <cstdio>
#include <exception>
#include <string_view>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/options.h"

namespace {

using namespace tenure::cli;

struct Row {
  std::string_view name;
  int (*run)(const Options&);
};

constexpr Row kCommands[] = {
    {"define", run_define},
    {"undefine", run_undefine},
    {"list", run_list},
    {"status", run_status},
    {"show", run_show},
    {"start", run_start},
    {"stop", run_stop},
    {"kill", run_kill},
    {"pause", run_control},
    {"resume", run_control},
    {"reset", run_control},
    {"inject-nmi", run_control},
    {"console", run_console},
    {"who", run_who},
    {"history", run_history},
    {"log", run_log},
    {"report", run_report},
    {"verify", run_verify},
    {"prove", run_prove},
    {"attach", run_attach},
    {"detach", run_detach},
    {"doctor", run_doctor},
    {"denials", run_denials},
    {"set", run_set},
    {"update", run_update},
    {"eject", run_eject},
    {"insert", run_insert},
    {"edit", run_edit},
    {"save", run_to_file},
    {"dump", run_to_file},
    {"screenshot", run_to_file},
    {"restore", run_restore},
    {"reboot", run_control},
    {"snapshot", run_snapshot},
    {"blockcommit", run_blockcommit},
    {"blockpull", run_blockpull},
    {"blockcopy", run_blockcopy},
    {"blockjob", run_blockjob},
};

int run(const Options& options) {
  for (const Row& row : kCommands) {
    if (row.name == options.command)
      return row.run(options);
  }
  std::fprintf(stderr, "tenure: command %s has no implementation\n", options.command.c_str());
  return to_int(ExitCode::Failed);
}

}  // namespace

int main(int argc, char** argv) {
  // The last net for what third-party code throws (bad_alloc above all).
  try {
    const Parsed parsed = parse_options({argv + 1, argv + argc});
    if (parsed.options)
      return run(*parsed.options);
    std::fputs(parsed.text.c_str(), parsed.exit_code == 0 ? stdout : stderr);
    return parsed.exit_code;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tenure: %s\n", error.what());
    return to_int(ExitCode::Failed);
  }
}
