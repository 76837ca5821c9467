// SPDX-License-Identifier: Apache-2.0
#include "daemon/status.h"

#include <nlohmann/json.hpp>

#include "daemon/audit_watch.h"
#include "domain/text.h"

namespace tenure::daemon {
namespace {

using nlohmann::json;

json open_tenure(const registrar::Hold& hold, uint64_t run) {
  const model::Claim& claim = hold.claim;
  json tenure = {{"grant", hold.grant},
                 {"kind", claim.kind},
                 {"id", claim.id},
                 {"access", to_string(claim.access)},
                 {"for", claim.holder},
                 {"rdev", nullptr},
                 {"devtype", nullptr},
                 {"run", run},
                 {"still_held", hold.kept.empty() ? json() : json(hold.kept)}};
  if (claim.rdev) {
    std::string rdev = rdev_hex(*claim.rdev);
    tenure["rdev"] = claim.any_minor ? rdev.substr(0, rdev.find(':')) + ":*" : rdev;
    tenure["devtype"] = claim.rdev->type == DeviceType::Block ? "b" : "c";
  }
  return tenure;
}

void add_fence(json& status, guest::Guest& guest) {
  const guest::RunState& state = guest.state();
  status["fence"] = state.fence;
  status["cgroup_paths"] = json::array();
  for (const std::string& path : {state.cgroup_v2, state.cgroup_v1})
    if (!path.empty())
      status["cgroup_paths"].push_back(path);
  status["acl"] = json::array();
  status["denials"] = nullptr;
  kernel::Fence* fence = guest.fence();
  if (fence == nullptr)
    return;
  auto rules = fence->list();
  if (!rules) {
    status["acl_error"] = rules.error().what();
    return;
  }
  for (const kernel::AclRule& rule : *rules) status["acl"].push_back(to_string(rule));
  if (auto denials = fence->denials(); denials && *denials)
    status["denials"] = **denials;
}

// What the next run gets that this one has not, or the other way round.
void add_differences(json& status, const guest::RunState& state, const Definition* definition) {
  status["definition_differs"] = false;
  status["differences"] = json::array();
  if (definition == nullptr)
    return;
  auto live = guest::live_text(state);
  auto found = live ? domain::differences(*live, definition->xml)
                    : Result<std::vector<std::string>>(fail(live.error()));
  if (!found) {
    status["definition_differs"] = definition->xml != state.xml;
    status["differences_error"] = found.error().what();
    return;
  }
  status["definition_differs"] = !found->empty();
  status["differences"] = *found;
}

}  // namespace

json to_json(const guest::Difference& difference) {
  return {{"kind", to_string(difference.kind)},
          {"resource", difference.resource},
          {"expected", difference.expected},
          {"found", difference.found},
          {"text", difference.text}};
}

json audit_status(const guest::Context& context) {
  registrar::Journal& journal = context.journal;
  json audit = {{"policy", registrar::to_string(journal.options().on_audit_loss)},
                {"ledger_only", journal.options().ledger_only},
                {"waiting", journal.waiting()},
                {"gap", nullptr}};
  if (const auto& gap = journal.gap())
    audit["gap"] = {{"from_ms", gap->from_ms},
                    {"count", gap->count()},
                    {"cause", gap->cause},
                    {"not_stored", gap->not_stored}};
  kernel::AuditFacts facts = audit_facts(journal);
  kernel::AuditState state = kernel::recognise_audit(facts);
  audit["state"] = journal.options().ledger_only ? "not-used" : to_string(state.condition);
  audit["cause"] = journal.options().ledger_only ? "" : state.cause;
  audit["remedy"] = journal.options().ledger_only ? "" : state.remedy;
  const auto& now = facts.status;
  if (!now) {
    audit["error"] = facts.status_error;
    return audit;
  }
  audit["enabled"] = now->enabled;
  audit["auditd_pid"] = now->auditd_pid;
  audit["rate_limit"] = now->rate_limit;
  audit["backlog"] = now->backlog;
  audit["backlog_limit"] = now->backlog_limit;
  audit["lost"] = now->lost;
  return audit;
}

json ledger_status(const guest::Context& context, const Witness* witness) {
  registrar::Journal& journal = context.journal;
  const uint64_t published = journal.ledger().published();
  const uint64_t size = journal.ledger().size();
  json ledger = {{"size", size},
                 {"published", published},
                 {"unpublished", size - published},
                 {"unpublished_since_ms", journal.unpublished_since_ms()},
                 {"publish_error", journal.publish_error()},
                 {"witness", witness != nullptr}};
  if (witness == nullptr)
    return ledger;
  WitnessState state = witness->state();
  ledger["witnessed"] = state.witnessed;
  ledger["unwitnessed"] = size - std::min(size, state.witnessed);
  ledger["witnessed_ms"] = state.witnessed_ms;
  ledger["witness_error"] = state.error;
  return ledger;
}

json status_of(const guest::Context& context, const Guests& guests, const DriftWatch& drift,
               const GuestName& name) {
  json status = {{"name", name.name},
                 {"uuid", name.uuid},
                 {"state", "shut off"},
                 {"run", nullptr},
                 {"pid", nullptr},
                 {"uid", nullptr},
                 {"defined", guests.definition(name.uuid) != nullptr},
                 {"saved", nullptr},
                 {"fence", nullptr},
                 {"cgroup_paths", json::array()},
                 {"acl", json::array()},
                 {"tenures", json::array()},
                 {"helpers", json::array()},
                 {"drift", json::array()},
                 {"log", guest::guest_log_path(context.paths, name.uuid)}};
  status["audit"] = audit_status(context);
  for (const auto& left : guests.left_over())
    if (left->ref.uuid == name.uuid)
      for (const registrar::Hold& hold : left->holds)
        status["tenures"].push_back(open_tenure(hold, left->ref.run));
  auto guest = guests.running(name.uuid);
  if (std::string saved = guests.saved_state(name.uuid); !guest && !saved.empty())
    status["saved"] = saved;
  if (!guest)
    return status;
  const guest::RunState& state = guest->state();
  status["state"] = guest->status();
  status["run"] = state.ref.run;
  status["pid"] = state.process.pid;
  if (state.uid)
    status["uid"] = *state.uid;
  status["accel"] = guest->domain().kvm ? "kvm" : "tcg";
  add_fence(status, *guest);
  for (const registrar::Hold& hold : guest->holds())
    status["tenures"].push_back(open_tenure(hold, state.ref.run));
  for (const auto& [alias, helper] : state.helpers)
    status["helpers"].push_back(
        {{"device", alias}, {"kind", helper.kind}, {"pid", helper.process.pid}});
  for (const guest::Difference& difference : drift.known(name.uuid))
    status["drift"].push_back(to_json(difference));
  add_differences(status, state, guests.definition(name.uuid));
  return status;
}

}  // namespace tenure::daemon
