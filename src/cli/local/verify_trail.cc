// SPDX-License-Identifier: Apache-2.0
#include "cli/local/verify_trail.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "trail/entry.h"

namespace tenure::cli {
namespace {

using trail::EntryState;
using trail::Key;

// Our clock and the kernel's coarse one differ by some ms, and records overtake each other.
constexpr int64_t kClockSlackMs = 1000;

bool is_virt(uint16_t type) {
  return type >= trail::kVirtControl && type <= trail::kVirtMigrateOut;
}

size_t hash_of(std::string_view text) {
  return std::hash<std::string_view>()(text);
}

}  // namespace

Result<> TrailCheck::entry(uint64_t index, std::string_view bytes) {
  if (index == 0)
    state_ = State();
  TRY(trail::Entry decoded, trail::decode_entry(bytes));
  auto line = trail::decode_line(bytes);
  if (!line)
    return std::unexpected(trail::to_error(line.error()));
  if (!trail::decode_record(*line))
    ++state_.unknown_kinds;
  note_time(index, decoded.time_ms);
  state_.fields.collect(*line);
  TRY_OK(check_grant(index));
  if (decoded.state == EntryState::Intent)
    state_.intents.push_back(index);
  if (decoded.state == EntryState::Confirmed)
    state_.confirmed.emplace(EventId{decoded.time_ms, decoded.serial},
                             Confirmed{.index = index, .text_hash = hash_of(decoded.body)});
  return check_book(index, *line);
}

// A grant is numbered by its intent, so grant= names an intent that is before it.
Result<> TrailCheck::check_grant(uint64_t index) const {
  if (state_.fields.find(Key::Grant) == nullptr)
    return {};
  auto grant = state_.fields.number(Key::Grant);
  if (grant && *grant < index && std::ranges::binary_search(state_.intents, *grant))
    return {};
  return fail(Errc::Corrupt, fmt::format("grant={} is not an intent before this entry",
                                         state_.fields.raw(Key::Grant)));
}

Result<> TrailCheck::check_book(uint64_t index, const trail::LineView& line) {
  model::BookCounts before = state_.book.counts();
  state_.book.apply(line, index);
  const model::BookCounts& after = state_.book.counts();
  if (after.unmatched > before.unmatched)
    return fail(Errc::Corrupt, "ends what no entry before it has begun");
  if (after.duplicates > before.duplicates)
    return fail(Errc::Corrupt, "begins or ends again what an entry before it has begun or ended");
  if (after.damaged > before.damaged)
    return fail(Errc::Corrupt, "a result without res=");
  return {};
}

void TrailCheck::note_time(uint64_t index, int64_t time_ms) {
  if (time_ms < state_.last_ms - kClockSlackMs && state_.clock_steps++ == 0)
    state_.first_step = index;
  state_.last_ms = time_ms;
}

void TrailCheck::log_record(const trail::LineView& line) {
  if (line.state || line.serial == 0)
    return;
  int64_t time_ms = trail::time_ms(line);
  state_.log_from_ms = std::min(state_.log_from_ms, time_ms);
  state_.log_until_ms = std::max(state_.log_until_ms, time_ms);
  if (!is_virt(line.type))
    return;
  auto [at, end] = state_.confirmed.equal_range(EventId{time_ms, line.serial});
  for (; at != end; ++at) {
    bool same = at->second.text_hash == hash_of(line.body);
    (same ? at->second.same : at->second.altered) = true;
  }
}

LogComparison TrailCheck::comparison() const {
  LogComparison result;
  for (const auto& [id, confirmed] : state_.confirmed) {
    if (confirmed.same)
      ++result.same;
    else if (confirmed.altered)
      result.altered.push_back(confirmed.index);
    else if (id.first < state_.log_from_ms)
      ++result.rotated_away;
    else if (id.first > state_.log_until_ms)
      ++result.not_yet;
    else
      result.missing.push_back(confirmed.index);
  }
  std::ranges::sort(result.missing);
  std::ranges::sort(result.altered);
  return result;
}

std::vector<std::string> TrailCheck::notes() const {
  std::vector<std::string> notes;
  if (state_.clock_steps > 0)
    notes.push_back(fmt::format("the clock was set back {} times, first before entry {}",
                                state_.clock_steps, state_.first_step));
  if (size_t open = state_.book.open_intents().size(); open > 0)
    notes.push_back(
        fmt::format("{} intents have no result: tenured is at work, or was ended and not "
                    "started again",
                    open));
  if (state_.unknown_kinds > 0)
    notes.push_back(fmt::format("{} entries are of kinds that this version does not know",
                                state_.unknown_kinds));
  return notes;
}

}  // namespace tenure::cli
