// SPDX-License-Identifier: Apache-2.0
// A device of a running guest changes: another medium in a drive, the link state of an interface,
// its bridge. The tenures of what goes end, those of what comes begin. The caller holds the guest's
// turn.
#pragma once

#include <asio/awaitable.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "guest/change/change.h"
#include "guest/run/live.h"

namespace tenure::guest {

struct Updated {
  std::string alias;
  std::vector<std::string> changes;  // of medium, bridge, link; none: it was so already
};

// `xml` is one element of <devices> (domain::plan_update). A tray that the guest has locked is
// waited for, at most patience.timeout, or opened by patience.force. Errors: those of the plan;
// Timeout if the guest keeps the tray locked; where the new medium cannot be had after the old one
// is out, the drive is empty, and the error says so.
asio::awaitable<Result<Updated>> update(Live& live, std::string xml, std::string source,
                                        Patience patience, registrar::Txn txn);

// After an adoption: of two tenures of an interface that was being moved the one ends that is not
// so, and the definition has the other.
asio::awaitable<Result<>> settle_bridges(Live& live, registrar::Txn txn);

// After an adoption: drives that QEMU has nothing in are empty, whatever was noted of them.
asio::awaitable<Result<>> settle_drives(Live& live, registrar::Txn txn);

}  // namespace tenure::guest
