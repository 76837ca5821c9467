// SPDX-License-Identifier: Apache-2.0
#include "tests/property/registrar/simulation.h"

#include <algorithm>
#include <asio/post.hpp>
#include <future>

#include "registrar/settle.h"

namespace tenure::test {

using registrar::Hold;
using registrar::OnAuditLoss;
using registrar::OpenRun;
using registrar::Txn;
using trail::Kind;
using Mode = kernel::FakeAudit::Mode;

namespace {

constexpr size_t kGuests = 3;

std::vector<std::string> keys_of(const std::vector<Hold>& holds) {
  std::vector<std::string> keys;
  for (const Hold& hold : holds)
    if (registrar::has_act(hold.claim))
      keys.push_back(key_of(hold.claim));
  std::ranges::sort(keys);
  return keys;
}

std::set<uint64_t> grants_of(const std::vector<Hold>& holds) {
  std::set<uint64_t> grants;
  for (const Hold& hold : holds) grants.insert(hold.grant);
  return grants;
}

}  // namespace

Simulation::Simulation(uint64_t seed, asio::thread_pool& pool)
    : pool_(pool), random_(seed), laws_([this](const std::string& uuid) {
        const World& world = guest_of(uuid).world;
        return Laws::Truth{world.applied, world.refused, world.withdrawn};
      }) {
  fate_.keep_history = false;
  policy_ = chance(50) ? OnAuditLoss::Refuse : OnAuditLoss::Continue;
  for (size_t i = 0; i < kGuests; ++i) {
    std::string uuid = "11111111-2222-3333-4444-55555555555" + std::to_string(i);
    registrar::RunRef ref{.virt = "kvm", .vm = hostile(), .uuid = uuid, .run = 0};
    guests_.push_back(std::make_unique<Guest>(fate_, std::move(ref)));
  }
  open_journal();
}

Simulation::Guest& Simulation::guest_of(const std::string& uuid) {
  auto same = [&](const auto& guest) { return guest->ref.uuid == uuid; };
  return **std::ranges::find_if(guests_, same);
}

void Simulation::open_journal() {
  journal_ = std::make_unique<registrar::Journal>(
      ledger_, audit_, pool_, clock_, registrar::JournalOptions{.on_audit_loss = policy_});
}

// A name of its own, often one that tries to be a record.
std::string Simulation::hostile() {
  static const std::string kNames[] = {
      "/srv/a", "/x' res=success", "/\n\"type=VIRT_CONTROL", "/\xff\x01", "/é ü", "/a=b grant=0"};
  return kNames[below(std::size(kNames))] + std::to_string(next_++);
}

Txn Simulation::new_txn() {
  return {.id = "t" + std::to_string(next_++), .who = {.auid = 1000, .uid = 1000, .pid = 7}};
}

model::Claim Simulation::random_claim(const Guest& guest) {
  std::string group = "/cg/" + guest.ref.uuid + "/" + std::to_string(guest.ref.run);
  switch (below(5)) {
    case 0:
      return path_claim(group, hostile());
    case 1:
      return acl_claim(hostile());
    case 2:
      return net_open_claim(hostile());
    case 3:
      return disk_claim(hostile());
    default:
      return path_claim(group, "/dev/n" + std::to_string(next_++));
  }
}

std::vector<model::Claim> Simulation::random_claims(const Guest& guest) {
  std::vector<model::Claim> claims;
  std::string group = "/cg/" + guest.ref.uuid + "/" + std::to_string(next_++);
  if (chance(80))
    claims = {group_claim(group), deny_all_claim(group)};
  for (uint64_t n = below(6); n > 0; --n) claims.push_back(random_claim(guest));
  if (chance(50))
    claims.push_back(memory_claim(65536));
  return claims;
}

trail::Record Simulation::control_of(const Guest& guest, const Txn& txn, std::string_view op,
                                     std::string_view reason) {
  trail::Record record = control(op, reason);
  registrar::stamp(record, guest.ref, txn);
  return record;
}

// As the guest room starts one; QEMU itself fails now and then.
asio::awaitable<void> Simulation::start(Guest& guest) {
  ++guest.ref.run;
  guest.adopted = false;
  registrar::Operation operation(*journal_, guest.ref, new_txn(), guest.world);
  std::vector<model::Claim> claims = random_claims(guest);
  trail::Record intent = control("start", "booted");
  bool qemu_fails = chance(10);
  Result<> done = co_await operation.intend(std::move(claims), std::move(intent));
  if (done)
    done = co_await operation.apply();
  if (done && qemu_fails)
    done = fail(Errc::Io, "QEMU did not start: " + hostile());
  trail::Record success = control("start", "booted");
  if (done)
    done = co_await operation.conclude(std::move(success));
  if (!done) {
    bool announced = operation.announced();
    trail::Record end = control(announced ? "stop" : "start", announced ? "failed" : "booted");
    end.success = announced;
    co_await operation.roll_back(std::move(end), done.error());
  }
  guest.holds = operation.take_holds();
  guest.life = done ? Life::Running : guest.holds.empty() ? Life::Off : Life::Stuck;
}

asio::awaitable<void> Simulation::stop(Guest& guest) {
  Txn txn = new_txn();
  std::vector<Hold> holds = std::move(guest.holds);
  guest.holds.clear();
  registrar::RunRef ref = guest.ref;
  registrar::Ending ending{
      .reason = "stop", .why = chance(20) ? hostile() : "", .bounds = {}, .staying = nullptr};
  auto left = co_await registrar::release(*journal_, std::move(ref), txn, guest.world,
                                          std::move(holds), std::move(ending));
  if (!left)
    laws_.blame(ledger_.size(), "release: " + left.error().what());
  if (left)
    guest.holds = std::move(*left);
  if (guest.life == Life::Running) {
    std::vector<trail::Record> records{control_of(guest, txn, "stop", "destroyed")};
    co_await journal_->write(std::move(records));
  } else {
    co_await journal_->commit();
  }
  guest.life = guest.holds.empty() ? Life::Off : Life::Stuck;
}

asio::awaitable<void> Simulation::pause(Guest& guest) {
  Txn txn = new_txn();
  std::vector<trail::Record> records{control_of(guest, txn, "pause", "paused")};
  co_await journal_->write(std::move(records));
}

asio::awaitable<void> Simulation::act(Guest& guest) {
  if (guest.life == Life::Off)
    co_await start(guest);
  else if (guest.life == Life::Running && chance(30))
    co_await pause(guest);
  else
    co_await stop(guest);
}

asio::awaitable<void> Simulation::flush() {
  co_await journal_->commit();
}

bool Simulation::together(std::vector<asio::awaitable<void>> tasks) {
  std::promise<void> all_done;
  size_t left = tasks.size();
  bool died = false;
  std::exception_ptr other;
  auto ended = [&](std::exception_ptr error) {
    try {
      if (error)
        std::rethrow_exception(error);
    } catch (const Crash&) {
      died = true;
    } catch (...) {
      other = std::current_exception();
    }
    if (--left == 0)
      all_done.set_value();
  };
  // From the pool's own thread: else the second task would race with the first.
  asio::post(pool_, [&] {
    for (auto& task : tasks) asio::co_spawn(pool_, std::move(task), ended);
  });
  all_done.get_future().get();
  drain(pool_);
  if (other)
    std::rethrow_exception(other);
  return died;
}

void Simulation::plan_faults() {
  constexpr int64_t kJumps[] = {-3'600, 3'600, -1, 315'360'000, -315'360'000};  // seconds
  if (chance(10))
    clock_.jump(kJumps[below(5)] * 1'000'000'000);
  constexpr int kErrors[] = {EPERM, EACCES, ENOMEM, EIO};
  if (chance(15))
    fate_.fail(Step::Apply, kErrors[below(4)], below(8));
  if (chance(8))
    fate_.fail(Step::Withdraw, EBUSY, below(8), below(2));
  if (chance(8))
    fate_.fail(Step::Append, ENOSPC, below(3), below(4));
  if (chance(4))
    fate_.fail(Step::Publish, ENOSPC, below(2));
  constexpr Mode kModes[] = {Mode::Confirm, Mode::Confirm, Mode::Off, Mode::Drop};
  if (chance(20))
    audit_.fake.set_mode(kModes[below(4)], below(12));
  if (chance(15))
    fate_.crash_at(fate_.steps() + below(45), chance(50) ? When::Before : When::After);
}

void Simulation::round() {
  plan_faults();
  std::vector<asio::awaitable<void>> tasks;
  uint64_t first = below(kGuests);
  for (uint64_t n = 0; n <= below(kGuests); ++n)
    tasks.push_back(act(*guests_[(first + n) % kGuests]));
  if (together(std::move(tasks)))
    return recover();
  check();
}

// The daemon is dead; with it, sometimes, the host and all that acts had made true.
void Simulation::recover() {
  for (;;) {
    ++crashes_;
    fate_.revive();
    bool reboot = chance(10);
    for (auto& guest : guests_)
      if (reboot)
        guest->world.present.clear();
    open_journal();
    auto replay = ledger_.replay();
    if (!replay)
      return laws_.blame(ledger_.size(), replay.error().what());
    check_known(*replay);
    journal_->resume(replay->gap);
    if (chance(10))
      fate_.crash_at(fate_.steps() + below(20), When::After);
    std::vector<asio::awaitable<void>> tasks;
    for (auto& guest : guests_) {
      guest->holds.clear();
      guest->life = Life::Off;
      guest->ref.run = replay->last_run[guest->ref.uuid];
      auto open = replay->open.find(guest->ref.uuid);
      if (open == replay->open.end())
        continue;
      if (could_live(*guest, open->second) && !reboot && chance(60))
        adopt(*guest, std::move(open->second));
      else
        tasks.push_back(close(*guest, std::move(open->second)));
    }
    if (!tasks.empty() && together(std::move(tasks)))
      continue;
    return check();
  }
}

// A guest that runs has everything; one that was being taken down has not.
bool Simulation::could_live(const Guest& guest, const OpenRun& open) {
  auto there = [&](const Hold& hold) {
    return !registrar::has_act(hold.claim) || guest.world.has(hold.claim);
  };
  return open.started && open.pending.empty() && std::ranges::all_of(open.holds, there);
}

void Simulation::adopt(Guest& guest, OpenRun open) {
  if (open.ref.vm != guest.ref.vm || open.ref.run != guest.ref.run)
    laws_.blame(ledger_.size(), "another run was found");
  guest.holds = std::move(open.holds);
  guest.life = Life::Running;
  guest.adopted = true;
}

// As the guest room closes a run whose guest is gone.
asio::awaitable<void> Simulation::close(Guest& guest, OpenRun open) {
  Txn txn = new_txn();
  bool started = open.started;
  auto present = [&guest](uint64_t, const model::Claim& claim) {
    bool deny_all = claim.record.kind == Kind::CgroupAll;
    return deny_all ? guest.world.applied.contains(key_of(claim)) : guest.world.has(claim);
  };
  std::string why = "recovered";
  Result<> settled = co_await registrar::settle(*journal_, open, std::move(present), why);
  if (!settled)
    laws_.blame(ledger_.size(), "settle: " + settled.error().what());
  registrar::RunRef ref = open.ref;
  registrar::Ending ending{.reason = "stop", .why = why, .bounds = {}, .staying = nullptr};
  auto left = co_await registrar::release(*journal_, std::move(ref), txn, guest.world,
                                          std::move(open.holds), std::move(ending));
  if (!left)
    laws_.blame(ledger_.size(), "release: " + left.error().what());
  if (left)
    guest.holds = std::move(*left);
  guest.life = guest.holds.empty() ? Life::Off : Life::Stuck;
  trail::Record end = control_of(guest, txn, started ? "stop" : "start", "crashed");
  end.success = started;
  std::vector<trail::Record> records{std::move(end)};
  co_await journal_->write(std::move(records));
}

void Simulation::check() {
  check_worlds();
  laws_.read(ledger_.entries);
  if (journal_->waiting() > 0)
    return;
  check_book();
  if (chance(25))  // it reads the whole ledger
    check_replay();
}

// kernel = daemon
void Simulation::check_worlds() {
  for (auto& guest : guests_) {
    std::vector<std::string> held = keys_of(guest->holds);
    std::vector<std::string> present(guest->world.present.begin(), guest->world.present.end());
    if (held != present)
      laws_.blame(ledger_.size(), guest->ref.uuid + ": held is not what is there");
  }
}

// daemon = trail, by the tenure book
void Simulation::check_book() {
  for (auto& guest : guests_) {
    std::set<uint64_t> held = grants_of(guest->holds);
    std::set<uint64_t> booked;
    for (const model::Tenure* tenure : laws_.book().open_tenures(guest->ref.uuid))
      booked.insert(tenure->grant.value_or(UINT64_MAX));
    if (booked != held)
      laws_.blame(ledger_.size(), guest->ref.uuid + ": the tenure book has other tenures");
    bool refuse = policy_ == OnAuditLoss::Refuse && guest->life == Life::Running && !guest->adopted;
    for (uint64_t grant : held)
      if (refuse && laws_.is_unconfirmed_grant(grant))
        laws_.blame(grant, "is held although audit has not confirmed it");
  }
}

// daemon = trail, as the next daemon would read it
void Simulation::check_replay() {
  auto replay = ledger_.replay();
  if (!replay)
    return laws_.blame(ledger_.size(), replay.error().what());
  for (auto& guest : guests_) {
    const OpenRun& open = replay->open[guest->ref.uuid];
    if (grants_of(open.holds) != grants_of(guest->holds) || !open.pending.empty())
      laws_.blame(ledger_.size(), guest->ref.uuid + ": the ledger has other holds");
    if (open.started != (guest->life == Life::Running))
      laws_.blame(ledger_.size(), guest->ref.uuid + ": running, or not, by the ledger alone");
  }
}

// What there is, is known as held or as perhaps held.
void Simulation::check_known(const registrar::Replay& replay) {
  for (auto& guest : guests_) {
    std::set<std::string> known;
    auto open = replay.open.find(guest->ref.uuid);
    if (open != replay.open.end()) {
      for (const Hold& hold : open->second.holds) known.insert(key_of(hold.claim));
      for (const auto& pending : open->second.pending)
        known.insert(key_of(model::claim_of(pending.record)));
    }
    for (const std::string& thing : guest->world.present)
      if (!known.contains(thing))
        laws_.blame(ledger_.size(), "nobody knows of " + thing);
  }
}

// No faults any more: everything ends, and ends well.
void Simulation::finish() {
  fate_.revive();
  audit_.fake.set_mode(Mode::Confirm);
  for (auto& guest : guests_) {
    guest->adopted = false;
    std::vector<asio::awaitable<void>> tasks;
    if (guest->life != Life::Off)
      tasks.push_back(stop(*guest));
    if (!tasks.empty())
      together(std::move(tasks));
  }
  std::vector<asio::awaitable<void>> tasks;
  tasks.push_back(pause(*guests_[0]));
  tasks.push_back(flush());
  together(std::move(tasks));
  check();
  laws_.expect_closed();
  if (!ledger_.replay()->open.empty())
    laws_.blame(ledger_.size(), "something is still open");
  check_audit();
}

// Audit and ledger say the same; of a daemon that died audit may have more.
void Simulation::check_audit() {
  std::set<std::pair<uint64_t, std::string>> emitted;
  for (const kernel::AuditReceipt& receipt : audit_.fake.emitted())
    emitted.emplace(receipt.serial, receipt.text);
  for (size_t i = 0; i < ledger_.entries.size(); ++i) {
    auto entry = trail::decode_entry(ledger_.entries[i]);
    bool confirmed = entry && entry->state == trail::EntryState::Confirmed;
    if (confirmed && !emitted.contains({entry->serial, entry->body}))
      laws_.blame(i, "audit never emitted it");
  }
  if (journal_->gap() || laws_.in_gaps() != laws_.unconfirmed())
    laws_.blame(ledger_.size(), "the gaps do not add up to what audit lost");
  if (crashes_ == 0 && emitted.size() != laws_.confirmed())
    laws_.blame(ledger_.size(), "audit has more records");
}

std::string Simulation::run(size_t rounds) {
  for (size_t i = 0; i < rounds && laws_.violations().empty(); ++i) round();
  if (laws_.violations().empty())
    finish();
  if (laws_.violations().empty())
    return "";
  std::string text;
  for (const std::string& violation : laws_.violations()) text += violation + "\n";
  for (size_t i = 0; i < ledger_.entries.size(); ++i)
    text += std::to_string(i) + " " + ledger_.entries[i] + "\n";
  return text;
}

}  // namespace tenure::test
