// SPDX-License-Identifier: Apache-2.0
#include "guest/change/module.h"

#include <fmt/format.h>

#include "base/text.h"
#include "guest/change/amount.h"

namespace tenure::guest {

using registrar::Txn;
using trail::Kind;

void complete_amounts(const Live& live, std::vector<model::Claim>& claims) {
  for (model::Claim& claim : claims) {
    if (claim.record.kind != Kind::Mem)
      continue;
    uint64_t before = held_memory_kib(live);
    uint64_t more = parse_int<uint64_t>(claim.id).value_or(0);
    claim.record.set("old-mem", before).set("new-mem", before + more);
    claim = model::claim_of(std::move(claim.record));
  }
}

asio::awaitable<Result<>> note_unplugged(Live& live, const domain::Domain& device, std::string why,
                                         Txn txn) {
  if (device.memories.empty())
    co_return Result<>{};
  std::string alias = device.memories.front().info.alias;
  co_return co_await note_reported_memory(live, std::move(alias), std::move(why), std::move(txn));
}

asio::awaitable<void> record_kept_module(Live& live, const domain::Domain& device, Txn txn,
                                         std::string why) {
  if (device.memories.empty())
    co_return;
  const domain::MemoryDevice& memory = device.memories.front();
  uint64_t has = held_memory_kib(live);
  trail::Record record(Kind::Mem);
  record.set("reason", "update")
      .set("old-mem", has)
      .set("new-mem", has - std::min(has, memory.size_kib))
      .set("device", memory.info.alias)
      .set("why", why);
  record.success = false;
  registrar::stamp(record, live.state.ref, txn);
  std::vector<trail::Record> records{std::move(record)};
  Result<> written = co_await live.context.journal.write(std::move(records));
  if (!written)
    live.context.log(fmt::format("{}: detach: {}", live.state.ref.vm, written.error().what()));
}

}  // namespace tenure::guest
