// SPDX-License-Identifier: Apache-2.0
// tenured: runs guests and keeps their trail. Everything is in daemon.cc; this is the command line.
#include <cstdio>
#include <string>
#include <string_view>

#include "base/text.h"
#include "daemon/daemon.h"

namespace {

constexpr char kUsage[] =
    "usage: tenured [--root DIR] [--ready-fd N]\n"
    "Serves the guests of one root (default: the machine's own). See tenured(8).\n";

// Exit codes of cli/exit_code.h: 2 usage, 8 failed.
int usage() {
  std::fputs(kUsage, stderr);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  std::string root;
  int ready_fd = -1;
  for (int i = 1; i < argc; ++i) {
    std::string_view word = argv[i];
    bool has_value = i + 1 < argc;
    if (word == "--help")
      return std::fputs(kUsage, stdout) < 0 ? 8 : 0;
    if (word == "--version")
      return std::puts("tenured " TENURE_VERSION) < 0 ? 8 : 0;
    if (word == "--root" && has_value) {
      root = argv[++i];
    } else if (word == "--ready-fd" && has_value) {
      auto number = tenure::parse_int<int>(argv[++i]);
      if (!number || *number < 3)
        return usage();
      ready_fd = *number;
    } else {
      return usage();
    }
  }
  tenure::daemon::DaemonOptions options{.paths = tenure::paths_below(tenure::choose_root(root)),
                                        .ready_fd = ready_fd};
  auto done = tenure::daemon::run_daemon(options);
  if (done)
    return 0;
  std::fprintf(stderr, "tenured: %s\n", done.error().what().c_str());
  return done.error().code() == tenure::Errc::Invalid ? 2 : 8;
}
