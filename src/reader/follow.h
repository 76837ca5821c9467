// SPDX-License-Identifier: Apache-2.0
// Goes on reading where a first reading ended: new lines of the newest log, also across its
// rotation, and new entries of a ledger, as soon as inotify(7) tells of them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "reader/files.h"
#include "reader/reading.h"

namespace tenure::reader {

// Made before the first reading, which uses up the descriptors of `set`.
class Follower {
 public:
  // Follows the logs that still grow and the ledgers of `set`; Unsupported if there are none.
  static Result<Follower> start(const SourceSet& set);

  // Where the first reading of the ledger `source` (an index of the set) ended.
  void ledger_read_up_to(uint32_t source, uint64_t next_index);

  // Waits up to `timeout_ms` (-1: without end) for something new and hands it out; Batches' events
  // have the source index of the set. False: nothing came. Errors only where following cannot go
  // on.
  Result<bool> poll(int timeout_ms, const std::function<void(const Batch&)>& each);

 private:
  struct Log {
    uint32_t source = 0;
    std::string path;
    UniqueFd fd;
    uint64_t offset = 0;  // of the first line that was not read
  };
  struct Ledger {
    uint32_t source = 0;
    std::string dir;
    uint64_t next = 0;
  };
  using Each = std::function<void(const Batch&)>;
  Result<> watch(const std::string& folder);
  bool read_log(Log& log, const Each& each);
  bool read_lines(Log& log, const Each& each);
  Result<bool> read_ledger(Ledger& ledger, const Each& each);
  Result<bool> read_all(const Each& each);

  UniqueFd inotify_;
  std::vector<Log> logs_;
  std::vector<Ledger> ledgers_;
};

}  // namespace tenure::reader
