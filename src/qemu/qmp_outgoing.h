// SPDX-License-Identifier: Apache-2.0
// A QMP command on its way to QEMU, with the descriptors that travel with it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace tenure::qemu {

inline constexpr size_t kMaxFds = 253;  // SCM_MAX_FD of the kernel, unix(7)

struct Outgoing {
  uint64_t id = 0;
  std::string bytes;
  size_t sent = 0;
  // Copies: the caller may give up and close its own while this still waits to be written.
  std::vector<UniqueFd> fds;
};

// sendmsg(2) of what is left of `message`; its fds go with the first byte. -1 and errno as there.
ssize_t send_some(int socket, const Outgoing& message);

}  // namespace tenure::qemu
