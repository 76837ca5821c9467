// SPDX-License-Identifier: Apache-2.0
#include "registrar/settle.h"

#include <utility>

namespace tenure::registrar {

asio::awaitable<Result<>> settle(Journal& journal, OpenRun& run, Present present, std::string why) {
  std::vector<trail::Record> granted, voided;
  for (Pending& pending : std::exchange(run.pending, {})) {
    model::Claim claim = model::claim_of(pending.record);
    // An operation's own record claims nothing.
    Result<bool> there = claim.kind.empty() ? Result<bool>(false) : present(pending.index, claim);
    if (!there) {
      pending.unknown = there.error().what();
      run.pending.push_back(std::move(pending));
      continue;
    }
    trail::Record record = std::move(pending.record);
    record.set("grant", pending.index);
    if (!*there) {
      voided.push_back(std::move(record));
      continue;
    }
    record.set("why", why);
    granted.push_back(std::move(record));
    // As in Operation: deny-all is an act, not a tenure.
    if (claim.record.kind != trail::Kind::CgroupAll)
      run.holds.push_back({.grant = pending.index, .claim = std::move(claim)});
  }
  CO_TRY_OK(journal.withdraw(voided));
  Result<> emitted = co_await journal.emit(std::move(granted));
  if (!emitted && emitted.error().code() != Errc::Lost)
    co_return emitted;
  co_return Result<>{};
}

}  // namespace tenure::registrar
