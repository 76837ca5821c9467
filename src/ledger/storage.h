// SPDX-License-Identifier: Apache-2.0
// The ledger's file-system seam: the few calls it makes below its folder, so that tests can record
// the write pattern, cut the power at any point, fill the disk, or hold a ledger in memory. Paths
// are relative, without "." and "..". Errors carry the errno. The real one is thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace tenure::ledger {

class File {
 public:
  virtual ~File() = default;
  // Up to `size` bytes; fewer only at the end of the file.
  virtual Result<std::string> read_at(uint64_t offset, size_t size) const = 0;
  virtual Result<> write_at(uint64_t offset, std::string_view bytes) = 0;
  virtual Result<> truncate(uint64_t size) = 0;
  // fdatasync(2): content and size are durable when it returns.
  virtual Result<> sync() = 0;
  virtual Result<uint64_t> size() const = 0;
};

enum class OpenMode : uint8_t {
  Read,
  Write,   // made if missing, content kept
  Create,  // made if missing, emptied
};

struct DirEntry {
  std::string name;
  bool is_dir = false;
};

class Storage {
 public:
  virtual ~Storage() = default;
  virtual Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) const = 0;
  virtual Result<> rename(const std::string& from, const std::string& to) = 0;
  virtual Result<> remove(const std::string& path) = 0;    // a file or an empty folder
  virtual Result<> make_dir(const std::string& path) = 0;  // no error if it is there
  virtual Result<> sync_dir(const std::string& path) = 0;  // "" is the top
  virtual Result<std::vector<DirEntry>> list(const std::string& path) const = 0;  // unordered
};

// The folder `dir`, which must exist. Symbolic links below it are not followed.
Result<std::unique_ptr<Storage>> open_storage(const std::string& dir);

// The whole file; Corrupt if it is larger than `max_bytes`.
Result<std::string> read_whole(const Storage& storage, const std::string& path, size_t max_bytes);
// Written beside, synced and renamed, so that the name always has the whole content. The folder is
// left for the caller to sync.
Result<> write_whole(Storage& storage, const std::string& path, std::string_view bytes);

}  // namespace tenure::ledger
