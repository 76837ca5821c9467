// SPDX-License-Identifier: Apache-2.0
#include "reader/gaps.h"

#include "base/text.h"
#include "model/json.h"

namespace tenure::reader {
namespace {

std::optional<uint64_t> number_of(std::string_view fields, std::string_view key) {
  trail::Fields all(fields);
  for (trail::Field field; all.next(field);) {
    if (field.key == key)
      return parse_int<uint64_t>(field.raw);
  }
  return std::nullopt;
}

std::string text_of(std::string_view fields, std::string_view key) {
  trail::Fields all(fields);
  for (trail::Field field; all.next(field);) {
    if (field.key == key)
      return trail::decode_value(field);
  }
  return {};
}

}  // namespace

void GapFinder::event(const Event& event, uint64_t order) {
  const trail::LineView& view = event.view;
  const bool of_daemon = view.type >= trail::kDaemonStart && view.type < trail::kSyscall;
  const bool of_host = view.type == trail::kSystemBoot || view.type == trail::kSystemShutdown;
  const bool ours = view.type == trail::kVirtIntegrityCheck;
  if (!of_daemon && !of_host && !ours && view.type != trail::kConfigChange)
    return;
  auto host = hosts_.find(view.node);
  if (host == hosts_.end())
    host = hosts_.emplace(std::string(view.node), Host{}).first;
  Gap here;
  here.node = host->first;
  here.from_ms = here.until_ms = trail::time_ms(view);
  here.proof =
      model::proof_of({.order = order, .time_ms = trail::time_ms(view), .serial = view.serial});
  if (ours)
    return own_gap(view, std::move(here));
  if (view.type == trail::kConfigChange)
    return config_change(host->second, view, here);
  daemon(host->second, view.type, here);
}

// kernel/audit.c, audit_log_config_change(): "op=set audit_enabled=0 old=1 …", "op=set lost=0
// old=9".
void GapFinder::config_change(Host& host, const trail::LineView& view, const Gap& here) {
  const auto enabled = number_of(view.outer, "audit_enabled");
  if (enabled == 0U && !host.disabled) {
    host.disabled = here;
    host.disabled->what = "auditing was switched off";
  } else if (enabled && *enabled != 0 && host.disabled) {
    host.disabled->until_ms = here.from_ms;
    gaps_.push_back(*std::exchange(host.disabled, std::nullopt));
  }
  const auto lost = number_of(view.outer, "old");
  if (number_of(view.outer, "lost") == 0U && lost && *lost > 0) {
    Gap gap = here;
    gap.from_ms.reset();  // since the counter was last read, whenever that was
    gap.lost = lost;
    gap.what = "the kernel lost records";
    gaps_.push_back(std::move(gap));
  }
}

void GapFinder::daemon(Host& host, uint16_t type, const Gap& here) {
  const bool start = type == trail::kDaemonStart;
  if (type == trail::kSystemShutdown)
    host.shutdown = true;
  if (type == trail::kSystemBoot || (start && host.shutdown))
    host.stopped.reset();  // a reboot: nobody ran guests meanwhile
  if (type == trail::kSystemBoot) {
    host.disabled.reset();
    host.shutdown = false;
  }
  if (type == trail::kDaemonEnd && !host.shutdown) {
    host.stopped = here;
    host.stopped->what = "auditd was stopped";
  }
  if (start && host.stopped) {
    host.stopped->until_ms = here.from_ms;
    gaps_.push_back(*std::exchange(host.stopped, std::nullopt));
  }
  if (type != trail::kDaemonAbort && type != trail::kDaemonErr)
    return;
  Gap gap = here;
  gap.what = type == trail::kDaemonErr ? "auditd reported an error" : "auditd aborted";
  gaps_.push_back(std::move(gap));
}

void GapFinder::own_gap(const trail::LineView& view, Gap here) {
  if (view.state == trail::EntryState::Intent || text_of(view.body, "op") != "gap")
    return;
  const auto from = number_of(view.body, "from");
  const auto to = number_of(view.body, "to");
  if (from && to) {
    here.from_ms = static_cast<int64_t>(*from);
    here.until_ms = static_cast<int64_t>(*to);
  }
  here.lost = number_of(view.body, "count");
  here.what = "audit lost records: " + text_of(view.body, "cause");
  gaps_.push_back(std::move(here));
}

std::vector<Gap> GapFinder::finish() {
  for (auto& [node, host] : hosts_) {
    for (auto* open : {&host.disabled, &host.stopped}) {
      if (!*open)
        continue;
      (*open)->until_ms.reset();
      gaps_.push_back(*std::exchange(*open, std::nullopt));
    }
  }
  return std::exchange(gaps_, {});
}

}  // namespace tenure::reader
