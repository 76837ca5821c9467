// SPDX-License-Identifier: Apache-2.0
// Processes that help QEMU and belong to its guest: how each kind is called and what it may do.
// Pure; guest/run/helpers.h starts and watches them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "domain/host_device.h"

namespace tenure::qemu {

struct HelperKind {
  std::string_view name;               // in messages and in the state of a run
  std::span<const char* const> paths;  // where it may be, the first that is there is taken
  uint64_t start_capabilities;         // mask: what it needs to make its sandbox
  uint64_t serve_capabilities;         // mask: at most those while it serves
};

// A virtiofsd, QEMU's own (C) or that of the virtio-fs project (Rust).
extern const HelperKind kVirtiofsd;

// argv of a virtiofsd that serves `folder`, by options that both of them document. It accepts one
// connection at `listen_fd` and ends with that.
std::vector<std::string> virtiofsd_command(const domain::Filesystem& fs, const std::string& binary,
                                           int listen_fd, const std::string& folder);

}  // namespace tenure::qemu
