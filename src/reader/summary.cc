// SPDX-License-Identifier: Apache-2.0
#include "reader/summary.h"

#include <algorithm>

#include "base/identity.h"
#include "reader/time_words.h"

namespace tenure::reader {
namespace {

std::string name_of(std::string_view guest, std::string_view uuid) {
  return std::string(guest.empty() ? uuid : guest);
}

std::string key_of(const EventView& event, SummaryBy by) {
  if (by == SummaryBy::Guest)
    return name_of(event.guest, event.uuid);
  if (by == SummaryBy::Resource)
    return event.resource.empty() ? event.kind : event.kind + " " + event.resource;
  if (by == SummaryBy::Day)
    return format_day(event.time_ms, local_zone());
  const auto who = event.who_auid ? event.who_auid : event.who_uid;
  return who ? std::to_string(*who) : std::string();
}

}  // namespace

std::string who_key(const model::Asker* asker, const Guess* guess) {
  if (asker != nullptr)
    return std::to_string(asker->auid != kUnsetId ? asker->auid : asker->uid);
  if (guess == nullptr || (!guess->auid && !guess->uid))
    return {};
  return std::to_string(guess->auid ? *guess->auid : *guess->uid) + "?";
}

bool Summary::counts(const std::optional<model::Position>& at) const {
  return at && range_.meets(at->time_ms, at->time_ms);
}

SummaryLine& Summary::line(const std::string& key, int64_t time_ms) {
  SummaryLine& line = lines_[key];
  line.first_ms = std::min(line.first_ms.value_or(time_ms), time_ms);
  line.last_ms = std::max(line.last_ms.value_or(time_ms), time_ms);
  return line;
}

void Summary::event(const Event& event, uint64_t order, const GuestSelector& guest) {
  const bool failed = event.view.body.find("res=failed") != std::string_view::npos;
  const bool denied = event.view.body.find("reason=denied") != std::string_view::npos;
  if ((!failed && !denied) || event.view.state == trail::EntryState::Intent)
    return;
  const EventView view = reader_.read(event, order);
  const bool refused = view.action == "denied" || view.detail == "refused";
  if (view.guest.empty() || !guest.matches(view.guest, view.uuid) ||
      !range_.meets(view.time_ms, view.time_ms) || (!refused && view.result != "failed"))
    return;
  SummaryLine& to = line(key_of(view, by_), view.time_ms);
  ++(refused ? to.refused : to.failed);
}

void Summary::finish(Reading& reading, const GuestSelector& guest) {
  for (Stream& stream : reading.streams) {
    for (const model::Run& one : stream.book.runs()) {
      if (guest.matches(one.guest, one.uuid))
        run(one);
    }
    for (const model::Tenure& one : stream.book.tenures()) {
      if (guest.matches(one.guest, one.uuid))
        tenure(one, stream);
    }
  }
}

void Summary::run(const model::Run& run) {
  if (!run.ok || !counts(run.start))
    return;
  const int64_t at = run.start->time_ms;
  if (by_ == SummaryBy::Guest)
    ++line(name_of(run.guest, run.uuid), at).runs;
  if (by_ == SummaryBy::Day)
    ++line(format_day(at, local_zone()), at).runs;
}

void Summary::tenure(const model::Tenure& tenure, const Stream& stream) {
  const auto guess_at = [&](const std::optional<model::Position>& at) -> const Guess* {
    const auto found = at ? stream.guesses.find(at->order) : stream.guesses.end();
    return found == stream.guesses.end() ? nullptr : &found->second;
  };
  const auto key = [&](const std::optional<model::Position>& at, const model::Asker* asker) {
    if (by_ == SummaryBy::Guest)
      return name_of(tenure.guest, tenure.uuid);
    if (by_ == SummaryBy::Resource)
      return std::string(tenure.kind.view()) + " " + std::string(tenure.id.view());
    if (by_ == SummaryBy::Day)
      return format_day(at->time_ms, local_zone());
    return who_key(asker, guess_at(at));
  };
  if (counts(tenure.from)) {
    SummaryLine& to = line(key(tenure.from, tenure.requester), tenure.from->time_ms);
    ++to.grants;
    if (tenure.open())
      ++to.open;
  }
  if (counts(tenure.until))
    ++line(key(tenure.until, tenure.end_requester), tenure.until->time_ms).releases;
}

}  // namespace tenure::reader
