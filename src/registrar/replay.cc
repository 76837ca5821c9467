// SPDX-License-Identifier: Apache-2.0
#include "registrar/replay.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "ledger/ledger.h"
#include "trail/decode.h"

namespace tenure::registrar {
namespace {

using trail::EntryState;
using trail::Kind;
using trail::Record;

uint64_t number(const Record& record, std::string_view key) {
  auto text = record.get(key);
  return text ? parse_int<uint64_t>(*text).value_or(0) : 0;
}

RunRef ref_of(const Record& record) {
  auto text = [&](std::string_view key) { return std::string(record.get(key).value_or("")); };
  return {
      .virt = text("virt"), .vm = text("vm"), .uuid = text("uuid"), .run = number(record, "run")};
}

bool begins_a_tenure(const Record& record) {
  return record.kind != Kind::CgroupAll && !model::claim_of(record).kind.empty();
}

class Replayer {
 public:
  Result<> entry(uint64_t index, std::string_view text) {
    auto line = trail::decode_line(text);
    if (!line || !line->state)
      return fail(Errc::Corrupt, fmt::format("ledger entry {}: not an entry of the trail", index));
    auto record = trail::decode_record(*line);
    // A kind of a later version: nothing that this version could hold or release.
    if (!record)
      return {};
    ++result.entries;
    int64_t time_ms = line->sec * 1000 + line->ms;
    note_gap(*line->state, record->kind, time_ms);
    if (*line->state == EntryState::Confirmed)
      result.confirmed = kernel::AuditMark{line->serial, time_ms};
    RunRef ref = ref_of(*record);
    if (ref.uuid.empty())
      return {};
    uint64_t& last = result.last_run[ref.uuid];
    last = std::max(last, ref.run);
    OpenRun& run = result.open[ref.uuid];
    // A refused request names the guest, but is of no run.
    if (ref.run != 0)
      run.ref = std::move(ref);
    run.last_ms = time_ms;
    apply(run, index, *line->state, std::move(*record));
    return {};
  }

  Replay finish() {
    std::erase_if(result.open, [](const auto& item) {
      const OpenRun& run = item.second;
      return run.holds.empty() && run.pending.empty() && !run.started;
    });
    return std::move(result);
  }

 private:
  void note_gap(EntryState state, Kind kind, int64_t time_ms) {
    if (kind == Kind::Gap)
      result.gap.reset();
    if (state != EntryState::Unconfirmed && state != EntryState::Unsent)
      return;
    if (!result.gap)
      result.gap = AuditGap{.from_ms = time_ms,
                            .cause = "not confirmed, and tenured ended before audit was back"};
    ++result.gap->unconfirmed;
  }

  static void apply(OpenRun& run, uint64_t index, EntryState state, Record record) {
    if (state == EntryState::Intent) {
      if (record.kind == Kind::Control && record.get("op") == "start")
        run.ended = false;
      run.pending.push_back({index, std::move(record)});
      return;
    }
    uint64_t grant = number(record, "grant");
    auto pending = std::ranges::find(run.pending, grant, &Pending::index);
    bool answers_intent = record.get("grant") && pending != run.pending.end();
    if (answers_intent)
      run.pending.erase(pending);
    if (state == EntryState::Void)
      return;
    if (record.kind == Kind::Control)
      return control(run, record);
    if (answers_intent) {
      if (record.success && begins_a_tenure(record))
        add_hold(run.holds, {.grant = grant, .claim = model::claim_of(std::move(record))});
      return;
    }
    if (record.success && record.get("grant"))
      std::erase_if(run.holds, [&](const Hold& h) { return h.grant == grant; });
  }

  static void control(OpenRun& run, const Record& record) {
    bool start = record.get("op") == "start";
    bool stop = record.get("op") == "stop" && record.success;
    if (start || stop)
      run.started = start && record.success;
    if (stop || (start && !record.success))
      run.ended = true;
  }

  Replay result;
};

}  // namespace

Result<Replay> replay_from(const std::function<Result<>(const EntrySink&)>& read) {
  Replayer replayer;
  Result<> outcome;
  auto each = [&](uint64_t index, std::string_view text) {
    outcome = replayer.entry(index, text);
    return outcome.has_value();
  };
  TRY_OK(read(each));
  TRY_OK(outcome);
  return replayer.finish();
}

Result<Replay> replay(const std::string& dir) {
  return replay_from([&](const EntrySink& each) -> Result<> {
    Result<> read = ledger::read_entries(dir, 0, each);
    if (!read && read.error().code() == Errc::NotFound)
      return {};
    return read;
  });
}

}  // namespace tenure::registrar
