// SPDX-License-Identifier: Apache-2.0
#include "ledger/torn.h"

#include <fmt/format.h>

#include "ledger/note.h"
#include "ledger/pending.h"
#include "ledger/publisher.h"

namespace tenure::ledger {

std::string TornEnd::text() const {
  return fmt::format("{} bytes at offset {} are no whole frame", bytes, offset);
}

bool can_be_unfinished(const TornEnd& end, const std::vector<TornEnd>& all,
                       const std::string& newest) {
  if (all.size() > 1 || end.frame_follows)
    return false;
  return !end.has_frames || end.where == newest;
}

std::string stamp_of(const Storage& storage) {
  std::string stamp = read_whole(storage, kCheckpointPath, kMaxNote).value_or("");
  for (size_t which = 0; which < kPendingFiles; ++which) {
    auto file = storage.open(pending_path(which), OpenMode::Read);
    auto size = file ? (*file)->size() : Result<uint64_t>(0);
    stamp += fmt::format(" {}", size.value_or(0));
  }
  return stamp;
}

}  // namespace tenure::ledger
