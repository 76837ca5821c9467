// SPDX-License-Identifier: Apache-2.0
#include "reader/pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "ledger/ledger.h"
#include "reader/scan.h"
#include "reader/segment.h"
#include "reader/shared_stream.h"

namespace tenure::reader {
namespace {

constexpr size_t kLedgerArena = 1 << 18;  // bytes of entries in one batch
constexpr size_t kTasksAhead = 8;         // how far reading may run ahead of understanding
constexpr size_t kBatchesAhead = 8;       // of one stream

// A segment of a plain file, or a whole source of another kind.
struct Task {
  uint32_t source = 0;
  uint64_t segment = 0;
  bool shared = false;  // two threads may do it together
};

// What the threads have read, handed over in the order of the tasks.
class Handover {
 public:
  explicit Handover(const std::vector<Task>& tasks) : slots_(tasks.size()) {
    for (size_t i = 0; i < tasks.size(); ++i) slots_[i].wants_help = tasks[i].shared;
  }

  // What a worker shall do next: a task of its own, or help with one; nullopt at the end. Waits
  // while the workers are too far ahead.
  std::optional<size_t> claim() {
    std::unique_lock lock(mutex_);
    std::optional<size_t> task;
    moved_.wait(lock, [&] { return stopped_ || (task = claimable()) || next_ >= slots_.size(); });
    if (stopped_ || !task)
      return std::nullopt;
    if (*task == next_)
      ++next_;
    else
      slots_[*task].wants_help = false;
    ++slots_[*task].workers;
    return task;
  }

  // Batches of one task come in the order of their turns, 0 first. False if nobody wants more. A
  // stream that is ahead waits here.
  bool put(size_t task, uint64_t turn, Batch batch) {
    std::unique_lock lock(mutex_);
    Slot& slot = slots_[task];
    moved_.wait(lock, [&] {
      return stopped_ || (slot.turn == turn && slot.batches.size() < kBatchesAhead);
    });
    if (stopped_)
      return false;
    slot.batches.push_back(std::move(batch));
    ++slot.turn;
    if (slot.workers > 1)
      moved_.notify_all();
    if (task == taken_)
      ready_.notify_one();
    return true;
  }

  void finish(size_t task) {
    const std::scoped_lock lock(mutex_);
    slots_[task].wants_help = false;
    if (--slots_[task].workers == 0 && task == taken_)
      ready_.notify_one();
  }

  // The next batch in order; nullopt when all are given out.
  std::optional<Batch> take() {
    std::unique_lock lock(mutex_);
    while (taken_ < slots_.size()) {
      Slot& slot = slots_[taken_];
      const auto done = [&] { return taken_ < next_ && slot.workers == 0; };
      ready_.wait(lock, [&] { return !slot.batches.empty() || done(); });
      if (!slot.batches.empty()) {
        Batch batch = std::move(slot.batches.front());
        slot.batches.pop_front();
        moved_.notify_all();
        return batch;
      }
      slot.batches.shrink_to_fit();
      ++taken_;
      moved_.notify_all();
    }
    return std::nullopt;
  }

  void stop() {
    const std::scoped_lock lock(mutex_);
    stopped_ = true;
    moved_.notify_all();
  }

 private:
  struct Slot {
    std::deque<Batch> batches;
    uint64_t turn = 0;  // of the batch that comes next
    unsigned workers = 0;
    bool wants_help = false;
  };

  // The next task, if it is not too far ahead; else one that was begun and wants help.
  std::optional<size_t> claimable() const {
    if (next_ < slots_.size() && next_ < taken_ + kTasksAhead)
      return next_;
    for (size_t task = taken_; task < next_; ++task)
      if (slots_[task].wants_help)
        return task;
    return std::nullopt;
  }

  std::mutex mutex_;
  std::condition_variable moved_;  // for the workers
  std::condition_variable ready_;  // for the one that takes
  std::vector<Slot> slots_;
  size_t next_ = 0;
  size_t taken_ = 0;
  bool stopped_ = false;
};

using Put = std::function<bool(Batch)>;

void put_error(const Put& put, const std::string& what) {
  Batch batch;
  batch.damage.add(DamageKind::ReadError, what);
  put(std::move(batch));
}

BlockPlace place_of(const Source& source, uint32_t index) {
  return {.source_name = source.name, .source = index, .growing = source.growing};
}

void read_ledger(const Source& source, uint32_t index, const Put& put) {
  Batch batch;
  size_t used = 0;
  bool wanted = true;
  const BlockPlace place = place_of(source, index);
  const auto flush = [&] {
    wanted = put(std::exchange(batch, Batch{}));
    used = 0;
    return wanted;
  };
  const auto take = [&](uint64_t at, std::string_view entry) {
    if (entry.size() > kLedgerArena)
      entry = entry.substr(0, kLedgerArena);
    if (used + entry.size() > kLedgerArena && !flush())
      return false;
    if (!batch.arena)
      batch.arena = std::make_unique_for_overwrite<char[]>(kLedgerArena);
    char* to = batch.arena.get() + used;
    std::memcpy(to, entry.data(), entry.size());
    used += entry.size();
    decode_into(batch, {to, entry.size()}, place, at);
    return true;
  };
  const auto read = ledger::read_entries(source.name, 0, take);
  if (wanted)
    flush();
  if (!read)
    put_error(put, read.error().what());
}

class Reader {
 public:
  Reader(SourceSet& set, const ReadOptions& options) : set_(set), options_(options) {
    for (uint32_t i = 0; i < set_.sources.size(); ++i) {
      const Source& source = set_.sources[i];
      total_ += source.size;
      const uint64_t count = source.kind == SourceKind::Log ? segment_count(source.size) : 1;
      const bool shared = source.kind == SourceKind::Stream;
      for (uint64_t segment = 0; segment < count; ++segment)
        tasks_.push_back({.source = i, .segment = segment, .shared = shared});
      streams_.push_back(shared ? std::make_unique<SharedStream>(set_.sources[i]) : nullptr);
    }
  }

  Result<> run(const std::function<bool(Batch)>& each) {
    Handover handover(tasks_);
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < thread_count(); ++i) {
      threads.emplace_back([this, &handover] { work(handover); });
    }
    uint64_t done = 0;
    while (std::optional<Batch> batch = handover.take()) {
      done += batch->bytes;
      if (options_.progress)
        options_.progress(done, total_);
      if (!each(std::move(*batch)))
        break;
    }
    handover.stop();
    return {};
  }

 private:
  size_t thread_count() const {
    const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
    const auto helped = static_cast<size_t>(std::ranges::count(tasks_, true, &Task::shared));
    return std::min<size_t>(options_.threads != 0 ? options_.threads : cores,
                            tasks_.size() + helped);
  }

  void work(Handover& handover) {
    ReadBuffer buffer;
    while (const std::optional<size_t> task = handover.claim()) {
      do_task(handover, *task, buffer);
      handover.finish(*task);
    }
  }

  void do_task(Handover& handover, size_t number, ReadBuffer& buffer) {
    const Task& task = tasks_[number];
    const Source& source = set_.sources[task.source];
    if (source.kind == SourceKind::Stream)
      return read_stream(handover, number, buffer);
    if (source.kind == SourceKind::Ledger) {
      uint64_t turn = 0;
      return read_ledger(source, task.source, [&](Batch batch) {
        return handover.put(number, turn++, std::move(batch));
      });
    }
    const Segment segment =
        read_segment(source.fd.get(), source.name, source.size, task.segment, buffer);
    BlockPlace place = place_of(source, task.source);
    place.offset = segment.offset;
    place.last = segment.last;
    Batch batch = decode_block(segment.bytes, place);
    batch.bytes = kSegment;
    batch.damage.merge(segment.damage);
    handover.put(number, 0, std::move(batch));
  }

  void read_stream(Handover& handover, size_t number, ReadBuffer& buffer) {
    const uint32_t source = tasks_[number].source;
    BlockPlace place = place_of(set_.sources[source], source);
    while (const auto block = streams_[source]->next(buffer)) {
      place.offset = block->offset;
      place.last = block->last;
      Batch batch = decode_block(block->bytes, place);
      batch.damage.merge(block->damage);
      if (!handover.put(number, block->turn, std::move(batch)))
        return;
    }
  }

  SourceSet& set_;
  const ReadOptions& options_;
  std::vector<Task> tasks_;
  std::vector<std::unique_ptr<SharedStream>> streams_;  // of the sources that are streams
  uint64_t total_ = 0;
};

}  // namespace

Result<> read_sources(SourceSet& set, const ReadOptions& options,
                      const std::function<bool(Batch)>& each) {
  return Reader(set, options).run(each);
}

}  // namespace tenure::reader
