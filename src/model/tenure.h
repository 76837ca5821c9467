// SPDX-License-Identifier: Apache-2.0
// What follows from a trail: tenures (who held what, from when until when) and runs (the lives of a
// guest). Plain values; pure. Their JSON is in json.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "model/names.h"

namespace tenure::model {

// One event of the trail.
struct Position {
  uint64_t order = 0;   // place in the stream that was read; of a ledger: the index of the entry
  int64_t time_ms = 0;  // since 1970 UTC, as the record says
  uint64_t serial = 0;  // of the audit event; 0: the record stands in the ledger alone
  bool operator==(const Position&) const = default;
  // Two readings of one audit event, from the ledger and from audit.log.
  bool same_event(const Position& other) const {
    return serial != 0 && serial == other.serial && time_ms == other.time_ms;
  }
};

// How sure the end (or the beginning) of a tenure or run is.
enum class Certainty : uint8_t {
  Open,          // held when the trail ends
  Exact,         // both ends have a record of their own
  Inferred,      // no record ended it: its run ended, or a new one began
  Bounded,       // it ended between two events: host crash, reboot, or found so by recovery
  UnknownStart,  // the trail has no record of its beginning
};
std::string_view to_string(Certainty certainty);

// Who asked, by our own records; libvirt's name only the daemon.
struct Asker {
  uint32_t auid = 0;
  uint32_t ses = 0;
  uint32_t uid = 0;
  uint32_t pid = 0;
  Name exe;
  Name tty;
  bool operator==(const Asker&) const = default;
};

struct Tenure {
  Name node;  // host, where the log names one
  Name guest;
  Name uuid;  // lower case; empty for a guest that has only a name
  Name kind;  // resrc of the trail, "net-open" for device nodes of an interface
  Name id;    // path, MAC, bus address, category, number
  Name access;
  Name rdev;      // hex MAJOR:MINOR, MAJOR:* for a class=major rule
  Name category;  // cgroup: path, major, all, group; dev: the bus
  Name holder;    // which device of the guest: alias, target, MAC of a net-open
  Name from_reason;
  Name until_reason;                     // empty while open
  const Asker* requester = nullptr;      // of the grant; null if the record does not tell
  const Asker* end_requester = nullptr;  // of the release
  std::optional<uint64_t> grant;         // ours: ledger index of the intent
  std::optional<Position> from;          // none: UnknownStart
  std::optional<Position> until;         // none: open
  std::optional<Position> until_after;   // Bounded: it was still held then
  uint32_t run = 0;                      // index into TenureBook::runs()
  char devtype = 0;                      // 'b', 'c', or 0 where the trail does not tell
  Certainty certainty = Certainty::Open;

  bool open() const { return !until.has_value(); }
};

// One life of a guest.
struct Run {
  Name node;
  Name guest;
  Name uuid;
  uint32_t number = 1;            // among the lives of this uuid on this node
  Name start_reason;              // booted, restored, …; empty if the start was not seen
  Name end_reason;                // shutdown, crashed, failed, superseded, host-crash, reboot, …
  uint64_t pid = 0;               // of QEMU; 0 if not seen
  std::optional<Position> start;  // op=start, or else the first record of the run
  std::optional<Position> end;
  std::optional<Position> end_after;  // Bounded
  Certainty certainty = Certainty::Open;
  bool ok = false;      // op=start res=success was seen
  bool failed = false;  // op=start res=failed: nothing was granted

  bool open() const { return !end.has_value(); }
};

}  // namespace tenure::model
