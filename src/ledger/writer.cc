// SPDX-License-Identifier: Apache-2.0
// Group commit: callers queue; the first of them becomes the leader, takes all that wait, writes
// one frame, syncs once and wakes the others. The leader's role also guards the pending files and
// the frontier; publishing takes it only to swap the two files, so appends go on while tiles are
// written.
#include "ledger/writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>

#include "ledger/archive.h"
#include "ledger/pending_file.h"
#include "ledger/publisher.h"
#include "ledger/tile.h"

namespace tenure::ledger {
namespace {

struct Request {
  const std::vector<std::string>* entries;
  size_t bytes = 0;  // in a bundle
  bool done = false;
  Result<uint64_t> first = uint64_t{0};
};

// What open_on() has found and mended.
struct Opened {
  std::vector<PendingFile> files;  // [0] the older (being folded), [1] takes appends
  Frontier tree;                   // of all durable entries
  Frontier older_tree;             // of those in files[0] and below
  uint64_t torn_bytes = 0;
};

class Writer final : public Ledger {
 public:
  Writer(std::unique_ptr<Storage> storage, std::unique_ptr<Signer> signer, Publisher publisher,
         Opened opened)
      : storage_(std::move(storage)),
        signer_(std::move(signer)),
        older_(std::move(opened.files[0])),
        active_(std::move(opened.files[1])),
        tree_(std::move(opened.tree)),
        torn_bytes_(opened.torn_bytes),
        publisher_(std::move(publisher)),
        older_tree_(std::move(opened.older_tree)),
        size_(tree_.size()),
        published_(publisher_.published()) {}

  Result<uint64_t> append(const std::vector<std::string>& entries) override;
  Result<> publish() override;
  uint64_t size() const override { return size_; }
  uint64_t published() const override { return published_; }
  uint64_t torn_bytes() const override { return torn_bytes_; }

 private:
  void lead(std::unique_lock<std::mutex>& lock);
  std::vector<Request*> take_batch();
  Result<uint64_t> commit(const std::vector<Request*>& batch);
  Result<> swap_files();
  Result<> fold_older();

  std::unique_ptr<Storage> storage_;  // publisher_ points to it and to the signer
  std::unique_ptr<Signer> signer_;

  std::mutex mutex_;  // queue_, leading_
  std::condition_variable changed_;
  std::deque<Request*> queue_;
  bool leading_ = false;  // somebody has the leader's role

  // Of whoever has the leader's role. older_ is read by the publisher without it: nobody writes
  // there.
  PendingFile older_;
  PendingFile active_;
  Frontier tree_;
  uint64_t torn_bytes_;

  std::mutex publishing_;  // publisher_, older_tree_, emptying older_
  Publisher publisher_;
  Frontier older_tree_;

  std::atomic<uint64_t> size_;
  std::atomic<uint64_t> published_;
};

Result<size_t> bundle_bytes(const std::vector<std::string>& entries) {
  size_t bytes = 0;
  for (const std::string& entry : entries) {
    if (entry.size() > kMaxEntry)
      return fail(Errc::Invalid,
                  fmt::format("append: entry of {} bytes, at most {}", entry.size(), kMaxEntry));
    bytes += 2 + entry.size();
  }
  if (bytes > kMaxFrame - kFrameOverhead)
    return fail(Errc::Invalid, fmt::format("append: {} bytes at once, at most {}: append in parts",
                                           bytes, kMaxFrame - kFrameOverhead));
  return bytes;
}

Result<uint64_t> Writer::append(const std::vector<std::string>& entries) {
  Request request{.entries = &entries};
  TRY(request.bytes, bundle_bytes(entries));
  if (entries.empty())
    return size();
  std::unique_lock lock(mutex_);
  queue_.push_back(&request);
  // More than once only if the queue holds more than a frame does.
  while (!request.done) {
    changed_.wait(lock, [&] { return request.done || !leading_; });
    if (!request.done)
      lead(lock);
  }
  return request.first;
}

// Commits the front of the queue for everybody; `lock` is given up meanwhile.
void Writer::lead(std::unique_lock<std::mutex>& lock) {
  leading_ = true;
  std::vector<Request*> batch = take_batch();
  lock.unlock();
  Result<uint64_t> first = commit(batch);
  lock.lock();
  for (Request* member : batch) {
    member->first = first;
    member->done = true;
    if (first)
      *first += member->entries->size();
  }
  leading_ = false;
  changed_.notify_all();
}

// From the front of the queue, as much as a frame holds; at least one.
std::vector<Request*> Writer::take_batch() {
  std::vector<Request*> batch;
  size_t bytes = kFrameOverhead;
  while (!queue_.empty() && (batch.empty() || bytes + queue_.front()->bytes <= kMaxFrame)) {
    bytes += queue_.front()->bytes;
    batch.push_back(queue_.front());
    queue_.pop_front();
  }
  return batch;
}

// The index of the batch's first entry. The tree takes the entries only when they are durable.
Result<uint64_t> Writer::commit(const std::vector<Request*>& batch) {
  Frontier tree = tree_;
  uint64_t first = tree.size();
  std::string payload;
  for (const Request* request : batch) {
    for (const std::string& entry : *request->entries) {
      add_to_bundle(payload, entry);
      tree.add(leaf_hash(entry));
    }
  }
  TRY(std::string signature,
      signer_->sign(frame_text(signer_->verifier().name(), tree.size(), tree.root())));
  uint32_t count = static_cast<uint32_t>(tree.size() - first);
  auto written = active_.append(encode_frame(first, count, payload, signature));
  if (!written)
    return std::unexpected(std::move(written).error().context("append to the ledger"));
  tree_ = std::move(tree);
  size_ = tree_.size();
  return first;
}

Result<> Writer::publish() {
  std::lock_guard one_at_a_time(publishing_);
  if (older_.empty() && published_ == size_)
    return {};
  if (!older_.empty()) {  // of an interrupted publish
    TRY_OK(fold_older());
  }
  TRY_OK(swap_files());
  if (older_.empty())
    return {};
  return fold_older();
}

// Needs an empty older_ and publishing_. A frame that failed must be off the file first: behind it,
// its indices will be given to others.
Result<> Writer::swap_files() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !leading_; });
  auto mended = active_.mend();
  if (mended) {
    std::swap(older_, active_);
    older_tree_ = tree_;
  }
  lock.unlock();
  changed_.notify_all();
  return mended;
}

Result<> Writer::fold_older() {
  auto published = [&]() -> Result<> {
    if (publisher_.published() < older_tree_.size()) {
      TRY_OK(publisher_.fold(older_.file(), older_tree_.size(), older_tree_.root()));
    }
    published_ = publisher_.published();
    return older_.clear();
  }();
  if (!published)
    return std::unexpected(std::move(published).error().context("publish the ledger"));
  return {};
}

// A folder in which no ledger was ever finished: no checkpoint, and nothing that one would cover.
Result<> check_nothing_there(const Storage& storage) {
  auto gone = [](std::string_view what) {
    return fail(
        Errc::Corrupt,
        fmt::format("the checkpoint is gone, but {} is there: restore it from a copy", what));
  };
  TRY(std::vector<DirEntry> names, storage.list(""));
  for (const DirEntry& entry : names) {
    if (entry.name == "tile" || entry.name == kArchivePath)
      return gone(entry.name);
    if (!entry.name.starts_with("pending."))
      continue;
    TRY(std::unique_ptr<File> file, storage.open(entry.name, OpenMode::Read));
    TRY(uint64_t size, file->size());
    if (size > kPendingHeader.size())
      return gone(entry.name);
  }
  return {};
}

Result<Opened> create_files(Storage& storage) {
  TRY_OK(check_nothing_there(storage));
  Opened opened;
  for (size_t which = 0; which < kPendingFiles; ++which) {
    TRY(PendingFile file, PendingFile::create(storage, which));
    opened.files.push_back(std::move(file));
  }
  return opened;
}

// The frames of one pending file, brought into the tree. `published` is the published size.
struct Recovered {
  uint64_t entries = 0;  // that are not published
  uint64_t first = 0;    // index of the first of them
  uint64_t good = 0;     // offset behind the last whole frame
  uint64_t torn = 0;     // bytes behind it
  std::unique_ptr<Frame> last;
};

// A walk over a file's frames; with a tree, also adds their entries to it.
Result<Recovered> scan(const File& file, uint64_t published, Frontier* tree) {
  Recovered found;
  TRY(FrameReader reader, FrameReader::begin(file));
  for (;;) {
    TRY(std::unique_ptr<Frame> frame, reader.next());
    if (!frame)
      break;
    if (frame->end() <= published)
      continue;  // emptying was interrupted
    uint64_t expected = found.entries > 0 ? found.first + found.entries : frame->first;
    if (frame->first < published || frame->first != expected)
      return fail(Errc::Corrupt, fmt::format("entry {} stands where entry {} should", frame->first,
                                             std::max(expected, published)));
    if (found.entries == 0)
      found.first = frame->first;
    found.entries += frame->entries.size();
    if (tree == nullptr)
      continue;
    if (frame->first != tree->size())
      return fail(Errc::Corrupt,
                  fmt::format("pending entries {} to {} are gone", tree->size(), frame->first - 1));
    for (std::string_view entry : frame->entries) tree->add(leaf_hash(entry));
    found.last = std::move(frame);
  }
  found.good = reader.offset();
  found.torn = reader.torn();
  return found;
}

// The last frame's signature covers the root, and so every entry before it.
Result<> check_signature(const Verifier& key, const Frontier& tree, const Recovered& found) {
  if (!found.last)
    return {};
  if (key.verify(frame_text(key.name(), tree.size(), tree.root()), found.last->signature))
    return {};
  return fail(Errc::Corrupt, fmt::format("pending entries {} to {} are not what was signed",
                                         found.first, found.last->end() - 1));
}

// Takes up one file: frames into the tree, torn or published ones off the file.
Result<> take_up(PendingFile& file, bool newest, const Verifier& key, uint64_t published,
                 Opened& opened) {
  TRY(Recovered found, scan(file.file(), published, &opened.tree));
  TRY_OK(check_signature(key, opened.tree, found));
  if (found.torn > 0 && !newest)
    return fail(
        Errc::Corrupt,
        fmt::format("entry {} is damaged in a pending file that was complete", opened.tree.size()));
  opened.torn_bytes += found.torn;
  if (found.good < kPendingHeader.size())
    return fail(Errc::Corrupt, "a pending file has lost its first line");
  // Also when nothing is torn: what a killed process wrote may not be on the disk yet.
  return file.cut(found.entries == 0 ? kPendingHeader.size() : found.good);
}

Result<Opened> recover_files(Storage& storage, const Verifier& key, const Frontier& published) {
  // The checkpoint may be in the cache only, and cutting published frames relies on it.
  TRY_OK(storage.sync_dir(""));
  Opened opened;
  opened.tree = published;
  std::vector<Recovered> found;
  for (size_t which = 0; which < kPendingFiles; ++which) {
    TRY(PendingFile file, PendingFile::open(storage, which));
    TRY(Recovered seen, scan(file.file(), published.size(), nullptr));
    opened.files.push_back(std::move(file));
    found.push_back(std::move(seen));
  }
  // files[0] becomes the older one. A file without frames is the newer one, if only for its torn
  // tail.
  bool swapped = found[1].entries > 0 && (found[0].entries == 0 || found[1].first < found[0].first);
  if (swapped)
    std::swap(opened.files[0], opened.files[1]);
  bool newest_is_empty = found[swapped ? 0 : 1].entries == 0 && found[swapped ? 0 : 1].torn == 0;
  TRY_OK(take_up(opened.files[0], newest_is_empty, key, published.size(), opened));
  opened.older_tree = opened.tree;
  TRY_OK(take_up(opened.files[1], true, key, published.size(), opened));
  // With one file in use, it goes on taking appends.
  if (newest_is_empty)
    std::swap(opened.files[0], opened.files[1]);
  return opened;
}

}  // namespace

Result<std::unique_ptr<Ledger>> open_on(std::unique_ptr<Storage> storage, Signer signer,
                                        bool may_create) {
  auto key = std::make_unique<Signer>(std::move(signer));
  auto note = read_whole(*storage, kCheckpointPath, kMaxNote);
  if (!note && note.error().code() != Errc::NotFound)
    return std::unexpected(std::move(note).error());
  if (!note && !may_create)
    return fail(Errc::Corrupt,
                "the ledger is gone, though its key is there: restore it from a copy, or "
                "move the key away to begin a new one");
  if (!note) {
    TRY(Opened opened, create_files(*storage));
    TRY(Publisher publisher, Publisher::create(*storage, *key));
    return std::make_unique<Writer>(std::move(storage), std::move(key), std::move(publisher),
                                    std::move(opened));
  }
  TRY(Checkpoint checkpoint, open_checkpoint(key->verifier(), *note));
  TRY(Publisher publisher, Publisher::load(*storage, *key, checkpoint));
  TRY(Opened opened, recover_files(*storage, key->verifier(), publisher.tree()));
  return std::make_unique<Writer>(std::move(storage), std::move(key), std::move(publisher),
                                  std::move(opened));
}

}  // namespace tenure::ledger
