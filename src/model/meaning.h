// SPDX-License-Identifier: Apache-2.0
// What a VIRT_RESOURCE record says of a resource: begins, ends, replaces. Syntax is behind us here,
// and what it means for the tenures of a run is the book's. Pure.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "trail/decode.h"

namespace tenure::model {

enum class Effect : uint8_t {
  None,     // an event, but no resource is gained or lost: a denial, drift, an unknown shape
  Begin,    // `id` is held from now on
  End,      // `old_id` is no longer held
  Replace,  // `old_id` gives way to `id`
  EndAll,   // every cgroup rule (deny all)
  ByGrant,  // the reason does not tell: ends the tenure that grant= names, if it is open, else
            // begins
};

// Views into the line or into the Meaning that made it; valid until its next use.
struct Change {
  Effect effect = Effect::None;
  std::string_view kind;
  std::string_view id;
  std::string_view old_id;
  std::string_view access;
  std::string_view rdev;
  std::string_view category;
  std::string_view holder;
  std::string_view reason;
  char devtype = 0;
  bool single = false;  // one of the kind per run (mem, vcpu, iothread): a new one replaces any
  bool known = true;    // false: resrc or shape that the table has not
};

class Meaning {
 public:
  // `fields` of a VIRT_RESOURCE line.
  Change of(const trail::FieldSet& fields);

 private:
  std::string_view text(const trail::FieldSet& fields, trail::Key key);
  std::string_view value(const trail::FieldSet& fields, trail::Key key, const Change& change);
  void pair(const trail::FieldSet& fields, Change& change);
  void cgroup(const trail::FieldSet& fields, Change& change);
  void single_key(const trail::FieldSet& fields, trail::Key id, Change& change);
  void holder(const trail::FieldSet& fields, trail::Key id, Change& change);

  std::array<std::string, 8> scratch_;
  size_t used_ = 0;
};

}  // namespace tenure::model
