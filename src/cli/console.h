// SPDX-License-Identifier: Apache-2.0
// A terminal on a guest's serial port.
#pragma once

#include <string>

#include "base/result.h"

namespace tenure::cli {

// Copies between standard input/output and the console until either ends, or until Ctrl-] is typed
// at a terminal, which is put into raw mode meanwhile. `type` is "pty" (a path to open) or "unix"
// (a socket to connect to). At the end of a standard input that is no terminal, output goes on
// until the guest closes.
Result<> relay_console(const std::string& type, const std::string& path);

}  // namespace tenure::cli
