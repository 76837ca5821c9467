// SPDX-License-Identifier: Apache-2.0
// Where everything of one instance lies, all below one root, so that instances run side by side.
#pragma once

#include <string>

namespace tenure {

struct Paths {
  std::string root;     // "" for the machine's own instance
  std::string state;    // root/var/lib/tenure: definitions, keys, uids
  std::string ledger;   // root/var/lib/tenure/ledger
  std::string runtime;  // root/run/tenure: socket, runs, pidfile; gone after a reboot
  std::string logs;     // root/var/log/tenure: stderr of QEMU and of the daemon
  std::string config;   // root/etc/tenure/tenure.conf
  std::string socket;   // runtime/tenured.sock
};

// `root` without trailing slash; "" or "/" is the machine's own.
Paths paths_below(std::string root);

// The root to use: `option` (--root) if not empty, else $TENURE_ROOT, else "" for uid 0 and
// ~/.local/state/tenure for everybody else.
std::string choose_root(const std::string& option);

}  // namespace tenure
