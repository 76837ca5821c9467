// SPDX-License-Identifier: Apache-2.0
// An event as a JSON line: the Event of tenure-json(5).
#include <fmt/format.h>

#include "model/json.h"
#include "reader/event_view.h"

namespace tenure::reader {
namespace {

void text(std::string& out, std::string_view key, std::string_view value) {
  out += fmt::format(",\"{}\":", key);
  value.empty() ? void(out += "null") : model::append_json_string(out, value);
}

// The trail has "?" where there is no terminal, and where the program could not be learnt.
void text_if_known(std::string& out, std::string_view key, std::string_view value) {
  text(out, key, value == "?" ? std::string_view() : value);
}

std::string number(const std::optional<uint32_t>& value) {
  return value ? std::to_string(*value) : "null";
}

}  // namespace

void append_json_line(std::string& out, const EventView& view) {
  out += fmt::format("{{\"schema\":{},\"time\":\"{}.{:03}\"", model::kJsonSchema,
                     view.time_ms / 1000, view.time_ms % 1000);
  out += fmt::format(",\"serial\":{}", view.serial == 0 ? "null" : std::to_string(view.serial));
  if (view.entry)
    out += fmt::format(",\"ledger\":{}", *view.entry);
  text(out, "proof", view.proof);
  text(out, "node", view.node);
  text(out, "type", view.type);
  text(out, "kind", view.kind);
  text(out, "action", view.action);
  text(out, "detail", view.detail);
  text(out, "guest", view.guest);
  text(out, "uuid", view.uuid);
  text(out, "id", view.resource);
  text(out, "old_id", view.old_resource);
  text(out, "access", view.access);
  text(out, "rdev", view.rdev);
  text(out, "devtype", std::string_view(&view.devtype, view.devtype == 0 ? 0 : 1));
  text(out, "category", view.category);
  text(out, "result", view.result);
  text(out, "why", view.why);
  text(out, "state", view.state);
  out += ",\"requester\":";
  if (!view.who_auid && !view.who_uid) {
    out += "null}\n";
    return;
  }
  out += fmt::format("{{\"auid\":{},\"uid\":{},\"ses\":{}", number(view.who_auid),
                     number(view.who_uid), number(view.who_ses));
  text_if_known(out, "exe", view.who_exe);
  text_if_known(out, "tty", view.who_tty);
  out += "}}\n";
}

}  // namespace tenure::reader
