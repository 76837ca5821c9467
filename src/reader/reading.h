// SPDX-License-Identifier: Apache-2.0
// Everything that the sources tell, understood: tenures and runs, guesses, gaps, damage. What the
// commands who, history and report answer from.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/result.h"
#include "model/tenure_book.h"
#include "reader/files.h"
#include "reader/gaps.h"
#include "reader/guess.h"
#include "reader/pipeline.h"

namespace tenure::reader {

// Records that are both in the ledger and in audit.log are one event. The kernel wrote both texts,
// so time, serial and body are equal.
class SeenInLedger {
 public:
  void add(const Event& event);
  bool contains(const Event& event) const;

 private:
  struct Id {
    int64_t time_ms;
    uint64_t serial;
    size_t body;  // hash
    bool operator==(const Id&) const = default;
  };
  struct Hash {
    size_t operator()(const Id& id) const {
      return static_cast<size_t>(id.time_ms) * 0x9E3779B97F4A7C15U ^ id.serial ^ id.body;
    }
  };
  static Id id_of(const Event& event);
  std::unordered_set<Id, Hash> ids_;
};

// One ordered stream: all logs together, or one ledger.
struct Stream {
  std::string name;
  bool ledger = false;
  model::TenureBook book;
  std::unordered_map<uint64_t, Guess> guesses;  // by Position::order
  uint64_t last_order = 0;
};

// The text of a record, for evidence.
struct KeptLine {
  size_t stream = 0;  // index in Reading::streams
  uint64_t order = 0;
  std::string_view text;
};

struct Reading {
  std::deque<Stream> streams;
  std::vector<Gap> gaps;
  DamageLog damage;
  std::vector<Error> problems;       // sources that could not be opened
  std::vector<KeptLine> kept_lines;  // with keep_lines: all records, in order
  std::vector<Batch> kept;           // … and what they are views into
  uint64_t events = 0;

  // Whether an answer about that time may lack something: the reasons, one line each.
  std::vector<std::string> doubts(const TimeRange& range) const;
};

struct ReadingOptions {
  ReadOptions read;
  bool keep_lines = false;
  std::string node;  // only records of this host; "" for all
  // Called with each event after it was understood, in the order of the streams.
  std::function<void(const Event&, const Stream&, uint64_t order)> each;
};

// Ledgers are read before logs, so that what stands in both is counted once.
Result<Reading> read_everything(SourceSet set, const ReadingOptions& options);

}  // namespace tenure::reader
