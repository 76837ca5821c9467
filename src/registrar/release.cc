// SPDX-License-Identifier: Apache-2.0
// How the record of a grant turns into the record of its release: a table, for libvirt's own forms
// differ by kind.
#include <algorithm>
#include <array>
#include <string>

#include "registrar/operation.h"

namespace tenure::registrar {
namespace {

// Libvirt's pair for kinds of shape A: what was new becomes old. `none` is what stands for nothing.
struct OldNew {
  trail::Kind kind;
  std::string_view old_key;
  std::string_view new_key;
  std::string_view none;
};
constexpr std::array kOldNew{
    OldNew{trail::Kind::Disk, "old-disk", "new-disk", "?"},
    OldNew{trail::Kind::Net, "old-net", "new-net", "?"},
    OldNew{trail::Kind::Fs, "old-fs", "new-fs", "?"},
    OldNew{trail::Kind::Chardev, "old-chardev", "new-chardev", "?"},
    OldNew{trail::Kind::Smartcard, "old-smartcard", "new-smartcard", "?"},
    OldNew{trail::Kind::Rng, "old-rng", "new-rng", "?"},
    OldNew{trail::Kind::Mem, "old-mem", "new-mem", "0"},
    OldNew{trail::Kind::Vcpu, "old-vcpu", "new-vcpu", "0"},
    OldNew{trail::Kind::Iothread, "old-iothread", "new-iothread", "0"},
    OldNew{trail::Kind::File, "old-file", "new-file", "?"},
};

// Kinds whose reason= itself is the verb.
struct Verb {
  trail::Kind kind;
  std::string_view release;
};
constexpr std::array kVerbs{
    Verb{trail::Kind::CgroupMajor, "deny"},   Verb{trail::Kind::CgroupPath, "deny"},
    Verb{trail::Kind::FileAcl, "deny"},       Verb{trail::Kind::NetOpen, "close"},
    Verb{trail::Kind::CgroupGroup, "remove"}, Verb{trail::Kind::Driver, "unbind"},
};

}  // namespace

trail::Record release_record(const Hold& hold, std::string_view reason) {
  trail::Record record = hold.claim.record;
  record.set("grant", hold.grant).set("reason", reason);
  auto verb = std::ranges::find(kVerbs, record.kind, &Verb::kind);
  if (verb != kVerbs.end())
    record.set("reason", verb->release);
  auto pair = std::ranges::find(kOldNew, record.kind, &OldNew::kind);
  if (pair != kOldNew.end()) {
    std::string held(record.get(pair->new_key).value_or(pair->none));
    record.set(pair->old_key, held).set(pair->new_key, pair->none);
  }
  return record;
}

}  // namespace tenure::registrar
