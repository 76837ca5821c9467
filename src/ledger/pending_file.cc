// SPDX-License-Identifier: Apache-2.0
#include "ledger/pending_file.h"

namespace tenure::ledger {

Result<PendingFile> PendingFile::create(Storage& storage, size_t which) {
  PendingFile made;
  TRY(made.file_, storage.open(pending_path(which), OpenMode::Create));
  TRY_OK(made.file_->write_at(0, kPendingHeader));
  TRY_OK(made.file_->sync());
  made.end_ = kPendingHeader.size();
  return made;
}

Result<PendingFile> PendingFile::open(Storage& storage, size_t which) {
  PendingFile opened;
  // Read first: opening for writing would make a missing file, and hide that it is missing.
  TRY_OK(storage.open(pending_path(which), OpenMode::Read));
  TRY(opened.file_, storage.open(pending_path(which), OpenMode::Write));
  TRY(opened.end_, opened.file_->size());
  return opened;
}

// fsync(2): after a failed sync the kernel may have marked the pages clean, so syncing again proves
// nothing. The frame is cut off, and a later one is written anew in its place.
Result<> PendingFile::append(std::string_view frame) {
  TRY_OK(mend());
  auto done = file_->write_at(end_, frame);
  if (done)
    done = file_->sync();
  if (done) {
    end_ += frame.size();
    return {};
  }
  clean_ = false;
  std::ignore = cut(end_);  // else the next append will
  return done;
}

Result<> PendingFile::mend() {
  if (clean_)
    return {};
  return cut(end_);
}

Result<> PendingFile::clear() {
  return cut(kPendingHeader.size());
}

Result<> PendingFile::cut(uint64_t offset) {
  clean_ = false;
  end_ = offset;
  TRY_OK(file_->truncate(offset));
  TRY_OK(file_->sync());
  clean_ = true;
  return {};
}

}  // namespace tenure::ledger
