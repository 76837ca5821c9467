// SPDX-License-Identifier: Apache-2.0
// Shapes of records, by resrc=: which key is the id and how the direction is told (records.md 4,
// corners 16-18 and 22-23). A resrc that is not in the table is taken by the keys that it has.
#include "model/meaning.h"

#include <algorithm>

namespace tenure::model {
namespace {

using trail::FieldSet;
using trail::Key;

enum class Form : uint8_t {
  OldNew,  // old-X new-X tell the direction
  Number,  // the same, but values are numbers, 0 is none, and a run has one
  Id,      // one key, and reason= tells the direction
  Cgroup,
};

struct Row {
  std::string_view resrc;
  Form form;
  Key id;  // of form Id
};

constexpr Row kRows[] = {
    {"cgroup", Form::Cgroup, Key::Path},
    {"disk", Form::OldNew, Key::New},
    {"net", Form::OldNew, Key::New},
    {"mem", Form::Number, Key::New},
    {"vcpu", Form::Number, Key::New},
    {"iothread", Form::Number, Key::New},
    {"fs", Form::OldNew, Key::New},
    {"chardev", Form::OldNew, Key::New},
    {"smartcard", Form::OldNew, Key::New},
    {"rng", Form::OldNew, Key::New},
    {"file", Form::OldNew, Key::New},
    {"dev", Form::Id, Key::Device},
    {"acl", Form::Id, Key::Path},
    {"driver", Form::Id, Key::Device},
    {"tpm", Form::Id, Key::Device},
    {"tpm-emulator", Form::Id, Key::Device},
    {"tpm-external", Form::Id, Key::Device},
    {"shmem", Form::Id, Key::Path},
    {"ivshmem-socket", Form::Id, Key::Path},
    {"evdev", Form::Id, Key::Path},
    {"hostdev", Form::Id, Key::Disk},
};

struct Verb {
  std::string_view reason;
  Effect effect;
};
constexpr Verb kVerbs[] = {
    {"allow", Effect::Begin}, {"start", Effect::Begin},  {"attach", Effect::Begin},
    {"open", Effect::Begin},  {"deny", Effect::End},     {"detach", Effect::End},
    {"close", Effect::End},   {"create", Effect::Begin}, {"remove", Effect::End},
    {"stop", Effect::End},    {"rollback", Effect::End}, {"share", Effect::Begin},
    {"unshare", Effect::End}, {"bind", Effect::Begin},   {"unbind", Effect::End},
};

Effect effect_of(std::string_view reason) {
  for (const Verb& verb : kVerbs)
    if (verb.reason == reason)
      return verb.effect;
  return Effect::ByGrant;
}

bool is_none(std::string_view value) {
  return value.empty() || value == "?";
}

std::string_view known(std::string_view value) {
  return is_none(value) ? std::string_view() : value;
}

Form form_without_row(const FieldSet& fields, Key& id) {
  if (fields.find(Key::Old) != nullptr || fields.find(Key::New) != nullptr)
    return Form::OldNew;
  for (Key key : {Key::Device, Key::Path, Key::Disk, Key::Chardev, Key::Net}) {
    if (fields.find(key) == nullptr)
      continue;
    id = key;
    break;
  }
  return Form::Id;
}

// What old-X and new-X tell.
Effect pair_effect(bool had, bool has) {
  if (had && has)
    return Effect::Replace;
  if (had)
    return Effect::End;
  return has ? Effect::Begin : Effect::None;
}

}  // namespace

std::string_view Meaning::text(const FieldSet& fields, Key key) {
  return fields.text(key, scratch_[used_++]);
}

// A number is never hex, though its digits could be read so.
std::string_view Meaning::value(const FieldSet& fields, Key key, const Change& change) {
  std::string_view raw = fields.raw(key);
  if (change.single)
    return known(raw) == "0" ? std::string_view() : known(raw);
  bool number = !change.known && raw.find_first_not_of("0123456789") == raw.npos;
  return known(number ? raw : text(fields, key));
}

void Meaning::pair(const FieldSet& fields, Change& change) {
  change.id = value(fields, Key::New, change);
  change.old_id = value(fields, Key::Old, change);
  change.effect = pair_effect(!change.old_id.empty(), !change.id.empty());
}

void Meaning::cgroup(const FieldSet& fields, Change& change) {
  std::string_view word = change.category = fields.raw(Key::Class);
  change.access = known(fields.raw(Key::Acl));
  change.effect = effect_of(change.reason);
  if (word == "device" || word == "drift") {  // refused, or found: not granted
    change.effect = Effect::None;
  } else if (word == "all") {
    change.id = word;
    if (change.effect == Effect::End)
      change.effect = Effect::EndAll;
  } else if (word == "group") {
    change.id = text(fields, Key::Cgroup);
  } else if (word == "major") {
    change.id = fields.raw(Key::Category);
    std::string& rdev = scratch_[used_++];
    rdev.assign(fields.raw(Key::Maj)).append(":*");
    change.rdev = rdev;
  } else {
    change.id = text(fields, Key::Path);
  }
  change.old_id = change.id;
}

void Meaning::single_key(const FieldSet& fields, Key id, Change& change) {
  change.id = change.old_id = text(fields, id);
  change.effect = effect_of(change.reason);
  if (change.kind == "dev")
    change.category = fields.raw(Key::Bus);
  if (change.kind == "acl")
    change.access = known(fields.raw(Key::Acl));
}

void Meaning::holder(const FieldSet& fields, Key id, Change& change) {
  for (Key key : {Key::Device, Key::Alias, Key::Dev, Key::For, Key::Role}) {
    if (key == id || fields.find(key) == nullptr)
      continue;
    change.holder = text(fields, key);
    return;
  }
}

Change Meaning::of(const FieldSet& fields) {
  used_ = 0;
  Change change{.kind = fields.raw(Key::Resrc), .reason = fields.raw(Key::Reason)};
  change.rdev = known(fields.raw(Key::Rdev));
  change.access = known(fields.raw(Key::Access));
  const std::string_view devtype = fields.raw(Key::Devtype);
  if (devtype == "b" || devtype == "c")
    change.devtype = devtype[0];

  auto row = std::ranges::find(kRows, change.kind, &Row::resrc);
  change.known = row != std::end(kRows);
  Key id = change.known ? row->id : Key::New;
  Form form = change.known ? row->form : form_without_row(fields, id);
  if (id == Key::Disk && fields.find(Key::Disk) == nullptr)
    id = Key::Chardev;
  // The node that was opened for an interface, not the interface.
  if (change.kind == "net" && fields.find(Key::Net) != nullptr) {
    change.kind = "net-open";
    form = Form::Id;
    id = Key::Path;
  }
  change.single = form == Form::Number;
  if (form == Form::Cgroup)
    cgroup(fields, change);
  else if (form == Form::Id)
    single_key(fields, id, change);
  else
    pair(fields, change);
  holder(fields, id, change);
  if (change.kind == "net-open")
    change.holder = fields.raw(Key::Net);
  return change;
}

}  // namespace tenure::model
