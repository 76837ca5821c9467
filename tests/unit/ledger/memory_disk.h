// SPDX-License-Identifier: Apache-2.0
// A storage in memory that remembers what is durable and what is not. It can refuse any write (full
// disk, I/O error), stop the world after any operation, and then show the disks that a power cut at
// that point may have left.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "ledger/storage.h"

namespace tenure::ledger {

// Content by path: what a disk holds, and the input of every verification test.
struct Image {
  std::map<std::string, std::string> files;
  std::map<std::string, bool> dirs;  // true: made
};

enum class OpKind : uint8_t { Write, Truncate, SyncFile, Link, Rename, Remove, MakeDir, SyncDir };

struct Op {
  OpKind kind;
  std::string path;     // of the name, at the time of the call
  uint64_t inode = 0;   // Write, Truncate, SyncFile, Link
  uint64_t offset = 0;  // Write: where; Truncate: the new size
  std::string bytes;    // Write: what; Rename: the new name
};

// Everything that was done to the disk, in order. Shared by the storages on it.
class MemoryDisk {
 public:
  MemoryDisk() = default;
  explicit MemoryDisk(const Image& image);

  // Storage on this disk; the disk must live longer.
  std::unique_ptr<Storage> storage();

  // Asked before each changing operation with its number; an errno refuses it. For a Write,
  // `short_by` may be set to let only a part of the bytes through.
  std::function<int(uint64_t number, const Op& op)> fault;

  Image image() const;  // what processes see now
  const std::vector<Op>& ops() const { return ops_; }
  uint64_t count(OpKind kind) const;
  bool record = true;  // keep ops (off for speed)

  // A disk after a power cut when all of `ops` had been issued: what was synced is there, of the
  // rest an arbitrary part, writes also torn and out of order.
  static Image after_power_cut(const Image& start, const std::vector<Op>& ops,
                               std::mt19937& random);

 private:
  friend class MemoryStorage;
  friend class MemoryFile;
  struct State {
    std::map<std::string, uint64_t> names;    // path -> inode
    std::map<uint64_t, std::string> content;  // inode -> bytes
    std::map<std::string, bool> dirs;
  };
  int run(Op op);  // applies it, or the errno
  static void apply(State& state, const Op& op);

  mutable std::mutex mutex_;
  State state_;
  uint64_t next_inode_ = 1;
  uint64_t number_ = 0;
  std::vector<Op> ops_;
};

}  // namespace tenure::ledger
