// SPDX-License-Identifier: Apache-2.0
// What `tenure` and tenure-local have in common as programs, and where the programs of Tenure are:
// beside each other, in the build tree as when installed.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "cli/options.h"

namespace tenure::cli {

// The path of `name`: beside this program, in ../sbin or in ../libexec/tenure; `name` alone if it
// is in none of them. Thread-safe.
std::string program_path(std::string_view name);

// The whole of main(): runs what the command line says, or prints its help or what is wrong with
// it; the last net for what third-party code throws (bad_alloc above all). Returns the exit code.
int run_command_line(int argc, char** argv, const std::function<int(const Options&)>& run);

// A command that a program has.
struct Command {
  std::string_view name;
  int (*run)(const Options&);
};
// Of that name; nullptr if it is none of them.
const Command* find_command(std::span<const Command> commands, std::string_view name);

// Becomes tenure-local with the same command line; `argv` as main() has it, ended by a null
// pointer. Returns only if that fails: errno says why.
void become_local(char** argv);

}  // namespace tenure::cli
