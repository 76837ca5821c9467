// SPDX-License-Identifier: Apache-2.0
// The book's way from a record to tenures. Runs are in tenure_book_runs.cc, hosts and intents in
// tenure_book_host.cc.
#include "model/tenure_book.h"

#include <algorithm>

#include "base/device_number.h"

namespace tenure::model {
namespace {

using trail::Key;

uint64_t open_key(uint32_t run, Name kind, Name key) {
  uint64_t hash = (run + 1) * 0x9E3779B97F4A7C15U ^ kind.id();
  hash = (hash ^ hash >> 29) * 0xBF58476D1CE4E5B9U ^ key.id();
  return (hash ^ hash >> 32) * 0x94D049BB133111EBU;
}

// Of the kinds with one tenure a run the value is no key.
Name first_key(const Tenure& tenure) {
  std::string_view kind = tenure.kind;
  bool single = kind == "mem" || kind == "vcpu" || kind == "iothread";
  return single ? Name() : tenure.id;
}

// The other key that a tenure is found by: the device number of a rule, the MAC of an opened node.
Name second_key(const Tenure& tenure) {
  if (tenure.kind.view() == "cgroup")
    return tenure.rdev;
  if (tenure.kind.view() == "net-open")
    return tenure.holder;
  return {};
}

uint32_t small(std::optional<uint64_t> value) {
  return value && *value <= UINT32_MAX ? static_cast<uint32_t>(*value) : UINT32_MAX;
}

}  // namespace

void TenureBook::apply(const trail::LineView& line, uint64_t order) {
  Position at{.order = order, .time_ms = trail::time_ms(line), .serial = line.serial};
  Host& host = host_of(line.node);
  if (!line.state)
    note_serial(host, line, at);
  bool virt = line.type == trail::kVirtResource || line.type == trail::kVirtControl ||
              line.type == trail::kVirtMachineId;
  if (!virt) {
    host_event(host, line.type, at);
    return;
  }
  ++counts_.records;
  fields_.collect(line);
  if (line.state == trail::EntryState::Intent) {
    intent(line, order);
    return;
  }
  std::string_view result = fields_.raw(Key::Res);
  Event event{.at = at,
              .guest = 0,
              .success = result == "success",
              .ledger = line.state.has_value(),
              .number = fields_.number(Key::Run),
              .grant = fields_.number(Key::Grant),
              .reason = fields_.raw(Key::Reason)};
  if (line.state == trail::EntryState::Void) {
    settle_intent(event);
    return;
  }
  if (result.empty()) {
    ++counts_.damaged;
    return;
  }
  if (event.ledger)
    settle_intent(event);
  if (!event.success)
    ++counts_.failed;
  if (event.reason == "refused" || event.reason == "denied")
    ++counts_.refused;
  if (event.reason == "refused")
    return;
  event.guest = guest_of(line);
  if (line.type == trail::kVirtResource)
    resource(event);
  else if (line.type == trail::kVirtControl)
    control(event);
  else
    run_of_event(event, true, false);
}

void TenureBook::resource(const Event& event) {
  Change change = meaning_.of(fields_);
  if (!change.known)
    ++counts_.unknown;
  if (change.effect == Effect::None)
    return;
  bool deny_all = change.effect == Effect::EndAll;
  bool before_start =
      change.reason == "allow" || change.reason == "deny" || change.reason == "open";
  uint32_t run = run_of_event(event, change.reason == "start" || deny_all, !before_start);
  states_[run].begun = true;
  if (!event.success) {
    // An interface that could not be attached: libvirt closes what it had opened, and says nothing.
    if (change.kind == "net" && !event.grant)
      end_opens_of(run, event, change.id);
    return;
  }
  if (change.effect == Effect::ByGrant && !event.grant) {
    ++counts_.unknown;
    return;
  }
  if (change.effect == Effect::ByGrant) {
    auto known = by_grant(event, change.kind);
    bool ends =
        known && tenures_.slot(*known).open() && !tenures_.slot(*known).from->same_event(event.at);
    change.effect = ends ? Effect::End : Effect::Begin;
  }
  if (deny_all) {
    states_[run].denied_all = true;
    // Ours is written at the start of a run, before any rule of it.
    if (!event.grant)
      end_all_rules(run, event);
    return;
  }
  if (change.effect == Effect::Begin || change.effect == Effect::End) {
    change.effect == Effect::Begin ? begin(run, event, change) : end(run, event, change);
    return;
  }
  if (change.id == change.old_id)
    return;
  end(run, event, change);
  begin(run, event, change);
}

void TenureBook::begin(uint32_t run, const Event& event, const Change& change) {
  if (auto known = by_grant(event, change.kind)) {
    // An update ends the tenure that it names and goes on under the same number.
    bool goes_on = change.effect == Effect::Replace && !tenures_.slot(*known).open();
    if (!goes_on) {
      ++counts_.duplicates;
      return;
    }
  }
  if (change.single) {
    Name kind = names_.intern(change.kind);
    std::vector<uint32_t> held = open_with(run, kind, {});
    for (uint32_t one : held) close(one, event, Certainty::Exact);
  }
  Tenure tenure = make(run, event, change);
  tenure.from = event.at;
  tenure.from_reason = names_.intern(change.reason);
  add(std::move(tenure));
}

Tenure TenureBook::make(uint32_t run, const Event& event, const Change& change) {
  const Guest& guest = guests_[event.guest];
  Tenure tenure;
  tenure.node = guest.node;
  tenure.guest = guest.name;
  tenure.uuid = guest.uuid;
  tenure.kind = names_.intern(change.kind);
  tenure.id = names_.intern(change.id);
  tenure.access = names_.intern(change.access);
  tenure.rdev = names_.intern(change.rdev);
  tenure.category = names_.intern(change.category);
  tenure.holder = names_.intern(change.holder);
  tenure.devtype = change.devtype;
  tenure.grant = event.grant;
  tenure.run = run;
  tenure.requester = asker();
  return tenure;
}

void TenureBook::add(Tenure tenure) {
  auto at = static_cast<uint32_t>(tenures_.slots());
  if (tenure.grant)
    grants_.emplace(*tenure.grant, at);
  states_[tenure.run].tenures.push_back(at);
  if (tenures_.add(std::move(tenure)).open())
    index(at);
}

void TenureBook::end(uint32_t run, const Event& event, const Change& change) {
  if (end_by_grant(event, change))
    return;
  Name kind = names_.intern(change.kind);
  if (change.kind == "cgroup" && !event.grant)
    return end_rules(run, event, change);
  // Mem and the like: whatever was held, libvirt's old value may be another (A5, A6).
  Name key = change.single ? Name() : names_.intern(change.old_id);
  std::vector<uint32_t> held = open_with(run, kind, key);
  if (change.kind == "net" && !event.grant)
    end_opens_of(run, event, change.old_id);
  if (held.empty())
    return end_unseen(run, event, change);
  // Of equal ones the youngest: what was plugged in last is what gets unplugged.
  close(*std::ranges::max_element(held), event, Certainty::Exact);
}

// True if the record names a grant that is known.
bool TenureBook::end_by_grant(const Event& event, const Change& change) {
  auto known = by_grant(event, change.kind);
  if (!known)
    return false;
  Tenure& tenure = tenures_.slot(*known);
  bool guessed =
      !tenure.open() &&
      (tenure.certainty == Certainty::Inferred || tenure.certainty == Certainty::Bounded) &&
      !tenure.until->same_event(event.at);
  bool begun_here = tenure.from && tenure.from->same_event(event.at);
  if ((tenure.open() || guessed) && !begun_here)
    close(*known, event, Certainty::Exact);
  else
    ++counts_.duplicates;
  return true;
}

// The kernel keeps one rule a device, by its number: a deny takes it from every user (A4), also
// under another path; a deny of another number leaves it, whatever the path (A3).
void TenureBook::end_rules(uint32_t run, const Event& event, const Change& change) {
  Name kind = names_.intern("cgroup");
  Name rdev = names_.intern(change.rdev);
  std::vector<uint32_t> held;
  if (!rdev.empty())
    held = open_with(run, kind, rdev);
  for (uint32_t one : open_with(run, kind, names_.intern(change.old_id)))
    if (rdev.empty() || tenures_.slot(one).rdev.empty())
      held.push_back(one);
  if (held.empty()) {
    if (states_[run].denied_all)
      ++counts_.unmatched;
    else
      end_unseen(run, event, change);
    return;
  }
  for (uint32_t one : held) {
    Tenure rest = tenures_.slot(one);
    close(one, event, Certainty::Exact);
    auto had = parse_access(rest.access);
    auto loses = parse_access(change.access);
    if (!had || !loses || had->minus(*loses).none())
      continue;
    rest.access = names_.intern(to_string(had->minus(*loses)));
    rest.from = event.at;
    rest.from_reason = names_.intern(event.reason);
    add(std::move(rest));
  }
}

void TenureBook::end_all_rules(uint32_t run, const Event& event) {
  std::vector<uint32_t> of_run = states_[run].tenures;
  for (uint32_t one : of_run) {
    const Tenure& tenure = tenures_.slot(one);
    bool rule = tenure.kind.view() == "cgroup" && tenure.category.view() != "group";
    if (tenure.open() && rule)
      close(one, event, Certainty::Exact);
  }
}

// Libvirt never says that it closed the nodes that it had opened for an interface.
void TenureBook::end_opens_of(uint32_t run, const Event& event, std::string_view mac) {
  std::vector<uint32_t> held = open_with(run, names_.intern("net-open"), names_.intern(mac));
  for (uint32_t one : held)
    if (tenures_.slot(one).holder.view() == mac)
      close(one, event, Certainty::Inferred);
}

// The end of what the trail never saw begin.
void TenureBook::end_unseen(uint32_t run, const Event& event, const Change& change) {
  Change ended = change;
  ended.id = change.old_id;
  Tenure tenure = make(run, event, ended);
  tenure.end_requester = tenure.requester;
  tenure.requester = nullptr;
  tenure.until = event.at;
  tenure.until_reason = names_.intern(event.reason);
  tenure.certainty = Certainty::UnknownStart;
  add(std::move(tenure));
}

void TenureBook::close(uint32_t at, const Event& event, Certainty certainty) {
  Tenure& tenure = tenures_.slot(at);
  if (tenure.open())
    unindex(at);
  tenure.until = event.at;
  tenure.until_after.reset();
  tenure.until_reason = names_.intern(event.reason);
  tenure.end_requester = asker();
  tenure.certainty = certainty;
  auto from = fields_.number(Key::BoundFrom);
  auto to = fields_.number(Key::BoundTo);
  if (!event.grant || !from || !to)
    return;
  tenure.until->time_ms = static_cast<int64_t>(*to);
  tenure.until_after = Position{
      .order = event.at.order, .time_ms = static_cast<int64_t>(*from), .serial = event.at.serial};
  tenure.certainty = Certainty::Bounded;
}

std::optional<uint32_t> TenureBook::by_grant(const Event& event, std::string_view kind) const {
  if (!event.grant)
    return std::nullopt;
  const Guest& guest = guests_[event.guest];
  std::optional<uint32_t> found;
  auto [first, last] = grants_.equal_range(*event.grant);
  for (auto it = first; it != last; ++it) {
    const Tenure& tenure = tenures_.slot(it->second);
    bool same =
        tenure.kind.view() == kind && tenure.uuid == guest.uuid && tenure.node == guest.node;
    if (same && (!found || it->second > *found))
      found = it->second;
  }
  return found;
}

std::vector<uint32_t> TenureBook::open_with(uint32_t run, Name kind, Name key) const {
  std::vector<uint32_t> found;
  open_.each(open_key(run, kind, key), [&](uint32_t at) {
    const Tenure& tenure = tenures_.slot(at);
    bool keyed = tenure.id == key || second_key(tenure) == key || key.empty();
    if (tenure.run == run && tenure.kind == kind && keyed)
      found.push_back(at);
  });
  return found;
}

void TenureBook::index(uint32_t at) {
  const Tenure& tenure = tenures_.slot(at);
  open_.insert(open_key(tenure.run, tenure.kind, first_key(tenure)), at);
  if (Name other = second_key(tenure); !other.empty())
    open_.insert(open_key(tenure.run, tenure.kind, other), at);
}

void TenureBook::unindex(uint32_t at) {
  const Tenure& tenure = tenures_.slot(at);
  open_.erase(open_key(tenure.run, tenure.kind, first_key(tenure)), at);
  if (Name other = second_key(tenure); !other.empty())
    open_.erase(open_key(tenure.run, tenure.kind, other), at);
}

const Asker* TenureBook::asker() {
  if (fields_.find(Key::ReqUid) == nullptr && fields_.find(Key::ReqAuid) == nullptr)
    return nullptr;
  Asker who{.auid = small(fields_.number(Key::ReqAuid)),
            .ses = small(fields_.number(Key::ReqSes)),
            .uid = small(fields_.number(Key::ReqUid)),
            .pid = small(fields_.number(Key::ReqPid)),
            .exe = names_.intern(fields_.text(Key::ReqExe, scratch_)),
            .tty = {}};
  who.tty = names_.intern(fields_.text(Key::ReqTty, scratch_));
  // The records of one operation follow each other.
  if (askers_.empty() || !(askers_.back() == who))
    askers_.push_back(who);
  return &askers_.back();
}

// What names a grant was really granted, and has a release of its own.
void TenureBook::void_run(uint32_t run) {
  auto is_void = [this](uint32_t at) {
    if (tenures_.slot(at).grant)
      return false;
    if (tenures_.slot(at).open())
      unindex(at);
    tenures_.forget(at);
    return true;
  };
  std::erase_if(states_[run].tenures, is_void);
}

std::vector<const Tenure*> TenureBook::open_tenures(std::string_view uuid, std::string_view node) {
  std::vector<const Tenure*> found;
  for (const Guest& guest : guests_) {
    if (guest.uuid.view() != uuid || guest.node.view() != node)
      continue;
    for (uint32_t run : guest.runs)
      for (uint32_t at : states_[run].tenures)
        if (tenures_.slot(at).open())
          found.push_back(&tenures_.slot(at));
  }
  return found;
}

const Tenure* TenureBook::find_grant(uint64_t grant, std::string_view uuid, std::string_view node) {
  std::optional<uint32_t> found;
  auto [first, last] = grants_.equal_range(grant);
  for (auto it = first; it != last; ++it) {
    const Tenure& tenure = tenures_.slot(it->second);
    if (tenure.uuid.view() == uuid && tenure.node.view() == node && (!found || it->second > *found))
      found = it->second;
  }
  return found ? &tenures_.slot(*found) : nullptr;
}

std::string_view to_string(Certainty certainty) {
  constexpr std::string_view kWords[] = {"open", "exact", "inferred", "bounded", "unknown-start"};
  return kWords[static_cast<size_t>(certainty)];
}

}  // namespace tenure::model
