// SPDX-License-Identifier: Apache-2.0
// What a launched program sees of itself: this test's own executable, started with "probe", prints
// one "key=value" a line to its standard output.
#pragma once

#include <map>
#include <string>

#include "base/result.h"
#include "qemu/process.h"

namespace tenure::qemu {

// main() of the probe.
int run_probe();

// A world-executable copy of this program: the build folder may be closed to a guest's uid.
const std::string& probe_path();

// argv, and an environment that lets a sanitized probe run.
LaunchSpec probe_spec();

using Seen = std::map<std::string, std::string>;

// Launches `spec` with its output on a pipe, reaps it and returns what it printed.
Result<Seen> launch_and_look(LaunchSpec spec);

// Exit code or, negative, the signal that ended the process; reaps it.
int wait_for(const Launched& launched);

}  // namespace tenure::qemu
