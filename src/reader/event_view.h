// SPDX-License-Identifier: Apache-2.0
// One record as an event that people and programs understand: what happened to which resource of
// which guest, whether it succeeded, who asked. For `tenure log` and for counting. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "model/meaning.h"
#include "model/tenure.h"
#include "reader/batch.h"
#include "reader/select.h"

namespace tenure::reader {

struct EventView {
  int64_t time_ms = 0;
  uint64_t serial = 0;            // 0: the record stands in the ledger alone
  std::optional<uint64_t> entry;  // index in the ledger that it was read from
  std::string proof;              // "audit(…:7)", "ledger(7)"
  std::string node;
  std::string type;  // "VIRT_RESOURCE"
  std::string
      kind;  // "control", "machine-id", "disk", "net-open", "cgroup", …, else the type, lower case
  std::string action;  // op or reason: "start", "attach", "allow"
  std::string detail;  // reason of an op: "booted"
  std::string guest;
  std::string uuid;
  std::string resource;      // path, MAC, number …
  std::string old_resource;  // what it replaced or ended
  std::string access;
  std::string rdev;
  std::string category;
  std::string holder;
  char devtype = 0;
  std::string result;  // "success", "failed", ""
  std::string state;   // of a ledger entry: "confirmed", "unsent", …; "" from a log
  std::optional<uint32_t> who_auid, who_uid, who_ses;  // who asked, if the record tells
  std::string who_exe, who_tty;
  std::optional<uint32_t> auid;  // of the sender (the daemon), as the kernel says
  std::string why;
};

// Appends one object and a newline.
void append_json_line(std::string& out, const EventView& view);

// Reusable: keeps its field table.
class EventReader {
 public:
  EventView read(const Event& event, uint64_t order);

 private:
  void read_virt(const trail::LineView& view, EventView& out);
  void read_resource(EventView& out);
  trail::FieldSet fields_;
  model::Meaning meaning_;
  std::string scratch_;
};

// What `tenure log` shows.
struct EventFilter {
  TimeRange range;
  GuestSelector guest;
  ResourceSelector resource;
  bool by_guest = false;  // guest was given
  bool by_resource = false;
  std::string result;  // "success", "failed" or ""
  std::string kind;    // a kind, a type or an action; "" for the usual ones
  std::string node;
  std::optional<uint32_t> who;  // uid or audit uid of who asked
};

bool matches(const EventView& event, const EventFilter& filter);
// Without decoding the fields: records that no filter can want.
bool may_match(const Event& event, const EventFilter& filter);

}  // namespace tenure::reader
