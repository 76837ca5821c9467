// SPDX-License-Identifier: Apache-2.0
#include "base/paths.h"

#include <unistd.h>

#include <cstdlib>

namespace tenure {

Paths paths_below(std::string root) {
  while (root.ends_with('/')) root.pop_back();
  Paths paths;
  paths.state = root + "/var/lib/tenure";
  paths.ledger = paths.state + "/ledger";
  paths.runtime = root + "/run/tenure";
  paths.logs = root + "/var/log/tenure";
  paths.config = root + "/etc/tenure/tenure.conf";
  paths.socket = paths.runtime + "/tenured.sock";
  paths.root = std::move(root);
  return paths;
}

std::string choose_root(const std::string& option) {
  if (!option.empty())
    return option;
  if (const char* env = std::getenv("TENURE_ROOT"); env != nullptr && *env != '\0')
    return env;
  if (geteuid() == 0)
    return "";
  const char* home = std::getenv("HOME");
  return std::string(home != nullptr ? home : "/tmp") + "/.local/state/tenure";
}

}  // namespace tenure
