// SPDX-License-Identifier: Apache-2.0
// tenure-local: what `tenure` becomes for the commands of cli/local/commands.h.
#include <cstdio>

#include "cli/exit_code.h"
#include "cli/local/commands.h"
#include "cli/options.h"
#include "cli/programs.h"

namespace {

using namespace tenure::cli;

constexpr Command kCommands[] = {
    {"who", run_who},       {"history", run_history}, {"log", run_log},
    {"report", run_report}, {"denials", run_denials}, {"verify", run_verify},
    {"prove", run_prove},   {"doctor", run_doctor},   {"start", run_dry_start},
};

int run(const Options& options) {
  if (const Command* command = find_command(kCommands, options.command))
    return command->run(options);
  std::fprintf(stderr, "tenure-local: %s is a command of tenure\n", options.command.c_str());
  return to_int(ExitCode::Usage);
}

}  // namespace

int main(int argc, char** argv) {
  return run_command_line(argc, argv, run);
}
