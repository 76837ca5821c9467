// SPDX-License-Identifier: Apache-2.0
#include "guest/run/undecided.h"

#include <fmt/format.h>

#include <vector>

#include "guest/run/confirm.h"
#include "registrar/settle.h"

namespace tenure::guest {
namespace {

// Of which QEMU itself has to tell.
bool is_of_qemu(const model::Claim& claim) {
  return !claim.kind.empty() &&
         (!registrar::has_act(claim) || claim.record.kind == trail::Kind::NetOpen);
}

}  // namespace

asio::awaitable<Verdicts> ask_qemu(Undecided at, kernel::ProcessId process,
                                   std::shared_ptr<qemu::Qmp> qmp) {
  Verdicts found;
  std::vector<registrar::Pending*> asked;
  std::vector<model::Claim> claims;
  for (registrar::Pending& pending : at.run.pending) {
    model::Claim claim = model::claim_of(pending.record);
    if (!is_of_qemu(claim))
      continue;
    asked.push_back(&pending);
    claims.push_back(std::move(claim));
  }
  if (asked.empty())
    co_return found;
  auto facts = look_up(at.domain, at.options, Missing::Note);
  Facts known = facts ? std::move(*facts) : Facts{};
  std::vector<model::Claim*> pointers;
  for (model::Claim& claim : claims) pointers.push_back(&claim);
  std::vector<Result<bool>> held =
      co_await confirm_each(qmp, process, known, at.seams, std::move(pointers));
  for (size_t i = 0; i < held.size(); ++i) {
    if (held[i] && *held[i])
      asked[i]->record = claims[i].record;
    found.emplace(asked[i]->index, std::move(held[i]));
  }
  co_return found;
}

asio::awaitable<Result<>> settle_undecided(Undecided at, Verdicts verdicts, std::string why) {
  // By the index of the intent: two claims may read alike.
  auto present = [&at, &verdicts](uint64_t index, const model::Claim& claim) -> Result<bool> {
    auto verdict = verdicts.find(index);
    // A macvtap that QEMU does not have may be there all the same.
    const bool denied = verdict != verdicts.end() && verdict->second && !*verdict->second;
    return verdict == verdicts.end() || denied ? at.seams.present(claim) : verdict->second;
  };
  CO_TRY_OK(
      co_await registrar::settle(at.context.journal, at.run, std::move(present), std::move(why)));
  for (const registrar::Pending& pending : at.run.pending)
    at.context.log(fmt::format("{}: cannot tell whether it holds {}, so that stays open: {}",
                               at.run.ref.vm, model::claim_of(pending.record).id, pending.unknown));
  co_return Result<>{};
}

}  // namespace tenure::guest
