// SPDX-License-Identifier: Apache-2.0
#include "cli/programs.h"

#include <unistd.h>

#include <cstdio>
#include <exception>

#include "cli/exit_code.h"

namespace tenure::cli {

std::string program_path(std::string_view name) {
  std::string self(4096, '\0');
  const ssize_t n = readlink("/proc/self/exe", self.data(), self.size());
  if (n <= 0)
    return std::string(name);
  self.resize(static_cast<size_t>(n));
  const std::string folder = self.substr(0, self.rfind('/'));
  for (const char* where : {"/", "/../sbin/", "/../libexec/tenure/"}) {
    std::string path = folder + where + std::string(name);
    if (access(path.c_str(), X_OK) == 0)
      return path;
  }
  return std::string(name);
}

int run_command_line(int argc, char** argv, const std::function<int(const Options&)>& run) {
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

const Command* find_command(std::span<const Command> commands, std::string_view name) {
  for (const Command& command : commands) {
    if (command.name == name)
      return &command;
  }
  return nullptr;
}

void become_local(char** argv) {
  execvp(program_path("tenure-local").c_str(), argv);
}

}  // namespace tenure::cli
