// SPDX-License-Identifier: Apache-2.0
// What `tenure status` says of a guest: read from the kernel and from QEMU now, beside what the
// trail has open.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "daemon/drift.h"
#include "daemon/guests.h"
#include "daemon/witness.h"
#include "guest/run/context.h"
#include "guest/run/live_check.h"

namespace tenure::daemon {

// Of a guest that runs, or is only defined.
nlohmann::json status_of(const guest::Context& context, const Guests& guests,
                         const DriftWatch& drift, const GuestName& name);
nlohmann::json to_json(const guest::Difference& difference);
// The state of the trail itself: audit as the kernel reports it now, the policy, the gap if there
// is one.
nlohmann::json audit_status(const guest::Context& context);

// How far the ledger is durable, published and witnessed. `witness` null: none is configured.
nlohmann::json ledger_status(const guest::Context& context, const Witness* witness);

}  // namespace tenure::daemon
