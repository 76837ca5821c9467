// SPDX-License-Identifier: Apache-2.0
#include "model/json.h"

#include <fmt/format.h>

#include <initializer_list>
#include <iterator>
#include <utility>

#include "base/identity.h"
#include "base/text.h"
#include "model/json_line.h"

namespace tenure::model {
namespace {

auto to(std::string& out) {
  return std::back_inserter(out);
}

// Bytes that the keys of a line, its numbers, times and proofs take at most; texts come on top.
constexpr size_t kRoom = 1536;

// Appends to `out` what `write` puts where it is told, and `size` bytes at most.
template <typename Write>
void append(std::string& out, size_t size, Write write) {
  const size_t before = out.size();
  out.resize_and_overwrite(before + size, [&](char* text, size_t) {
    return static_cast<size_t>(write(text + before) - text);
  });
}

size_t room_of(std::initializer_list<Name> names) {
  size_t room = 0;
  for (Name name : names) room += json_room(name.size());
  return room;
}

size_t room_of(const Asker* who) {
  return who == nullptr ? 0 : room_of({who->exe, who->tty});
}

void put_proofs(JsonLine& line, const Tenure& tenure) {
  line.key<"proof">();
  char before = '[';
  for (const auto* at : {&tenure.from, &tenure.until_after, &tenure.until}) {
    // Our own bounds are times within one record; that record is the proof.
    bool bound = at == &tenure.until_after && tenure.grant;
    if (!at->has_value() || bound)
      continue;
    line.put(std::exchange(before, ','));
    line.put('"');
    line.put_proof(**at);
    line.put('"');
  }
  line.put(before == '[' ? "[]" : "]");
}

// What only some kinds have.
void put_details(JsonLine& line, const Tenure& tenure) {
  std::string_view kind = tenure.kind;
  if (kind == "cgroup") {
    line.text_or_null<"class">(tenure.category);
    line.text_or_null<"category">(tenure.category.view() == "major" ? tenure.id : Name());
  }
  if (kind == "dev")
    line.text_or_null<"bus">(tenure.category);
  if (!tenure.holder.empty())
    line.text<"device">(tenure.holder);
  if (tenure.grant)
    line.number<"grant">(*tenure.grant);
  if (tenure.until_after)
    line.position<"until_after">(tenure.until_after);
  if (tenure.end_requester != nullptr)
    line.asker<"until_requester">(tenure.end_requester);
}

void put_quoted(JsonLine& line, std::string_view word) {
  line.put('"');
  line.put(word);
  line.put('"');
}

}  // namespace

size_t json_room(const Tenure& t) {
  return kRoom + room_of(t.requester) + room_of(t.end_requester) +
         room_of({t.node, t.guest, t.uuid, t.kind, t.id, t.id, t.access, t.rdev, t.category,
                  t.holder, t.from_reason, t.until_reason});
}

size_t json_room(const Run& run) {
  return kRoom + room_of({run.node, run.guest, run.uuid, run.start_reason, run.end_reason});
}

char* write_json_line(char* at, const Tenure& tenure, const Run& run) {
  JsonLine line(at);
  line.number<"schema", '{'>(kJsonSchema);
  line.text_or_null<"node">(tenure.node);
  line.text<"guest">(tenure.guest);
  line.text_or_null<"uuid">(tenure.uuid);
  line.number<"run">(run.number);
  line.text<"kind">(tenure.kind);
  line.text<"id">(tenure.id);
  line.text_or_null<"access">(tenure.access);
  line.key<"devtype">();
  tenure.devtype == 0 ? line.null() : put_quoted(line, {&tenure.devtype, 1});
  line.text_or_null<"rdev">(tenure.rdev);
  line.position<"from">(tenure.from);
  line.text_or_null<"from_reason">(tenure.from_reason);
  line.position<"until">(tenure.until);
  line.text_or_null<"until_reason">(tenure.until_reason);
  line.key<"certainty">();
  put_quoted(line, to_string(tenure.certainty));
  line.asker<"requester">(tenure.requester);
  put_proofs(line, tenure);
  put_details(line, tenure);
  line.put("}\n");
  return line.end();
}

char* write_json_line(char* at, const Run& run) {
  JsonLine line(at);
  line.number<"schema", '{'>(kJsonSchema);
  line.text_or_null<"node">(run.node);
  line.text<"guest">(run.guest);
  line.text_or_null<"uuid">(run.uuid);
  line.number<"run">(run.number);
  line.position<"start">(run.start);
  line.text_or_null<"start_reason">(run.start_reason);
  line.number<"pid">(run.pid);
  line.boolean<"ok">(run.ok);
  line.position<"end">(run.end);
  line.text_or_null<"end_reason">(run.end_reason);
  line.key<"certainty">();
  put_quoted(line, to_string(run.certainty));
  if (run.end_after)
    line.position<"end_after">(run.end_after);
  line.put("}\n");
  return line.end();
}

namespace {

void append_csv(std::string& out, std::string_view text, bool last = false) {
  bool quote = text.find_first_of(",\"\r\n") != text.npos;
  if (quote)
    out += '"';
  for (char c : text) {
    if (c == '"')
      out += '"';
    out += c;
  }
  if (quote)
    out += '"';
  out += last ? '\n' : ',';
}

void append_csv_time(std::string& out, const std::optional<Position>& at) {
  if (at)
    fmt::format_to(to(out), "{}.{:03}", at->time_ms / 1000, at->time_ms % 1000);
  out += ',';
  if (at && at->serial != 0)
    fmt::format_to(to(out), "{}", at->serial);
  out += ',';
}

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
  append(out, json_room(text.size()), [text](char* at) { return write_json_string(at, text); });
}

std::string proof_of(const Position& at) {
  std::string text;
  append(text, kRoom, [&at](char* begin) {
    JsonLine line(begin);
    line.put_proof(at);
    return line.end();
  });
  return text;
}

void append_json_line(std::string& out, const Tenure& tenure, const Run& run) {
  append(out, json_room(tenure), [&](char* at) { return write_json_line(at, tenure, run); });
}

void append_json_line(std::string& out, const Run& run) {
  append(out, json_room(run), [&](char* at) { return write_json_line(at, run); });
}

void append_csv_header(std::string& out) {
  out +=
      "node,guest,uuid,run,kind,id,access,devtype,rdev,from_time,from_serial,from_reason,until_time,"
      "until_serial,until_reason,certainty,requester_auid,requester_uid,grant,device\n";
}

void append_csv_line(std::string& out, const Tenure& tenure, const Run& run) {
  // A name may be any bytes; a table program gets the printable form, as a terminal does.
  auto name = [&](std::string_view text) { append_csv(out, printable(text)); };
  name(tenure.node);
  name(tenure.guest);
  name(tenure.uuid);
  fmt::format_to(to(out), "{},", run.number);
  name(tenure.kind);
  name(tenure.id);
  name(tenure.access);
  name(std::string_view(&tenure.devtype, tenure.devtype != 0 ? 1 : 0));
  name(tenure.rdev);
  append_csv_time(out, tenure.from);
  name(tenure.from_reason);
  append_csv_time(out, tenure.until);
  name(tenure.until_reason);
  name(to_string(tenure.certainty));
  auto id = [&](uint32_t value) {
    if (tenure.requester != nullptr && value != kUnsetId)
      fmt::format_to(to(out), "{}", value);
    out += ',';
  };
  id(tenure.requester != nullptr ? tenure.requester->auid : kUnsetId);
  id(tenure.requester != nullptr ? tenure.requester->uid : kUnsetId);
  if (tenure.grant)
    fmt::format_to(to(out), "{}", *tenure.grant);
  out += ',';
  append_csv(out, printable(tenure.holder), true);
}

}  // namespace tenure::model
