// SPDX-License-Identifier: Apache-2.0
// Starts a guest: facts, claims, intents, acts, QEMU, read-back, results. Reads top to bottom in
// start.cc.
#pragma once

#include <asio/awaitable.hpp>
#include <memory>

#include "guest/change/save.h"
#include "guest/guest.h"
#include "guest/plan/plan.h"

namespace tenure::guest {

struct StartRequest {
  std::unique_ptr<domain::Domain> domain;  // complete
  uint64_t run = 1;                        // number of this life
  registrar::Txn txn;
  std::optional<bool> require_fence;           // instead of the settings'
  std::optional<kernel::CgroupVersion> fence;  // instead of v2 where there is one, else v1
  std::optional<Saved> saved;  // its state, of which `domain` is the definition; nullopt: it boots
};

// On failure nothing is left granted and QEMU is gone; the trail has what was granted and released,
// and op=start res=failed with the reason.
asio::awaitable<Result<std::shared_ptr<Guest>>> start(Context& context, StartRequest request);

// What start() would choose for this guest on this host. Busy: no uid left; Denied: no fence can be
// had and settings.require_fence.
Result<HostOptions> host_options(const Context& context, const StartRequest& request);

}  // namespace tenure::guest
