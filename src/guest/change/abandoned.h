// SPDX-License-Identifier: Apache-2.0
// What a daemon that died in the middle of an operation left in a running QEMU: files that were
// lent to it, vCPUs that stand still, a reboot that waits for its reset.
#pragma once

#include <asio/awaitable.hpp>
#include <chrono>
#include <memory>

#include "guest/run/file_loan.h"

namespace tenure::guest {

// Cancels a migration that goes on, ends a reboot with its record, releases the loans among
// to.holds that QEMU has closed (what it still has open stays), and lets the vCPUs go on if
// state.suspended. `state` is that of `to`.
asio::awaitable<void> end_abandoned(Borrower to, RunState& state, registrar::Txn txn);

// Lets the vCPUs of a guest begin whose daemon died after op=start was recorded and before `cont`.
// Errors: as Qmp::execute(), each of the two commands with `timeout`.
asio::awaitable<Result<>> resume_if_never_run(std::shared_ptr<qemu::Qmp> qmp,
                                              std::chrono::milliseconds timeout);

// Lets the vCPUs go on after a migration, once QEMU is through with it.
asio::awaitable<Result<>> go_on(Borrower to);

}  // namespace tenure::guest
