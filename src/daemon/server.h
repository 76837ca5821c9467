// SPDX-License-Identifier: Apache-2.0
// The Unix socket: Varlink's wire form (NUL-terminated JSON), one call after the other on a
// connection. Peers are hostile: messages are bounded, stalled ones are dropped, and only root and
// our own uid are heard.
#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <cstddef>
#include <functional>
#include <string>

#include "base/unique_fd.h"
#include "daemon/api.h"

namespace tenure::daemon {

inline constexpr size_t kMaxMessage =
    32UL << 20U;  // bytes: a 4 MiB definition, every byte escaped as \u00XX
// One more drops the connection that has been idle for longest.
inline constexpr size_t kMaxConnections = 512;
// Of all unfinished messages together; the one that would exceed it is dropped.
inline constexpr size_t kMaxUnfinished = 2 * kMaxMessage;  // bytes

// Accepts until the executor stops. `listener` is a listening AF_UNIX socket.
asio::awaitable<void> serve(asio::any_io_executor executor, UniqueFd listener, Api& api,
                            std::function<void(const std::string&)> log);

}  // namespace tenure::daemon
