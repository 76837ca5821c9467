// SPDX-License-Identifier: Apache-2.0
// AF_UNIX stream sockets by path, of any length of path (sun_path holds 107 bytes; longer ones go
// through /proc/self/fd of their folder, unix(7)). Thread-safe.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace tenure {

// Bytes of a path that sun_path holds, without its NUL (unix(7)).
inline constexpr size_t kMaxSocketPath = 107;

// A socket bound to `path` (a former one there is removed) with `mode`, listening; close-on-exec,
// non-blocking. Exists if there is something else than a socket.
Result<UniqueFd> listen_unix(const std::string& path, unsigned mode, int backlog = 16);
// Removes the socket `path`, if there is one; Exists if it is something else.
Result<> remove_socket(const std::string& path);
// A connected socket; close-on-exec, blocking. NotFound if nobody ever listened, else Io
// (ECONNREFUSED: nobody does now).
Result<UniqueFd> connect_unix(const std::string& path);

}  // namespace tenure
