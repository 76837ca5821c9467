// SPDX-License-Identifier: Apache-2.0
// The two kinds of update(). Private to src/guest.
#pragma once

#include <asio/awaitable.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "domain/device.h"
#include "guest/change/change.h"
#include "guest/run/live.h"

namespace tenure::guest {

// update_drive.cc: out with the medium, in with that of `drive`, if it has one.
asio::awaitable<Result<>> change_medium(Live& live, domain::Disk drive, Patience patience,
                                        registrar::Txn txn);

// update_interface.cc: bridge, then link state; which of them changed.
asio::awaitable<Result<std::vector<std::string>>> change_connection(Live& live,
                                                                    domain::Interface nic,
                                                                    registrar::Txn txn);

// The record of a link that was set.
trail::Record link_record(const RunState& state, bool kvm, const domain::Interface& nic);

}  // namespace tenure::guest
