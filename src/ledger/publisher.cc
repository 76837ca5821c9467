// SPDX-License-Identifier: Apache-2.0
#include "ledger/publisher.h"

#include <fmt/format.h>

#include "ledger/archive.h"
#include "ledger/pending.h"
#include "ledger/tile.h"

namespace tenure::ledger {
namespace {

std::string parent_of(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == path.npos ? "" : path.substr(0, slash);
}

}  // namespace

Result<Publisher> Publisher::create(Storage& storage, const Signer& signer) {
  Publisher made(storage, signer);
  TRY_OK(made.write_checkpoint(made.tree_));
  return made;
}

Result<Publisher> Publisher::load(Storage& storage, const Signer& signer,
                                  const Checkpoint& checkpoint) {
  Publisher made(storage, signer);
  TRY(made.edge_, Edge::load(storage, checkpoint.size));
  made.tree_ = made.edge_.frontier();
  if (made.tree_.root() != checkpoint.root)
    return fail(Errc::Corrupt, "the tiles do not have the root of the checkpoint");
  uint64_t archived = archive_offset(checkpoint.origin, checkpoint.size / kArchiveStep);
  if (archived == 0)
    return made;
  TRY(std::unique_ptr<File> archive, storage.open(kArchivePath, OpenMode::Read));
  TRY(uint64_t size, archive->size());
  if (size < archived)
    return fail(Errc::Corrupt,
                fmt::format("{}: {} bytes, {} expected", kArchivePath, size, archived));
  return made;
}

Result<> Publisher::fold(const File& pending, uint64_t end, const Hash& root) {
  Edge edge = edge_;
  Frontier tree = tree_;
  std::string archive;
  auto write = [this](const TileRef& ref, std::string_view bytes) {
    return write_tile(ref, bytes);
  };
  TRY(FrameReader reader, FrameReader::begin(pending));
  while (tree.size() < end) {
    TRY(std::unique_ptr<Frame> frame, reader.next());
    if (!frame || frame->first != tree.size())
      return fail(Errc::Corrupt,
                  fmt::format("entry {} is gone from the pending file", tree.size()));
    for (std::string_view entry : frame->entries) {
      Hash leaf = leaf_hash(entry);
      tree.add(leaf);
      TRY_OK(edge.add(entry, leaf, write));
      if (tree.size() % kArchiveStep != 0)
        continue;
      TRY(std::string note,
          sign_checkpoint(*signer_, {signer_->verifier().name(), tree.size(), tree.root()}));
      archive += note;
    }
  }
  if (tree.size() != end || tree.root() != root)
    return fail(Errc::Corrupt, "the pending file was changed while the ledger was open");
  TRY_OK(edge.write_partials(tree_.size(), write));
  TRY_OK(sync_dirs());
  TRY_OK(write_archive(archive));
  TRY_OK(write_checkpoint(tree));
  uint64_t old_size = tree_.size();
  edge_ = std::move(edge);
  tree_ = std::move(tree);
  remove_replaced(old_size);
  return {};
}

Result<> Publisher::write_tile(const TileRef& ref, std::string_view bytes) {
  std::string path = tile_path(ref);
  TRY_OK(prepare_dirs(parent_of(path)));
  TRY_OK(write_whole(*storage_, path, bytes));
  unsynced_.insert(parent_of(path));
  return {};
}

// A folder that is there may have been made by a process that died before it was synced, so each is
// synced into its parent once by this process.
Result<> Publisher::prepare_dirs(const std::string& path) {
  if (path.empty() || known_dirs_.contains(path))
    return {};
  TRY_OK(prepare_dirs(parent_of(path)));
  TRY_OK(storage_->make_dir(path));
  unsynced_.insert(parent_of(path));
  known_dirs_.insert(path);
  return {};
}

Result<> Publisher::sync_dirs() {
  while (!unsynced_.empty()) {
    TRY_OK(storage_->sync_dir(*unsynced_.begin()));
    unsynced_.erase(unsynced_.begin());
  }
  return {};
}

// Written at its own place: what an interrupted publish left there is the same text.
Result<> Publisher::write_archive(const std::string& notes) {
  if (notes.empty())
    return {};
  uint64_t offset = archive_offset(signer_->verifier().name(), tree_.size() / kArchiveStep);
  TRY(std::unique_ptr<File> file, storage_->open(kArchivePath, OpenMode::Write));
  TRY_OK(file->write_at(offset, notes));
  TRY_OK(file->sync());
  return storage_->sync_dir("");
}

Result<> Publisher::write_checkpoint(const Frontier& tree) {
  TRY(std::string note,
      sign_checkpoint(*signer_, {signer_->verifier().name(), tree.size(), tree.root()}));
  TRY_OK(write_whole(*storage_, kCheckpointPath, note));
  return storage_->sync_dir("");
}

// tlog-tiles lets partial tiles go once the full one is there. A failure leaves files that are true
// and in nobody's way.
void Publisher::remove_partials(const TileRef& ref) {
  std::string dir = partial_dir(ref);
  auto names = storage_->list(dir);
  if (!names)
    return;
  for (const DirEntry& entry : *names) {
    if (!storage_->remove(dir + "/" + entry.name))
      return;
  }
  if (!storage_->remove(dir))
    return;
  known_dirs_.erase(dir);
}

void Publisher::remove_replaced(uint64_t old_size) {
  for (int level = kEntriesLevel; level == kEntriesLevel || nodes_at(published(), level) > 0;
       ++level) {
    uint64_t index = nodes_at(old_size, level) / kTileWidth;
    if (index < nodes_at(published(), level) / kTileWidth)
      remove_partials({level, index});
  }
}

}  // namespace tenure::ledger
