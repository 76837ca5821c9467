// SPDX-License-Identifier: Apache-2.0
#include "reader/event_view.h"

#include "base/identity.h"
#include "base/text.h"
#include "model/json.h"

namespace tenure::reader {
namespace {

using trail::Key;

bool is_virt(uint16_t type) {
  return type >= trail::kVirtControl && type <= 2599;
}

struct TypeKind {
  uint16_t type;
  std::string_view kind;
};
constexpr TypeKind kKinds[] = {
    {trail::kVirtControl, "control"},
    {trail::kVirtMachineId, "machine-id"},
    {trail::kVirtCreate, "create"},
    {trail::kVirtDestroy, "destroy"},
    {trail::kVirtMigrateIn, "migrate-in"},
    {trail::kVirtMigrateOut, "migrate-out"},
    {trail::kVirtIntegrityCheck, "integrity"},
};

std::string kind_of(const trail::LineView& view) {
  for (const TypeKind& row : kKinds) {
    if (row.type == view.type)
      return std::string(row.kind);
  }
  return lower_case(view.type_name);
}

std::optional<uint32_t> id_of(const std::optional<uint64_t>& value) {
  if (!value || *value >= kUnsetId)
    return std::nullopt;
  return static_cast<uint32_t>(*value);
}

std::string outer_value(const trail::LineView& view, std::string_view key) {
  trail::Fields fields(view.outer);
  for (trail::Field field; fields.next(field);) {
    if (field.key == key)
      return trail::decode_value(field);
  }
  return {};
}

// Shown without being asked for: guests, and what bears on whether the trail is whole.
bool usual(uint16_t type) {
  return is_virt(type) || type == trail::kSystemBoot || type == trail::kSystemShutdown ||
         (type >= trail::kDaemonStart && type <= trail::kDaemonAbort) ||
         type == trail::kDaemonErr || type == trail::kConfigChange;
}

}  // namespace

EventView EventReader::read(const Event& event, uint64_t order) {
  const trail::LineView& view = event.view;
  EventView out;
  out.time_ms = trail::time_ms(view);
  out.serial = view.serial;
  out.proof = model::proof_of({.order = order, .time_ms = out.time_ms, .serial = view.serial});
  out.node = view.node;
  out.type = view.type_name;
  out.kind = kind_of(view);
  if (view.state)
    out.state = trail::to_string(*view.state);
  const auto auid = parse_int<uint64_t>(outer_value(view, "auid"));
  out.auid = id_of(auid);
  if (is_virt(view.type)) {
    read_virt(view, out);
  } else {
    out.action = outer_value(view, "op");
    out.detail = std::string(trim(view.outer));
    out.result = outer_value(view, "res");
  }
  return out;
}

void EventReader::read_virt(const trail::LineView& view, EventView& out) {
  fields_.collect(view);
  out.guest = fields_.text(Key::Vm, scratch_);
  out.uuid = lower_case(fields_.raw(Key::Uuid));
  out.result = fields_.raw(Key::Res);
  out.action = fields_.raw(Key::Op);
  const std::string_view reason = fields_.raw(Key::Reason);
  (out.action.empty() ? out.action : out.detail) = reason;
  out.who_auid = id_of(fields_.number(Key::ReqAuid));
  out.who_uid = id_of(fields_.number(Key::ReqUid));
  out.who_ses = id_of(fields_.number(Key::ReqSes));
  out.who_exe = fields_.text(Key::ReqExe, scratch_);
  out.who_tty = fields_.text(Key::ReqTty, scratch_);
  out.why = fields_.text(Key::Why, scratch_);
  if (view.type == trail::kVirtResource)
    read_resource(out);
  if (view.type == trail::kVirtMachineId) {
    out.resource = fields_.text(Key::VmCtx, scratch_);
    out.category = fields_.raw(Key::Model);
  }
}

void EventReader::read_resource(EventView& out) {
  const model::Change change = meaning_.of(fields_);
  out.kind = change.kind.empty() ? fields_.raw(Key::Resrc) : change.kind;
  out.resource = change.id.empty() ? change.old_id : change.id;
  if (!change.id.empty() && change.id != change.old_id)
    out.old_resource = change.old_id;
  out.access = change.access;
  out.rdev = change.rdev;
  out.category = change.category;
  out.holder = change.holder;
  out.devtype = change.devtype;
  if (!out.resource.empty())
    return;
  // A refusal or a change from outside names the device without gaining or losing it.
  out.resource = fields_.text(Key::Path, scratch_);
  out.rdev = fields_.raw(Key::Rdev);
  out.access = fields_.raw(Key::Acl);
  const std::string_view devtype = fields_.raw(Key::Devtype);
  out.devtype = devtype == "b" || devtype == "c" ? devtype[0] : '\0';
}

bool may_match(const Event& event, const EventFilter& filter) {
  const trail::LineView& view = event.view;
  if (view.state == trail::EntryState::Intent || view.state == trail::EntryState::Void)
    return false;
  if (!filter.range.meets(trail::time_ms(view), trail::time_ms(view)))
    return false;
  if (!filter.node.empty() && view.node != filter.node)
    return false;
  return !filter.kind.empty() || usual(view.type);
}

bool matches(const EventView& event, const EventFilter& filter) {
  if (!filter.kind.empty() && filter.kind != event.kind && filter.kind != event.action &&
      lower_case(filter.kind) != lower_case(event.type))
    return false;
  if (!filter.result.empty() && filter.result != event.result)
    return false;
  if (filter.by_guest && !filter.guest.matches(event.guest, event.uuid))
    return false;
  if (filter.who && filter.who != event.who_auid && filter.who != event.who_uid)
    return false;
  if (!filter.by_resource)
    return true;
  ResourceSelector::Thing thing{.kind = event.kind,
                                .id = event.resource,
                                .rdev = event.rdev,
                                .category = event.category,
                                .holder = event.holder,
                                .devtype = event.devtype};
  if (filter.resource.matches(thing))
    return true;
  thing.id = event.old_resource;
  return !event.old_resource.empty() && filter.resource.matches(thing);
}

}  // namespace tenure::reader
