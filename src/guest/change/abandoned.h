// SPDX-License-Identifier: Apache-2.0
// What a daemon that died in the middle of an operation left in a running QEMU: files that were
// lent to it, vCPUs that stand still, a reboot that waits for its reset.
#pragma once

#include <asio/awaitable.hpp>

#include "guest/run/file_loan.h"

namespace tenure::guest {

// Cancels a migration that goes on, ends a reboot with its record, releases the loans among
// to.holds that QEMU has closed (what it still has open stays), and lets the vCPUs go on if
// state.suspended. `state` is that of `to`.
asio::awaitable<void> end_abandoned(Borrower to, RunState& state, registrar::Txn txn);

// Lets the vCPUs go on after a migration, once QEMU is through with it.
asio::awaitable<Result<>> go_on(Borrower to);

}  // namespace tenure::guest
