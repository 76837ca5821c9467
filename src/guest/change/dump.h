// SPDX-License-Identifier: Apache-2.0
// What QEMU writes of a running guest into a file that the daemon opened for it: its memory, its
// screen. The caller holds the guest's turn.
#pragma once

#include <asio/awaitable.hpp>
#include <string>

#include "guest/run/live.h"

namespace tenure::guest {

// The guest's memory as a core file: `format` is elf (default), kdump-zlib, kdump-lzo or
// kdump-snappy. Physical memory, no paging. QEMU stops the vCPUs meanwhile. Success only when QEMU
// says completed; else what was begun of a new file is removed.
asio::awaitable<Result<>> dump(Live& live, std::string path, std::string format,
                               registrar::Txn txn);

// The first screen as a picture: `format` is ppm (default) or png.
asio::awaitable<Result<>> screenshot(Live& live, std::string path, std::string format,
                                     registrar::Txn txn);

}  // namespace tenure::guest
