// SPDX-License-Identifier: Apache-2.0
// Steps that the operations on a running guest have in common. The caller holds the guest's turn.
#pragma once

#include <asio/awaitable.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "guest/run/ask.h"
#include "guest/run/live.h"

namespace tenure::guest {

// Sends removals to QEMU; the first that failed of anything that was there.
asio::awaitable<Result<>> remove_parts(Live& live, std::vector<qemu::Command> commands);

// Takes the backends of a device out of QEMU, as far as there are any; the first error.
asio::awaitable<Result<>> remove_backends(Live& live, const domain::Domain& device);

// Nothing was taken from the holders of these names: says so of their own resources, by grant.
asio::awaitable<void> record_refusal(Live& live, const std::set<std::string>& names,
                                     const registrar::Txn& txn, std::string_view reason,
                                     std::string why);

// The tenures of the device end as far as they can, with `reason` (detach, update); what stays is
// given back to the guest (Busy).
asio::awaitable<Result<>> release_device(Live& live, const domain::Domain& device,
                                         std::string reason, std::string why, registrar::Txn txn);

// The same of tenures that were taken out of the guest's.
asio::awaitable<Result<>> release_holds(Live& live, std::vector<registrar::Hold> going,
                                        std::string reason, std::string why, registrar::Txn txn);

}  // namespace tenure::guest
