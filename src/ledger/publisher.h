// SPDX-License-Identifier: Apache-2.0
// Turns pending entries into tiles, bundles and a signed checkpoint. Each step is durable before
// the next one relies on it, so at every instant the checkpoint on disk covers only what is there.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "ledger/edge.h"
#include "ledger/hash.h"
#include "ledger/note.h"
#include "ledger/storage.h"

namespace tenure::ledger {

inline constexpr char kCheckpointPath[] = "checkpoint";

// Not thread-safe: its owner lets one thread publish at a time.
class Publisher {
 public:
  // For a new ledger: writes the checkpoint of the empty tree.
  static Result<Publisher> create(Storage& storage, const Signer& signer);
  // Reads the edge of the published tree and checks it against `checkpoint`; Corrupt if it differs.
  static Result<Publisher> load(Storage& storage, const Signer& signer,
                                const Checkpoint& checkpoint);

  // Publishes the entries of `pending` from published() up to `end`, where the tree must have
  // `root`. After an error nothing has changed and it can be called again.
  Result<> fold(const File& pending, uint64_t end, const Hash& root);

  uint64_t published() const { return tree_.size(); }
  const Frontier& tree() const { return tree_; }

 private:
  Publisher(Storage& storage, const Signer& signer) : storage_(&storage), signer_(&signer) {}

  Result<> write_tile(const TileRef& ref, std::string_view bytes);
  Result<> prepare_dirs(const std::string& path);
  Result<> sync_dirs();
  Result<> write_archive(const std::string& notes);
  Result<> write_checkpoint(const Frontier& tree);
  void remove_partials(const TileRef& ref);
  void remove_replaced(uint64_t old_size);

  Storage* storage_;
  const Signer* signer_;
  Edge edge_;
  Frontier tree_;
  std::set<std::string> known_dirs_;  // made and synced into their parents by this process
  std::set<std::string> unsynced_;    // folders with new names in them
};

}  // namespace tenure::ledger
