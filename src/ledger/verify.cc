// SPDX-License-Identifier: Apache-2.0
// One walk over all entries in order rebuilds the tree; everything else on disk is compared with it
// as the walk passes by: hash tiles, partial tiles, kept checkpoints, pending frames, the
// checkpoint.
#include "ledger/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/text.h"
#include "ledger/archive.h"
#include "ledger/ledger.h"
#include "ledger/listing.h"
#include "ledger/note.h"
#include "ledger/pending.h"
#include "ledger/publisher.h"
#include "ledger/tile.h"
#include "ledger/torn.h"

namespace tenure::ledger {
namespace {

constexpr int kMaxOvertaken = 8;                         // looks at a ledger that keeps changing
constexpr size_t kMaxArchive = size_t{1} << 32;          // bytes
constexpr uint64_t kMaxPendingKept = uint64_t{1} << 30;  // bytes of frames held in memory

struct Expectation {  // a root that the tree must have when it has a certain size
  std::string where;
  Hash root;
};

struct KeptFrame {
  std::string where;
  std::unique_ptr<Frame> frame;
};

class Check {
 public:
  Check(const Storage& storage, const VerifyOptions& options, Verifier key)
      : storage_(storage), options_(options), key_(std::move(key)) {
    report_.origin = key_.name();
  }

  VerifyReport run();

 private:
  void problem(std::string where, std::optional<uint64_t> entry, std::string what);
  void suspect(std::string where, uint64_t from, std::string what);

  bool read_checkpoint();
  void read_pending();
  void read_pending_file(size_t which);
  void judge_torn();
  void read_archive();
  void read_archived(uint64_t number, std::string_view note);
  void read_known();
  void list();

  void walk();
  bool walk_published();
  void walk_pending();
  void take(std::string_view entry);
  void pass_size();
  void compare_with_frame(uint64_t index, std::string_view entry);
  void finish_level(size_t level, uint64_t index);
  void finish_bundle(uint64_t index);
  void compare_files(int level, uint64_t index, std::string_view bytes, size_t width);
  void compare_file(const TileRef& ref, std::string_view expected);
  void require(int level, uint64_t index, size_t width);
  size_t length_of(int level, size_t width) const;
  void finish();

  const Storage& storage_;
  const VerifyOptions& options_;
  Verifier key_;
  VerifyReport report_;
  std::optional<uint64_t> suspected_;  // the first bad entry is not below it

  std::vector<TornEnd> torn_;      // ends of pending files that are no frames
  std::vector<KeptFrame> frames_;  // by first index
  size_t frame_ = 0;               // the one that the walk has reached
  std::map<uint64_t, std::vector<Expectation>> expected_;
  std::set<TileRef> files_;  // of tile/, not yet compared

  Frontier tree_;
  uint64_t vouched_ = 0;  // the last size below the walk for which a root was signed
  std::vector<std::vector<Hash>> levels_;  // of the tiles the walk is in
  std::string bundle_;                     // of the bundle the walk is in
  std::vector<size_t> bundle_ends_;        // behind each of its entries
};

VerifyReport Check::run() {
  if (!read_checkpoint())
    return std::move(report_);
  read_pending();
  read_archive();
  read_known();
  list();
  walk();
  if (!report_.first_bad_entry)
    report_.first_bad_entry = suspected_;
  return std::move(report_);
}

void Check::problem(std::string where, std::optional<uint64_t> entry, std::string what) {
  ++report_.problem_count;
  if (entry)
    report_.first_bad_entry = std::min(*entry, report_.first_bad_entry.value_or(*entry));
  if (report_.problems.size() < VerifyReport::kMaxProblems)
    report_.problems.push_back({std::move(where), entry, std::move(what)});
}

// A hash over many entries is wrong: some entry from `from` on, unless another problem says which.
void Check::suspect(std::string where, uint64_t from, std::string what) {
  suspected_ = std::min(from, suspected_.value_or(from));
  std::optional<uint64_t> known = report_.first_bad_entry;
  problem(std::move(where), from, std::move(what));
  report_.first_bad_entry = known;
}

bool Check::read_checkpoint() {
  auto note = read_whole(storage_, kCheckpointPath, kMaxNote);
  if (!note) {
    problem(kCheckpointPath, std::nullopt, note.error().what());
    return false;
  }
  auto checkpoint = open_checkpoint(key_, *note);
  if (checkpoint) {
    ++report_.checkpoints;
    expected_[checkpoint->size].push_back({kCheckpointPath, checkpoint->root});
  } else {
    problem(kCheckpointPath, std::nullopt, checkpoint.error().what());
    checkpoint = peek_checkpoint(*note);  // to say more about the rest
    if (!checkpoint)
      return false;
  }
  report_.published = checkpoint->size;
  report_.size = checkpoint->size;
  return true;
}

void Check::read_pending() {
  for (size_t which = 0; which < kPendingFiles; ++which) read_pending_file(which);
  std::sort(frames_.begin(), frames_.end(),
            [](const KeptFrame& a, const KeptFrame& b) { return a.frame->first < b.frame->first; });
  judge_torn();
  for (size_t i = 0; i < frames_.size(); ++i) {
    const Frame& frame = *frames_[i].frame;
    if (i > 0 && frame.first != frames_[i - 1].frame->end())
      problem(frames_[i].where, frame.first,
              fmt::format("begins with entry {}, but the frame before it ends with entry {}",
                          frame.first, frames_[i - 1].frame->end() - 1));
    if (frame.first < report_.published && frame.end() > report_.published)
      problem(frames_[i].where, frame.first, "a frame is published in part");
  }
  if (frames_.empty() || frames_.back().frame->end() <= report_.published)
    return;
  report_.size = frames_.back().frame->end();
}

void Check::read_pending_file(size_t which) {
  std::string where = pending_path(which);
  auto file = storage_.open(where, OpenMode::Read);
  if (!file)
    return problem(where, std::nullopt, file.error().what());
  auto reader = FrameReader::begin(**file);
  if (!reader)
    return problem(where, std::nullopt, reader.error().what());
  for (;;) {
    auto frame = reader->next();
    if (!frame)
      return problem(where, std::nullopt, frame.error().what());
    if (!*frame || reader->offset() > kMaxPendingKept)
      break;
    frames_.push_back({where, std::move(*frame)});
  }
  if (reader->torn() == 0 && reader->offset() > 0)
    return;
  torn_.push_back({where, reader->torn(), reader->offset(),
                   frame_follows(**file, reader->offset()).value_or(true),
                   !frames_.empty() && frames_.back().where == where});
}

void Check::judge_torn() {
  const std::string newest = frames_.empty() ? "" : frames_.back().where;
  for (const TornEnd& end : torn_) {
    if (!can_be_unfinished(end, torn_, newest))
      return problem(end.where, std::nullopt, end.text() + ", and no unfinished write: damage");
    report_.torn_bytes = std::max<uint64_t>(end.bytes, 1);
    report_.notes.push_back(end.where + ": " + end.text() + std::string(kUnfinished));
  }
}

void Check::read_archive() {
  auto bytes = read_whole(storage_, kArchivePath, kMaxArchive);
  if (!bytes && bytes.error().code() == Errc::NotFound)
    bytes = std::string();
  if (!bytes)
    return problem(kArchivePath, std::nullopt, bytes.error().what());
  uint64_t needed = report_.published / kArchiveStep;
  uint64_t number = 1;
  for (;; ++number) {
    uint64_t begin = archive_offset(key_.name(), number - 1);
    uint64_t end = archive_offset(key_.name(), number);
    if (end > bytes->size())
      break;
    read_archived(number, std::string_view(*bytes).substr(begin, end - begin));
  }
  uint64_t rest = bytes->size() - archive_offset(key_.name(), number - 1);
  if (number <= needed)
    problem(kArchivePath, std::nullopt,
            fmt::format("{} kept checkpoints, {} expected", number - 1, needed));
  // An interrupted publish may have left more, but only of entries that are still pending.
  else if (rest > 0 && number * kArchiveStep > report_.size)
    problem(kArchivePath, std::nullopt, fmt::format("{} bytes too many", rest));
  else if (rest > 0)
    report_.notes.push_back(
        fmt::format("{}: {} bytes of an unfinished publish", kArchivePath, rest));
}

void Check::read_archived(uint64_t number, std::string_view note) {
  uint64_t size = number * kArchiveStep;
  std::string where = fmt::format("{}, number {}", kArchivePath, number);
  auto checkpoint = open_checkpoint(key_, note);
  if (!checkpoint)
    return problem(where, std::nullopt, checkpoint.error().what());
  ++report_.checkpoints;
  if (checkpoint->size != size)
    return problem(where, std::nullopt,
                   fmt::format("is of {} entries, not {}", checkpoint->size, size));
  if (size > report_.size)
    return suspect(where, report_.size,
                   fmt::format("signed for {} entries, {} are there", size, report_.size));
  expected_[size].push_back({where, checkpoint->root});
}

void Check::read_known() {
  for (const std::string& note : options_.known_checkpoints) {
    auto checkpoint = open_checkpoint(key_, note);
    if (!checkpoint) {
      problem("known checkpoint", std::nullopt, checkpoint.error().what());
      continue;
    }
    ++report_.checkpoints;
    std::string where = fmt::format("known checkpoint of {} entries", checkpoint->size);
    if (checkpoint->size > report_.size)
      suspect(where, report_.size, "the ledger is shorter: it is an older copy or was cut");
    else
      expected_[checkpoint->size].push_back({where, checkpoint->root});
  }
}

void Check::list() {
  ListingSink sink{
      .problem = [this](std::string where,
                        std::string what) { problem(std::move(where), {}, std::move(what)); },
      .note = [this](std::string what) { report_.notes.push_back(std::move(what)); }};
  files_ = list_files(storage_, report_.published == 0, sink);
}

void Check::walk() {
  pass_size();
  if (!walk_published())
    return;
  walk_pending();
  finish();
}

bool Check::walk_published() {
  while (tree_.size() < report_.published) {
    uint64_t first = tree_.size();
    unsigned width =
        static_cast<unsigned>(std::min<uint64_t>(kTileWidth, report_.published - first));
    TileRef ref{kEntriesLevel, first / kTileWidth, width};
    auto bytes = read_whole(storage_, tile_path(ref), kMaxBundle);
    auto entries = bytes ? split_bundle(*bytes, width) : std::unexpected(bytes.error());
    if (!entries) {
      problem(tile_path(ref), first, entries.error().what());
      return false;
    }
    files_.erase(ref);
    ++report_.tiles;
    for (std::string_view entry : *entries) take(entry);
  }
  return true;
}

void Check::walk_pending() {
  for (const KeptFrame& kept : frames_) {
    if (kept.frame->end() <= tree_.size())
      continue;
    if (kept.frame->first != tree_.size()) {
      problem(
          kept.where, tree_.size(),
          fmt::format("entry {} stands where entry {} should", kept.frame->first, tree_.size()));
      return;
    }
    for (std::string_view entry : kept.frame->entries) take(entry);
  }
}

// The next entry of the tree.
void Check::take(std::string_view entry) {
  uint64_t index = tree_.size();
  compare_with_frame(index, entry);
  if (options_.check_entry) {
    if (auto good = options_.check_entry(index, entry); !good)
      problem("entry", index, good.error().what());
  }
  Hash leaf = leaf_hash(entry);
  tree_.add(leaf);
  if (levels_.empty())
    levels_.emplace_back();
  levels_[0].push_back(leaf);
  add_to_bundle(bundle_, entry);
  bundle_ends_.push_back(bundle_.size());
  if (bundle_ends_.size() == kTileWidth)
    finish_bundle(index / kTileWidth);
  for (size_t level = 0; levels_[level].size() == kTileWidth; ++level) {
    Hash root = root_of(levels_[level].data(), kTileWidth);
    finish_level(level, nodes_at(tree_.size(), static_cast<int>(level)) / kTileWidth - 1);
    if (levels_.size() == level + 1)
      levels_.emplace_back();
    levels_[level + 1].push_back(root);
  }
  pass_size();
}

// What was signed for the size that the tree has now.
void Check::pass_size() {
  uint64_t size = tree_.size();
  if (auto found = expected_.find(size); found != expected_.end()) {
    for (const Expectation& expectation : found->second) {
      if (expectation.root == tree_.root())
        continue;
      suspect(
          expectation.where, vouched_,
          fmt::format("signed for {} entries with another root hash: an entry from {} on is not "
                      "what it was",
                      size, vouched_));
    }
    vouched_ = size;
    expected_.erase(found);
  }
  if (frame_ >= frames_.size() || frames_[frame_].frame->end() != size)
    return;
  const Frame& frame = *frames_[frame_].frame;
  if (!key_.verify(frame_text(key_.name(), size, tree_.root()), frame.signature))
    suspect(frames_[frame_].where, frame.first,
            fmt::format("entries {} to {} are not what was signed", frame.first, size - 1));
  ++frame_;
}

// A frame may stand beside the bundle that it was published to, and must say the same.
void Check::compare_with_frame(uint64_t index, std::string_view entry) {
  while (frame_ < frames_.size() && frames_[frame_].frame->end() <= index) ++frame_;
  if (frame_ == frames_.size() || frames_[frame_].frame->first > index)
    return;
  const Frame& frame = *frames_[frame_].frame;
  if (frame.entries[index - frame.first] != entry)
    problem(frames_[frame_].where, index, "differs from the published entry");
}

void Check::finish_level(size_t level, uint64_t index) {
  std::string bytes;
  for (const Hash& hash : levels_[level]) bytes += bytes_of(hash);
  size_t width = levels_[level].size();
  levels_[level].clear();
  require(static_cast<int>(level), index, width);
  compare_files(static_cast<int>(level), index, bytes, width);
}

void Check::finish_bundle(uint64_t index) {
  compare_files(kEntriesLevel, index, bundle_, bundle_ends_.size());
  bundle_.clear();
  bundle_ends_.clear();
}

// What the checkpoint promises must be there; for bundles, the walk has seen to it.
void Check::require(int level, uint64_t index, size_t width) {
  uint64_t published = nodes_at(report_.published, level);
  if (published <= index * kTileWidth)
    return;
  TileRef ref{level, index};
  ref.width = static_cast<unsigned>(std::min<uint64_t>(kTileWidth, published - index * kTileWidth));
  if (ref.width > width || files_.contains(ref))
    return;
  problem(tile_path(ref), std::nullopt, "is missing");
}

void Check::compare_files(int level, uint64_t index, std::string_view bytes, size_t width) {
  auto at = files_.lower_bound(TileRef{level, index, 0});
  while (at != files_.end() && at->level == level && at->index == index) {
    if (at->width > width)
      break;  // finish() will name it
    compare_file(*at, bytes.substr(0, length_of(level, at->width)));
    at = files_.erase(at);
  }
}

size_t Check::length_of(int level, size_t width) const {
  return level == kEntriesLevel ? bundle_ends_[width - 1] : width * sizeof(Hash);
}

void Check::compare_file(const TileRef& ref, std::string_view expected) {
  auto bytes = read_whole(storage_, tile_path(ref), kMaxBundle);
  // A writer lets partial tiles go behind the checkpoint under which the tile is full.
  const bool is_full = nodes_at(report_.published, ref.level) >= (ref.index + 1) * kTileWidth;
  if (!bytes && bytes.error().code() == Errc::NotFound && is_full && ref.width < kTileWidth)
    return;
  ++report_.tiles;
  if (!bytes)
    return problem(tile_path(ref), std::nullopt, bytes.error().what());
  if (*bytes == expected)
    return;
  auto differ = std::mismatch(bytes->begin(), bytes->end(), expected.begin(), expected.end());
  size_t offset = static_cast<size_t>(differ.first - bytes->begin());
  uint64_t entry = ref.index * kTileWidth;
  if (ref.level == kEntriesLevel) {
    auto end = std::upper_bound(bundle_ends_.begin(), bundle_ends_.end(), offset);
    entry += static_cast<uint64_t>(end - bundle_ends_.begin());
  } else {
    entry = (entry + offset / sizeof(Hash)) << (8 * static_cast<unsigned>(ref.level));
  }
  if (bytes->size() != expected.size())
    return problem(tile_path(ref), entry,
                   fmt::format("{} bytes, {} expected", bytes->size(), expected.size()));
  std::string what = fmt::format("differs from the entries at offset {}", offset);
  if (ref.level > 0)
    return suspect(tile_path(ref), entry, std::move(what));
  if (ref.level == 0)
    what = fmt::format("entry {} does not have the hash that stands here", entry);
  problem(tile_path(ref), entry, std::move(what));
}

void Check::finish() {
  report_.root = tree_.root();
  for (size_t level = 0; level < levels_.size(); ++level)
    finish_level(level, nodes_at(tree_.size(), static_cast<int>(level)) / kTileWidth);
  if (!bundle_ends_.empty())
    finish_bundle(tree_.size() / kTileWidth);
  for (const TileRef& ref : files_)
    problem(tile_path(ref), std::nullopt,
            fmt::format(
                "covers more than the {} entries of this ledger: the checkpoint is an older one, "
                "or the file is forged",
                tree_.size()));
}

}  // namespace

Result<VerifyReport> verify_on(const Storage& storage, const VerifyOptions& options) {
  TRY_OK(crypto_ready());
  TRY(Verifier key, Verifier::from_vkey(options.vkey));
  for (int looks = 1;; ++looks) {
    std::string before = stamp_of(storage);
    VerifyReport report = Check(storage, options, key).run();
    if (report.ok() || stamp_of(storage) == before)
      return report;
    if (looks == kMaxOvertaken)
      return fail(Errc::Busy, fmt::format("the ledger grew in each of {} looks at it, so what they "
                                          "found says nothing; try again when less is written",
                                          looks));
  }
}

Result<VerifyReport> verify(const std::string& dir, const VerifyOptions& options) {
  TRY(std::unique_ptr<Storage> storage, open_storage(dir));
  TRY_OK(storage->list(""));
  // Damage is for the report; having no right to look is not.
  auto checkpoint = storage->open(kCheckpointPath, OpenMode::Read);
  if (!checkpoint && checkpoint.error().code() == Errc::Denied)
    return std::unexpected(std::move(checkpoint).error());
  return verify_on(*storage, options);
}

}  // namespace tenure::ledger
