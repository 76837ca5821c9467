// SPDX-License-Identifier: Apache-2.0
#include "daemon/guests.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "domain/guest_word.h"
#include "domain/text.h"
#include "kernel/process.h"

namespace tenure::daemon {
namespace {

using guest::Guest;
using registrar::RunRef;
using registrar::Txn;

Result<std::unique_ptr<domain::Domain>> parse_definition(const std::string& xml,
                                                         const std::string& source) {
  TRY(domain::Domain domain, domain::parse(xml, source));
  // In the text as well: it is what is kept, started and found again.
  if (!domain.has_uuid) {
    TRY(Uuid uuid, random_uuid());
    TRY(std::string text, domain::with_uuid(xml, uuid));
    TRY(domain, domain::parse(text, source));
  }
  return std::make_unique<domain::Domain>(std::move(domain));
}

Result<> forget_saved(const std::string& path) {
  if (!path.empty() && unlink(path.c_str()) < 0 && errno != ENOENT)
    return fail_sys("remove", path);
  return {};
}

// What was asked for is done, and recorded; whoever asked learns what is left all the same.
Result<> ended(const Guest& guest, std::string_view op) {
  Result<> outcome = guest.outcome();
  if (!outcome)
    return fail(std::move(outcome).error().context(op));
  return outcome;
}

// A record has room for so much of what a peer made up; the rest is in no name that can exist
// (domain::parse() bounds names, and file names are bounded by the kernel).
std::string bounded(std::string text) {
  constexpr size_t kMaxShown = 1024;  // bytes; up to twice as many in hex
  if (text.size() > kMaxShown)
    text = text.substr(0, kMaxShown) + "...";
  return text;
}

}  // namespace

void Guests::adopt(guest::Recovered recovered) {
  for (guest::LeftOver& left : recovered.left_over) keep(std::move(left));
  for (auto& guest : recovered.adopted) {
    watch(guest);
    // It runs: a state that is kept of it was used up, or never finished.
    if (Result<> gone = forget_saved(saved_state(guest->state().ref.uuid)); !gone)
      context_.log(gone.error().what());
  }
  if (Result<> tidy = guest::tidy_managed_saves(context_.paths); !tidy)
    context_.log(tidy.error().what());
}

void Guests::watch(const std::shared_ptr<Guest>& guest) {
  std::string uuid = guest->state().ref.uuid;
  running_[uuid] = guest;
  guest->watch([this, uuid] {
    auto ended = running_.extract(uuid);
    if (ended.empty() || ended.mapped()->holds().empty())
      return;
    std::shared_ptr<Guest> left = ended.mapped();
    keep({.ref = left->state().ref,
          .holds = left->holds(),
          .seams = std::shared_ptr<registrar::Seams>(left, &left->seams())});
  });
}

std::shared_ptr<Guest> Guests::running(const std::string& uuid) const {
  auto it = running_.find(uuid);
  return it == running_.end() ? nullptr : it->second;
}

const Definition* Guests::definition(const std::string& uuid) const {
  auto it = definitions_.all().find(uuid);
  return it == definitions_.all().end() ? nullptr : &it->second;
}

Result<GuestName> Guests::find(const std::string& guest) const {
  std::map<std::string, std::string> names;  // uuid -> name
  for (const auto& left : left_over_) names[left->ref.uuid] = left->ref.vm;
  for (const auto& [uuid, definition] : definitions_.all()) names[uuid] = definition.name;
  for (const auto& [uuid, running] : running_) names[uuid] = running->state().ref.vm;
  for (const auto& [uuid, name] : starting_) names[uuid] = name;
  TRY(std::string uuid, domain::uuid_of_word(names, guest));
  return GuestName{names[uuid], uuid};
}

asio::awaitable<Error> Guests::refuse(std::string op, GuestName guest, Requester who, Error why,
                                      std::string txn_id) {
  trail::Record record(trail::Kind::Refusal);
  record.set("op", op).set("why", bounded(why.what()));
  RunRef ref{
      .virt = "qemu", .vm = bounded(guest.name), .uuid = guest.uuid.empty() ? "?" : guest.uuid};
  if (txn_id.empty())
    txn_id = context_.new_txn();
  Txn txn{.id = std::move(txn_id), .who = std::move(who)};
  registrar::stamp(record, ref, txn);
  record.success = false;
  std::vector<trail::Record> records{std::move(record)};
  Result<> written = co_await context_.journal.write(std::move(records));
  if (!written)
    context_.log(fmt::format("record of a refused {}: {}", op, written.error().what()));
  co_return why;
}

trail::Record Guests::definition_record(trail::Kind kind, const GuestName& guest,
                                        const std::string& virt, const Requester& who) {
  trail::Record record(kind);
  record.set("file", definitions_.path_of(guest.uuid));
  RunRef ref{.virt = virt, .vm = guest.name, .uuid = guest.uuid};
  Txn txn{.id = context_.new_txn(), .who = who};
  registrar::stamp(record, ref, txn);
  return record;
}

asio::awaitable<Result<GuestName>> Guests::define(std::string xml, std::string source,
                                                  Requester who) {
  auto domain = parse_definition(xml, source);
  if (domain) {
    // A definition that could not be started is refused now, not at its start.
    domain::Domain trial = **domain;
    if (Result<> complete = domain::complete(trial); !complete)
      domain = fail(complete.error());
  }
  if (!domain) {
    std::string op = "define";
    GuestName nobody{source, ""};
    co_return std::unexpected(
        co_await refuse(std::move(op), std::move(nobody), std::move(who), domain.error()));
  }
  GuestName name{(*domain)->name, to_string((*domain)->uuid)};
  if (Result<> put = definitions_.put(**domain); !put) {
    std::string op = "define";
    co_return std::unexpected(co_await refuse(std::move(op), name, std::move(who), put.error()));
  }
  std::vector<trail::Record> records{
      definition_record(trail::Kind::Create, name, (*domain)->kvm ? "kvm" : "qemu", who)};
  Result<> written = co_await context_.journal.write(std::move(records));
  // A definition grants nothing; it stands even if its record was lost, and the gap says so.
  if (!written)
    context_.log(fmt::format("{}: define: {}", name.name, written.error().what()));
  co_return name;
}

asio::awaitable<Result<>> Guests::undefine(std::string guest, bool discard_saved, Requester who) {
  auto name = find(guest);
  const Definition* known = name ? definition(name->uuid) : nullptr;
  Result<> may;
  if (known == nullptr)
    may = name ? fail(Errc::NotFound, fmt::format("{}: not defined", guest)) : fail(name.error());
  else if (std::string saved = saved_state(name->uuid); !saved.empty())
    may = discard_saved
              ? forget_saved(saved)
              : fail(Errc::Busy, fmt::format("{}: its state is saved in {}; start it, or undefine "
                                             "it with --discard-saved",
                                             guest, saved));
  if (!may) {
    std::string op = "undefine";
    GuestName wanted = name ? *name : GuestName{guest, ""};
    co_return std::unexpected(
        co_await refuse(std::move(op), std::move(wanted), std::move(who), may.error()));
  }
  std::vector<trail::Record> records{definition_record(trail::Kind::Destroy, *name, "qemu", who)};
  CO_TRY_OK(definitions_.remove(name->uuid));
  Result<> written = co_await context_.journal.write(std::move(records));
  if (!written)
    context_.log(fmt::format("{}: undefine: {}", name->name, written.error().what()));
  co_return Result<>{};
}

Result<> Guests::check_free(const domain::Domain& domain) const {
  std::string uuid = to_string(domain.uuid);
  if (starting_.contains(uuid))
    return fail(Errc::Busy, fmt::format("{} is being started", domain.name));
  if (running_.contains(uuid))
    return fail(Errc::Exists, fmt::format("{} is running", domain.name));
  auto taken = [&](const std::string& other, const std::string& name) {
    return name == domain.name && other != uuid;
  };
  for (const auto& [other, name] : starting_)
    if (taken(other, name))
      return fail(Errc::Exists, fmt::format("a guest named {} is being started", name));
  for (const auto& [other, running] : running_)
    if (taken(other, running->state().ref.vm))
      return fail(Errc::Exists,
                  fmt::format("a guest named {} runs with uuid {}", domain.name, other));
  for (const auto& [other, known] : definitions_.all())
    if (taken(other, known.name))
      return fail(Errc::Exists,
                  fmt::format("a guest named {} is defined with uuid {}", known.name, other));
  return {};
}

asio::awaitable<Result<std::shared_ptr<Guest>>> Guests::start(std::string guest,
                                                              StartOptions options, Requester who) {
  auto name = find(guest);
  const Definition* known = name ? definition(name->uuid) : nullptr;
  if (known == nullptr) {
    std::string op = "start";
    GuestName wanted = name ? *name : GuestName{guest, ""};
    Error why = name ? Error{Errc::Exists, fmt::format("{} is running", guest)} : name.error();
    co_return std::unexpected(
        co_await refuse(std::move(op), std::move(wanted), std::move(who), std::move(why)));
  }
  std::string saved = saved_state(known->uuid);
  if (!saved.empty() && !options.discard_saved)
    co_return co_await restore(std::move(saved), options, std::move(who));
  std::string xml = known->xml;
  std::string source = definitions_.path_of(known->uuid);
  co_return co_await start_xml(std::move(xml), std::move(source), options, std::move(who));
}

asio::awaitable<Result<std::shared_ptr<Guest>>> Guests::start_xml(std::string xml,
                                                                  std::string source,
                                                                  StartOptions options,
                                                                  Requester who) {
  auto domain = parse_definition(xml, source);
  Result<> usable;
  if (!domain)
    usable = fail(domain.error());
  if (usable)
    usable = domain::complete(**domain);
  if (usable)
    usable = check_free(**domain);
  if (usable && !options.discard_saved)
    usable = check_not_saved(to_string((*domain)->uuid), "");
  if (!usable) {
    std::string op = "start";
    GuestName name =
        domain ? GuestName{(*domain)->name, to_string((*domain)->uuid)} : GuestName{source, ""};
    co_return std::unexpected(
        co_await refuse(std::move(op), std::move(name), std::move(who), usable.error()));
  }
  if (options.discard_saved)
    if (Result<> gone = forget_saved(saved_state(to_string((*domain)->uuid))); !gone)
      context_.log(gone.error().what());
  co_return co_await launch(std::move(*domain), std::nullopt, options, std::move(who));
}

asio::awaitable<Result<std::shared_ptr<Guest>>> Guests::launch(
    std::unique_ptr<domain::Domain> domain, std::optional<guest::Saved> saved, StartOptions options,
    Requester who) {
  std::string uuid = to_string(domain->uuid);
  starting_[uuid] = domain->name;
  co_await end_left_over_of(uuid);
  if (!context_.settings.emulator.empty())
    domain->emulator = context_.settings.emulator;
  guest::StartRequest request{.domain = std::move(domain),
                              .run = ++last_run_[uuid],
                              .txn = {.id = context_.new_txn(), .who = std::move(who)},
                              .require_fence = options.require_fence,
                              .fence = options.fence,
                              .saved = std::move(saved)};
  auto guest = co_await guest::start(context_, std::move(request));
  starting_.erase(uuid);
  if (guest)
    watch(*guest);
  co_return guest;
}

asio::awaitable<Result<std::shared_ptr<Guest>>> Guests::running_or_refuse(std::string op,
                                                                          std::string guest,
                                                                          Requester who) {
  auto name = find(guest);
  std::shared_ptr<Guest> found = name ? running(name->uuid) : nullptr;
  if (found)
    co_return found;
  GuestName wanted = name ? *name : GuestName{guest, ""};
  Error why = name ? Error{Errc::Busy, fmt::format("{} is not running", guest)} : name.error();
  co_return std::unexpected(
      co_await refuse(std::move(op), std::move(wanted), std::move(who), std::move(why)));
}

asio::awaitable<Result<>> Guests::stop(std::string guest, std::chrono::seconds timeout,
                                       Requester who) {
  std::string op = "stop";
  CO_TRY(auto found, co_await running_or_refuse(op, std::move(guest), who));
  std::string id = context_.new_txn();
  Txn txn{.id = id, .who = who};
  Result<> done = co_await found->stop(std::move(txn), timeout);
  if (!done)
    co_return std::unexpected(co_await refuse(std::move(op), name_of(*found), std::move(who),
                                              done.error(), std::move(id)));
  co_return ended(*found, "stop");
}

asio::awaitable<Result<>> Guests::control(std::string verb, std::string guest, Requester who) {
  auto known = std::ranges::find(guest::kVerbs, verb, &guest::Verb::name);
  if (known == std::end(guest::kVerbs)) {
    // The verb is the peer's text and no word of the trail: it stands in why=.
    std::string op = "control";
    GuestName wanted{std::move(guest), ""};
    Error why(Errc::Invalid, fmt::format("no verb '{}'", bounded(verb)));
    co_return std::unexpected(
        co_await refuse(std::move(op), std::move(wanted), std::move(who), std::move(why)));
  }
  CO_TRY(auto found, co_await running_or_refuse(verb, std::move(guest), who));
  std::string id = context_.new_txn();
  Txn txn{.id = id, .who = who};
  const bool has_monitor = found->qmp() != nullptr;
  Result<> done = co_await found->control(verb, std::move(txn));
  // What was tried has its own record; this had ended before its turn came, or cannot be asked.
  if (!done && (done.error().code() == Errc::Busy || !has_monitor))
    co_return std::unexpected(co_await refuse(std::move(verb), name_of(*found), std::move(who),
                                              done.error(), std::move(id)));
  co_return done;
}

asio::awaitable<Result<std::string>> Guests::attach(std::string guest, std::string xml,
                                                    std::string source, Requester who) {
  std::string op = "attach";
  CO_TRY(auto found, co_await running_or_refuse(op, std::move(guest), who));
  std::string id = context_.new_txn();
  Txn txn{.id = id, .who = who};
  auto alias = co_await found->attach(std::move(xml), std::move(source), std::move(txn));
  if (!alias)
    co_return std::unexpected(co_await refuse(std::move(op), name_of(*found), std::move(who),
                                              alias.error(), std::move(id)));
  co_return alias;
}

asio::awaitable<Result<>> Guests::detach(std::string guest, std::string device,
                                         guest::Patience patience, Requester who) {
  std::string op = "detach";
  CO_TRY(auto found, co_await running_or_refuse(op, std::move(guest), who));
  std::string id = context_.new_txn();
  Txn txn{.id = id, .who = who};
  Result<> done = co_await found->detach(std::move(device), patience, std::move(txn));
  if (!done)
    co_return std::unexpected(co_await refuse(std::move(op), name_of(*found), std::move(who),
                                              done.error(), std::move(id)));
  co_return done;
}

asio::awaitable<Result<>> Guests::set(std::string guest, guest::Amounts amounts,
                                      guest::Patience patience, Requester who) {
  std::string op = "set";
  CO_TRY(auto found, co_await running_or_refuse(op, std::move(guest), who));
  std::string id = context_.new_txn();
  Txn txn{.id = id, .who = who};
  Result<> done = co_await found->set(amounts, patience, std::move(txn));
  // What was tried has its own record.
  if (!done && done.error().code() == Errc::Invalid)
    co_return std::unexpected(co_await refuse(std::move(op), name_of(*found), std::move(who),
                                              done.error(), std::move(id)));
  co_return done;
}

asio::awaitable<Result<guest::Updated>> Guests::update(std::string guest, std::string xml,
                                                       std::string source, guest::Patience patience,
                                                       Requester who) {
  std::string op = "update";
  CO_TRY(auto found, co_await running_or_refuse(op, std::move(guest), who));
  std::string id = context_.new_txn();
  Txn txn{.id = id, .who = who};
  auto done = co_await found->update(std::move(xml), std::move(source), patience, std::move(txn));
  if (!done)
    co_return std::unexpected(co_await refuse(std::move(op), name_of(*found), std::move(who),
                                              done.error(), std::move(id)));
  co_return done;
}

asio::awaitable<void> Guests::act_on_audit_loss() {
  bool pause = context_.journal.options().on_audit_loss == registrar::OnAuditLoss::PauseGuests;
  std::vector<std::shared_ptr<Guest>> guests;
  for (const auto& [uuid, guest] : running_) guests.push_back(guest);
  for (const auto& guest : guests) {
    Txn txn{.id = context_.new_txn(), .who = kernel::own_requester()};
    std::string verb = "pause";
    std::string why = "on_audit_loss: the audit system lost a record";
    Result<> done;
    if (pause)
      done = co_await guest->control(std::move(verb), std::move(txn), std::move(why));
    else
      done = co_await guest->kill(std::move(txn));
    if (!done)
      context_.log(
          fmt::format("{}: on_audit_loss: {}", guest->state().ref.vm, done.error().what()));
  }
}

asio::awaitable<Result<>> Guests::kill(std::string guest, Requester who) {
  std::string op = "kill";
  CO_TRY(auto found, co_await running_or_refuse(op, std::move(guest), who));
  std::string id = context_.new_txn();
  Txn txn{.id = id, .who = who};
  Result<> done = co_await found->kill(std::move(txn));
  if (!done)
    co_return std::unexpected(co_await refuse(std::move(op), name_of(*found), std::move(who),
                                              done.error(), std::move(id)));
  co_return ended(*found, "kill");
}

}  // namespace tenure::daemon
