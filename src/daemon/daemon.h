// SPDX-License-Identifier: Apache-2.0
// Puts one instance together: configuration, ledger, audit, fences, recovery, socket, loop. See
// DESIGN §8.
#pragma once

#include <string>

#include "base/paths.h"
#include "base/result.h"

namespace tenure::daemon {

struct DaemonOptions {
  Paths paths;
  int ready_fd = -1;  // one byte is written there when the socket listens
};

// Runs until SIGTERM or SIGINT; guests go on after it. Busy if another tenured has this root. Logs
// to stderr.
Result<> run_daemon(const DaemonOptions& options);

}  // namespace tenure::daemon
