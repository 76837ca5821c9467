// SPDX-License-Identifier: Apache-2.0
// `tenure`: reads the command line and asks tenured, or becomes tenure-local for what needs no
// tenured.
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/options.h"
#include "cli/programs.h"

namespace {

using namespace tenure::cli;

// All others are tenure-local's.
constexpr Command kCommands[] = {
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
    {"attach", run_attach},
    {"detach", run_detach},
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

int run(const Options& options, char** argv) {
  const Command* command = find_command(kCommands, options.command);
  if (command != nullptr && !options.dry_run)
    return command->run(options);
  become_local(argv);
  std::fprintf(stderr, "tenure: tenure-local, the program of this command: %s\n",
               std::strerror(errno));
  return to_int(ExitCode::Failed);
}

}  // namespace

int main(int argc, char** argv) {
  return run_command_line(argc, argv,
                          [argv](const Options& options) { return run(options, argv); });
}
