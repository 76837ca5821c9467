// SPDX-License-Identifier: Apache-2.0
// One of the two write-ahead files as the writer uses it: append a frame durably or leave it as it
// was, empty it once its entries are published, take it up again after a crash.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "ledger/pending.h"
#include "ledger/storage.h"

namespace tenure::ledger {

// Not thread-safe.
class PendingFile {
 public:
  // With the header, synced.
  static Result<PendingFile> create(Storage& storage, size_t which);
  static Result<PendingFile> open(Storage& storage, size_t which);

  // One write, one sync. After an error the file is as before; should even that fail, it is put
  // right before the next append.
  Result<> append(std::string_view frame);
  // Cuts off a frame that failed, if that is still to be done.
  Result<> mend();
  // Drops all frames, durably.
  Result<> clear();
  // Forgets what stands behind `offset`, durably.
  Result<> cut(uint64_t offset);
  Result<> sync() { return file_->sync(); }

  bool empty() const { return end_ == kPendingHeader.size() && clean_; }
  const File& file() const { return *file_; }
  uint64_t end() const { return end_; }  // offset behind the last good frame

 private:
  std::unique_ptr<File> file_;
  uint64_t end_ = 0;
  bool clean_ = true;  // nothing stands behind end_
};

}  // namespace tenure::ledger
