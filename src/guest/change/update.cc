// SPDX-License-Identifier: Apache-2.0
#include "guest/change/update.h"

#include "domain/update.h"
#include "guest/change/update_parts.h"

namespace tenure::guest {

asio::awaitable<Result<Updated>> update(Live& live, std::string xml, std::string source,
                                        Patience patience, registrar::Txn txn) {
  if (!live.qmp)
    co_return fail(Errc::Unsupported, "update: no monitor to this guest");
  CO_TRY(domain::Update plan, domain::plan_update(*live.domain, xml, source));
  Updated updated{.alias = plan.alias, .changes = {}};
  if (plan.drive) {
    updated.changes.emplace_back("medium");
    domain::Disk drive = std::move(*plan.drive);
    CO_TRY_OK(co_await change_medium(live, std::move(drive), patience, std::move(txn)));
  }
  if (plan.nic) {
    domain::Interface nic = std::move(*plan.nic);
    CO_TRY(updated.changes, co_await change_connection(live, std::move(nic), std::move(txn)));
  }
  co_return updated;
}

}  // namespace tenure::guest
