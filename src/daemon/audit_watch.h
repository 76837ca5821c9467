// SPDX-License-Identifier: Apache-2.0
// Looks whether auditd stores what the kernel emits, and whether an audit system that lost records
// is back: neither is told to anybody. Tells the journal, which keeps the gap and its policy.
#pragma once

#include <asio/awaitable.hpp>

#include "guest/run/context.h"
#include "kernel/audit_state.h"

namespace tenure::daemon {

// Until the executor stops. Asks the kernel and reads the end of auditd's log only while a record
// waits to be found there, or a gap is open.
asio::awaitable<void> watch_audit(guest::Context& context);

// What the kernel's audit looks like now, to this process.
kernel::AuditFacts audit_facts(registrar::Journal& journal);

}  // namespace tenure::daemon
