// SPDX-License-Identifier: Apache-2.0
// Requests for the images of a guest's disks.
#include <fmt/format.h>

#include <algorithm>

#include "daemon/guests.h"
#include "domain/text.h"

namespace tenure::daemon {

using registrar::Txn;

namespace {

// The definition's text with the disk as it is now; "" where it never had the disk as it was.
Result<std::string> followed_text(const std::string& xml, const guest::DiskMoved& moved) {
  TRY(const domain::Domain read, domain::parse_complete(xml, "definition"));
  auto same = [&](const domain::Disk& disk) {
    return disk.target == moved.before.target && disk.path == moved.before.path;
  };
  auto disk = std::ranges::find_if(read.disks, same);
  if (disk == read.disks.end())
    return "";
  domain::Disk now = moved.after;
  // Who did not state the chain does not state it now.
  if (!disk->backing)
    now.backing.reset();
  const std::string& alias = disk->info.alias;
  TRY(const std::string element, domain::device_text(xml, alias));
  return domain::with_element(xml, alias, domain::with_chain(element, now));
}

}  // namespace

asio::awaitable<Result<>> Guests::snapshot(std::string guest, guest::SnapshotRequest request,
                                           Requester who) {
  std::string op = "snapshot";
  CO_TRY(auto found, co_await running_or_refuse(op, std::move(guest), who));
  Txn txn{.id = context_.new_txn(), .who = who};
  Result<> done = co_await found->snapshot(std::move(request), std::move(txn));
  if (!done)
    co_return std::unexpected(
        co_await refuse(std::move(op), name_of(*found), std::move(who), done.error()));
  co_return done;
}

asio::awaitable<Result<std::string>> Guests::start_job(std::string guest,
                                                       guest::BlockJobRequest request, bool wait,
                                                       Requester who) {
  std::string op = request.op;
  CO_TRY(auto found, co_await running_or_refuse(op, std::move(guest), who));
  Txn txn{.id = context_.new_txn(), .who = who};
  auto done = co_await found->start_job(std::move(request), wait, std::move(txn));
  if (!done)
    co_return std::unexpected(
        co_await refuse(std::move(op), name_of(*found), std::move(who), done.error()));
  co_return done;
}

asio::awaitable<Result<>> Guests::steer_job(std::string guest, std::string disk, std::string action,
                                            Requester who) {
  std::string op = "blockjob";
  CO_TRY(auto found, co_await running_or_refuse(op, std::move(guest), who));
  Txn txn{.id = context_.new_txn(), .who = who};
  Result<> done = co_await found->steer_job(std::move(disk), std::move(action), std::move(txn));
  if (!done)
    co_return std::unexpected(
        co_await refuse(std::move(op), name_of(*found), std::move(who), done.error()));
  co_return done;
}

asio::awaitable<void> Guests::follow_disk(guest::DiskMoved moved) {
  const Definition* known = definition(moved.uuid);
  if (known == nullptr)
    co_return;
  GuestName name{known->name, known->uuid};
  auto text = followed_text(known->xml, moved);
  if (text && text->empty())
    co_return;
  auto domain = text ? domain::parse(*text, definitions_.path_of(moved.uuid))
                     : Result<domain::Domain>(fail(text.error()));
  Result<> put = domain ? definitions_.put(*domain) : fail(domain.error());
  if (!put) {
    context_.log(fmt::format("{}: the definition still has {} as its disk {}: {}", name.name,
                             moved.before.path, moved.before.target, put.error().what()));
    co_return;
  }
  trail::Record record =
      definition_record(trail::Kind::Create, name, domain->kvm ? "kvm" : "qemu", moved.who);
  record.set("why", fmt::format("its disk {} is {} now", moved.after.target, moved.after.path));
  std::vector<trail::Record> records{std::move(record)};
  Result<> written = co_await context_.journal.write(std::move(records));
  if (!written)
    context_.log(fmt::format("{}: define: {}", name.name, written.error().what()));
}

}  // namespace tenure::daemon
