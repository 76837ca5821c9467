// SPDX-License-Identifier: Apache-2.0
#include "guest/change/steps.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "guest/change/chain.h"
#include "guest/plan/plan.h"
#include "guest/run/end_of_run.h"

namespace tenure::guest {
namespace {

using nlohmann::json;
using registrar::Hold;
using registrar::Txn;

bool is_held_by(const Hold& hold, const std::set<std::string>& names) {
  return names.contains(hold.claim.holder);
}

// An earlier try had removed it, or none has made it. QEMU has a class of its own for that with
// some commands; chardev-remove, object-del and closefd (chardev/char.c, qom/qom-qmp-cmds.c,
// monitor/misc.c) only say so.
bool is_gone(const Error& error) {
  return error.code() == Errc::NotFound || error.what().ends_with(" not found");
}

}  // namespace

asio::awaitable<Result<>> remove_parts(Live& live, std::vector<qemu::Command> commands) {
  std::vector<Result<json>> answers = co_await ask_all(live, std::move(commands));
  std::erase_if(answers, [](const auto& answer) { return !answer && is_gone(answer.error()); });
  co_return first_failure(answers);
}

asio::awaitable<Result<>> remove_backends(Live& live, const domain::Domain& device) {
  std::vector<std::string> nodes;
  if (!device.disks.empty()) {
    CO_TRY(BlockNodes known, co_await ask_block_nodes(live));
    CO_TRY(nodes, qemu::stray_nodes(known.graph, known.nodes, device.disks.front()));
  }
  CO_TRY(std::vector<qemu::Command> commands, qemu::unplug_commands(device, *live.domain, nodes));
  co_return co_await remove_parts(live, std::move(commands));
}

asio::awaitable<void> record_refusal(Live& live, const std::set<std::string>& names, const Txn& txn,
                                     std::string_view reason, std::string why) {
  std::vector<trail::Record> records;
  for (const Hold& hold : live.holds) {
    if (!is_held_by(hold, names) || registrar::has_act(hold.claim))
      continue;
    trail::Record record = registrar::release_record(hold, reason);
    registrar::stamp(record, live.state.ref, txn);
    record.set("why", why);
    record.success = false;
    records.push_back(std::move(record));
  }
  Result<> written = co_await live.context.journal.write(std::move(records));
  if (!written)
    live.context.log(fmt::format("{}: {}: {}", live.state.ref.vm, reason, written.error().what()));
}

asio::awaitable<Result<>> release_device(Live& live, const domain::Domain& device,
                                         std::string reason, std::string why, Txn txn) {
  std::set<std::string> names = holder_names(device);
  std::vector<Hold> going, staying;
  for (Hold& hold : live.holds)
    (is_held_by(hold, names) ? going : staying).push_back(std::move(hold));
  live.holds = std::move(staying);
  co_return co_await release_holds(live, std::move(going), std::move(reason), std::move(why),
                                   std::move(txn));
}

asio::awaitable<Result<>> release_holds(Live& live, std::vector<Hold> going, std::string reason,
                                        std::string why, Txn txn) {
  Result<> dropped = live.seams->drop_nodes(nodes_of(going), live.holds);
  registrar::Ending ending{
      .reason = std::move(reason), .why = std::move(why), .bounds = {}, .staying = &live.holds};
  auto left = co_await registrar::release(live.context.journal, live.state.ref, std::move(txn),
                                          *live.seams, std::move(going), std::move(ending));
  Result<> committed = co_await live.context.journal.commit();
  CO_TRY_OK(left);
  std::string still = left->empty() ? "" : still_held(*left);
  for (Hold& hold : *left) live.holds.push_back(std::move(hold));
  std::ranges::sort(live.holds, {}, &Hold::grant);
  CO_TRY_OK(dropped);
  if (!still.empty())
    co_return fail(Errc::Busy, still);
  co_return committed;
}

}  // namespace tenure::guest
