// SPDX-License-Identifier: Apache-2.0
#include "reader/pipeline.h"

#include <sys/wait.h>

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "ledger/ledger.h"
#include "reader/byte_stream.h"
#include "reader/scan.h"
#include "reader/segment.h"

namespace tenure::reader {
namespace {

constexpr size_t kBlock = kSegment;       // of a stream
constexpr size_t kLedgerArena = 1 << 18;  // bytes of entries in one batch
constexpr size_t kTasksAhead = 8;         // how far reading may run ahead of understanding
constexpr size_t kBatchesAhead = 8;       // of one stream

// A segment of a plain file, or a whole source of another kind.
struct Task {
  uint32_t source = 0;
  uint64_t segment = 0;
};

// What the threads have read, handed over in the order of the tasks.
class Handover {
 public:
  explicit Handover(size_t tasks) : slots_(tasks) {}

  // Next task for a worker; nullopt at the end. Waits while the workers are too far ahead.
  std::optional<size_t> claim() {
    std::unique_lock lock(mutex_);
    moved_.wait(lock,
                [&] { return stopped_ || next_ >= slots_.size() || next_ < taken_ + kTasksAhead; });
    if (stopped_ || next_ >= slots_.size())
      return std::nullopt;
    return next_++;
  }

  // False if nobody wants more. A stream that is ahead of its turn waits here.
  bool put(size_t task, Batch batch) {
    std::unique_lock lock(mutex_);
    Slot& slot = slots_[task];
    moved_.wait(lock, [&] { return stopped_ || slot.batches.size() < kBatchesAhead; });
    if (stopped_)
      return false;
    slot.batches.push_back(std::move(batch));
    if (task == taken_)
      ready_.notify_one();
    return true;
  }

  void finish(size_t task) {
    const std::scoped_lock lock(mutex_);
    slots_[task].done = true;
    if (task == taken_)
      ready_.notify_one();
  }

  // The next batch in order; nullopt when all are given out.
  std::optional<Batch> take() {
    std::unique_lock lock(mutex_);
    while (taken_ < slots_.size()) {
      Slot& slot = slots_[taken_];
      ready_.wait(lock, [&] { return !slot.batches.empty() || slot.done; });
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
    bool done = false;
  };
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

// The end of the last whole line in `block`; its size where what follows is longer than any record,
// so that at most kMaxLine bytes are carried on.
size_t whole_lines(std::string_view block, DamageLog& damage, std::string_view name) {
  const size_t newline = block.rfind('\n');
  const size_t end = newline == std::string_view::npos ? 0 : newline + 1;
  if (block.size() - end <= kMaxLine)
    return end;
  damage.add(DamageKind::NoLineEnd, std::string(name));
  return block.size();
}

void read_stream(Source& source, uint32_t index, ReadBuffer& buffer, const Put& put) {
  auto stream = open_content(fd_stream(std::move(source.fd), source.name), source.name);
  if (!stream)
    return put_error(put, stream.error().what());
  BlockPlace place = place_of(source, index);
  char* const read_to = buffer.data() + kMaxLine;  // aligned; the line begun stands in front of it
  size_t carried = 0;
  for (bool more = true; more;) {
    // What is there is passed on at once: a slow pipe's records must not wait for a full block.
    const auto got = (*stream)->read(read_to, kBlock);
    more = got && *got > 0;
    const std::string_view block(read_to - carried, carried + (more ? *got : 0));
    DamageLog damage;
    if (!got)
      damage.add(DamageKind::ReadError, got.error().what());
    place.last = !more;
    const size_t end = more ? whole_lines(block, damage, source.name) : block.size();
    Batch batch = decode_block(block.substr(0, end), place);
    batch.damage.merge(damage);
    if (!put(std::move(batch)))
      return;
    carried = block.size() - end;
    std::memmove(read_to - carried, block.data() + end, carried);
    place.offset += end;
  }
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

// Ends with the journalctl that fed the stream; its failure is a read error.
void reap(const Source& source, const Put& put) {
  if (source.pid == 0)
    return;
  int status = 0;
  while (::waitpid(source.pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0)
    put_error(put, "journalctl failed: its message stands above");
}

class Reader {
 public:
  Reader(SourceSet& set, const ReadOptions& options) : set_(set), options_(options) {
    for (uint32_t i = 0; i < set_.sources.size(); ++i) {
      const Source& source = set_.sources[i];
      total_ += source.size;
      const uint64_t count = source.kind == SourceKind::Log ? segment_count(source.size) : 1;
      for (uint64_t segment = 0; segment < count; ++segment) tasks_.push_back({i, segment});
    }
  }

  Result<> run(const std::function<bool(Batch)>& each) {
    Handover handover(tasks_.size());
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
    return std::min<size_t>(options_.threads != 0 ? options_.threads : cores, tasks_.size());
  }

  void work(Handover& handover) {
    ReadBuffer buffer;
    while (const std::optional<size_t> task = handover.claim()) {
      const Put put = [&](Batch batch) { return handover.put(*task, std::move(batch)); };
      do_task(tasks_[*task], buffer, put);
      handover.finish(*task);
    }
  }

  void do_task(const Task& task, ReadBuffer& buffer, const Put& put) {
    Source& source = set_.sources[task.source];
    if (source.kind == SourceKind::Ledger)
      return read_ledger(source, task.source, put);
    if (source.kind == SourceKind::Stream) {
      read_stream(source, task.source, buffer, put);
      return reap(source, put);
    }
    const Segment segment =
        read_segment(source.fd.get(), source.name, source.size, task.segment, buffer);
    BlockPlace place = place_of(source, task.source);
    place.offset = segment.offset;
    place.last = segment.last;
    Batch batch = decode_block(segment.bytes, place);
    batch.bytes = kSegment;
    batch.damage.merge(segment.damage);
    put(std::move(batch));
  }

  SourceSet& set_;
  const ReadOptions& options_;
  std::vector<Task> tasks_;
  uint64_t total_ = 0;
};

}  // namespace

Result<> read_sources(SourceSet& set, const ReadOptions& options,
                      const std::function<bool(Batch)>& each) {
  return Reader(set, options).run(each);
}

}  // namespace tenure::reader
