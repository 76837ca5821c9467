// SPDX-License-Identifier: Apache-2.0
// Where the last `tenure log --cursor-file` ended, so that the next one goes on there. A log's
// place is inode and offset, which survive a rename; when the file is gone (compressed, removed),
// time and serial of the last record take over. A ledger's place is the index of its next entry.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "reader/batch.h"
#include "reader/files.h"

namespace tenure::reader {

class Cursor {
 public:
  // A file that does not exist is the beginning; Corrupt if it is not a cursor.
  static Result<Cursor> load(const std::string& path);
  // Atomically.
  Result<> store(const std::string& path) const;

  // Once, before reading: what the sources are.
  void attach(const SourceSet& set);
  // Whether the event was given out by an earlier call; and notes it as given out now.
  bool passed(const Event& event);

 private:
  struct LogPlace {
    uint64_t inode = 0;
    uint64_t offset = 0;  // of the last record's line
    int64_t time_ms = 0;
    uint64_t serial = 0;
  };
  struct SourceInfo {
    std::string name;
    uint64_t inode = 0;
    bool ledger = false;
  };
  bool is_at(int fd) const;
  bool log_passed(const Event& event) const;

  std::optional<LogPlace> log_;              // where the earlier call ended
  std::optional<LogPlace> newest_;           // where this one is
  std::map<std::string, uint64_t> ledgers_;  // folder -> next index
  std::vector<SourceInfo> sources_;
  std::optional<size_t> at_source_;  // the source that log_ is in
};

}  // namespace tenure::reader
