// SPDX-License-Identifier: Apache-2.0
// Modules of memory that join or leave a running guest. A guest has one amount of memory, whatever
// it came by: the records of a module say what QEMU reports of the whole before and after. The
// caller holds the guest's turn.
#pragma once

#include <asio/awaitable.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "domain/domain.h"
#include "guest/run/live.h"
#include "model/claim.h"

namespace tenure::guest {

// The claims of a plan for devices that join know the module alone: puts what the guest has now,
// and what it will have, into them.
void complete_amounts(const Live& live, std::vector<model::Claim>& claims);

// `device` has gone from QEMU, or was never there: records what the guest has now, if the device is
// a module.
asio::awaitable<Result<>> note_unplugged(Live& live, const domain::Domain& device, std::string why,
                                         registrar::Txn txn);

// The guest did not give the module back. Nothing is recorded for other devices.
asio::awaitable<void> record_kept_module(Live& live, const domain::Domain& device,
                                         registrar::Txn txn, std::string why);

}  // namespace tenure::guest
