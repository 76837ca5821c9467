// SPDX-License-Identifier: Apache-2.0
// The sockets of the audit system: status queries and the multicast listener. The listener's socket
// filter lets only records of virtual machines in, so that a busy audit log neither wakes us nor
// fills our buffer.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "kernel/audit.h"
#include "kernel/audit_text.h"

namespace tenure::kernel {

// How long an answer of the kernel is waited for, in ms; it comes within microseconds.
inline constexpr int kAuditReplyMs = 1000;

// audit_open(3). Unsupported where the kernel has no audit.
Result<UniqueFd> open_audit_socket();

// AUDIT_GET on `fd`, which nobody else may use meanwhile. Blocks while the kernel's backlog is
// full. Denied without CAP_AUDIT_CONTROL and outside the initial pid namespace, Unsupported in a
// user namespace.
Result<AuditStatus> query_audit_status(int fd);

// Joins AUDIT_NLGRP_READLOG with a receive buffer of that size (CAP_NET_ADMIN; else as much as
// net.core.rmem_max allows). Non-blocking. Denied without CAP_AUDIT_READ.
Result<UniqueFd> open_audit_listener(int receive_buffer_bytes);

// One datagram of the listener.
struct AuditNews {
  enum class Kind { Record, Other, Overrun, Nothing } kind = Kind::Nothing;
  AuditEcho echo;  // if Record
};
// Does not block: Nothing if there is none. Overrun if records were lost since the last call
// (ENOBUFS).
Result<AuditNews> receive_audit_news(int fd);

// The tgid that the kernel will name in our records; 0 if we cannot know it (a pid namespace).
int32_t own_audit_pid();

// False if we are surely in a network namespace other than the initial one.
bool in_initial_net_namespace(const std::string& sysctl_net_core = "/proc/sys/net/core");

}  // namespace tenure::kernel
