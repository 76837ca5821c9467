// SPDX-License-Identifier: Apache-2.0
// Attacks on the verifier: ledgers are mutated in every way that a hand or a bad disk might, and
// none of the results may be accepted. TENURE_FULL=1 makes 10^6 mutations instead of a sample;
// TENURE_SEED=N repeats a run.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "ledger/archive.h"
#include "ledger/note.h"
#include "ledger/pending.h"
#include "ledger/tile.h"
#include "ledger/verify.h"
#include "ledger/writer.h"
#include "tests/unit/ledger/memory_disk.h"

namespace tenure::ledger {
namespace {

Signer owner() {
  return *Signer::from_seed("tenure/test", std::string(32, 's'));
}
Signer stranger() {
  return *Signer::from_seed("tenure/test", std::string(32, 't'));
}

uint64_t number_from(const char* name, uint64_t fallback) {
  const char* text = getenv(name);
  return text != nullptr ? strtoull(text, nullptr, 10) : fallback;
}

// A ledger as it may lie on a disk, and the older states it went through.
struct Sample {
  Image image;
  std::vector<Image> history;
  bool pending = false;  // it has entries that are not published
};

Sample make_sample(const std::vector<uint64_t>& steps, uint64_t pending) {
  MemoryDisk disk;
  auto ledger = open_on(disk.storage(), owner(), true);
  Sample sample{.pending = pending > 0};
  auto append = [&](uint64_t count) {
    std::vector<std::string> entries;
    for (uint64_t i = 0; i < count; ++i)
      entries.push_back("type=VIRT_RESOURCE entry " + std::to_string((*ledger)->size() + i));
    EXPECT_TRUE((*ledger)->append(entries));
  };
  for (uint64_t step : steps) {
    sample.history.push_back(disk.image());
    append(step);
    EXPECT_TRUE((*ledger)->publish());
  }
  for (uint64_t i = 0; i < pending; ++i) append(2);
  sample.image = disk.image();
  return sample;
}

class Mutator {
 public:
  Mutator(const Sample& sample, std::mt19937_64& random) : sample_(sample), random_(random) {}

  // Changes `image` in one way and says which.
  std::string mutate(Image& image) {
    static constexpr std::string (Mutator::* kWays[])(Image&) = {
        &Mutator::flip_bits,   &Mutator::flip_bits,    &Mutator::flip_bits,
        &Mutator::flip_bits,   &Mutator::swap_ranges,  &Mutator::cut_tail,
        &Mutator::cut_middle,  &Mutator::insert_bytes, &Mutator::swap_files,
        &Mutator::replay_file, &Mutator::swap_entries, &Mutator::sign_as_stranger,
        &Mutator::forge_entry, &Mutator::add_file,     &Mutator::remove_file,
        &Mutator::forge_frame,
    };
    return (this->*kWays[below(std::size(kWays))])(image);
  }

 private:
  uint64_t below(uint64_t n) { return n == 0 ? 0 : random_() % n; }
  std::string& pick(Image& image, std::string& name) {
    auto at = std::next(image.files.begin(), static_cast<ptrdiff_t>(below(image.files.size())));
    name = at->first;
    return at->second;
  }

  std::string flip_bits(Image& image) {
    std::string name;
    std::string& bytes = pick(image, name);
    for (uint64_t i = 0; i <= below(3) && !bytes.empty(); ++i) {
      size_t at = below(bytes.size());
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
    }
    return "bits of " + name;
  }
  std::string swap_ranges(Image& image) {
    std::string name;
    std::string& bytes = pick(image, name);
    size_t width = 1 + below(64);
    if (bytes.size() < 2 * width)
      return "nothing";
    size_t a = below(bytes.size() - 2 * width + 1);
    size_t b = a + width + below(bytes.size() - a - 2 * width + 1);
    std::swap_ranges(bytes.begin() + static_cast<ptrdiff_t>(a),
                     bytes.begin() + static_cast<ptrdiff_t>(a + width),
                     bytes.begin() + static_cast<ptrdiff_t>(b));
    return "swapped ranges of " + name;
  }
  std::string cut_tail(Image& image) {
    std::string name;
    std::string& bytes = pick(image, name);
    bytes.resize(below(bytes.size() + 1));
    return "cut of " + name;
  }
  std::string cut_middle(Image& image) {
    std::string name;
    std::string& bytes = pick(image, name);
    size_t at = below(bytes.size());
    bytes.erase(at, 1 + below(40));
    return "cut out of " + name;
  }
  std::string insert_bytes(Image& image) {
    std::string name;
    std::string& bytes = pick(image, name);
    size_t at = below(bytes.size() + 1);
    size_t from = below(bytes.size());
    bytes.insert(at, bytes.substr(from, 1 + below(200)) + (below(2) != 0 ? "\n" : ""));
    return "inserted into " + name;
  }
  std::string swap_files(Image& image) {
    std::string a;
    std::string b;
    std::swap(pick(image, a), pick(image, b));
    return "swapped " + a + " and " + b;
  }
  // An older version of one file: an old checkpoint, an old archive, an old pending file.
  std::string replay_file(Image& image) {
    if (sample_.history.empty())
      return "nothing";
    const Image& old = sample_.history[below(sample_.history.size())];
    std::string name = below(2) != 0 ? "checkpoint" : "";
    if (name.empty())
      pick(image, name);
    if (!old.files.contains(name))
      return "nothing";
    image.files[name] = old.files.at(name);
    return "replayed " + name;
  }
  // Two entries change places, in a bundle or in a frame.
  std::string swap_entries(Image& image) {
    std::string name;
    std::string& bytes = pick(image, name);
    auto ref = parse_tile_path(name);
    if (!ref || ref->level != kEntriesLevel)
      return "nothing";
    auto split = split_bundle(bytes, ref->width);
    if (!split || split->size() < 2)
      return "nothing";
    std::vector<std::string> entries(split->begin(), split->end());
    std::swap(entries[below(entries.size())], entries[below(entries.size())]);
    std::string swapped;
    for (const std::string& entry : entries) add_to_bundle(swapped, entry);
    bytes = swapped;
    return "swapped entries of " + name;
  }
  std::string sign_as_stranger(Image& image) {
    std::string& note = image.files["checkpoint"];
    Checkpoint checkpoint = *peek_checkpoint(note);
    if (below(2) != 0)
      checkpoint.size = below(checkpoint.size + 2);
    note = *sign_checkpoint(stranger(), checkpoint);
    return "checkpoint signed by another key";
  }
  // An entry and its leaf hash, consistently; at level 1 too if asked.
  std::string forge_entry(Image& image) {
    std::string name;
    std::string& bytes = pick(image, name);
    auto ref = parse_tile_path(name);
    if (!ref || ref->level != kEntriesLevel || bytes.size() < 3)
      return "nothing";
    bytes[2] = static_cast<char>(bytes[2] ^ 1);
    auto entries = split_bundle(bytes, ref->width);
    std::string leaf{bytes_of(leaf_hash(entries->front()))};
    for (auto& [path, tile] : image.files) {
      auto other = parse_tile_path(path);
      if (other && other->level == 0 && other->index == ref->index)
        tile.replace(0, 32, leaf);
      if (other && other->level == kEntriesLevel && other->index == ref->index)
        tile[2] = bytes[2];
      if (other && other->level == 1 && ref->width == kTileWidth && ref->index < other->width) {
        std::vector<Hash> leaves;
        for (std::string_view entry : *entries) leaves.push_back(leaf_hash(entry));
        tile.replace(32 * ref->index, 32, bytes_of(root_of(leaves.data(), leaves.size())));
      }
    }
    return "forged the entry in front of " + name;
  }
  std::string add_file(Image& image) {
    TileRef ref{static_cast<int>(below(3)) - 1, below(4), 1 + static_cast<unsigned>(below(256))};
    if (image.files.contains(tile_path(ref)))
      return "nothing";
    std::string name;
    image.files[tile_path(ref)] =
        below(2) != 0 ? pick(image, name) : std::string(32 * ref.width, 'x');
    std::string path = tile_path(ref);
    for (size_t at = path.find('/'); at != path.npos; at = path.find('/', at + 1))
      image.dirs[path.substr(0, at)] = true;
    return "added " + path;
  }
  std::string remove_file(Image& image) {
    std::string name;
    pick(image, name);
    image.files.erase(name);
    return "removed " + name;
  }
  // A frame with a right checksum but another entry, index or signature.
  std::string forge_frame(Image& image) {
    std::string& bytes = image.files["pending." + std::to_string(below(2))];
    MemoryDisk disk(Image{.files = {{"f", bytes}}, .dirs = {}});
    auto file = disk.storage()->open("f", OpenMode::Read);
    auto reader = FrameReader::begin(**file);
    auto frame = reader ? reader->next() : Result<std::unique_ptr<Frame>>(nullptr);
    if (!frame || !*frame)
      return "nothing";
    std::string payload;
    for (std::string_view entry : (*frame)->entries) add_to_bundle(payload, entry);
    payload.back() = static_cast<char>(payload.back() ^ 1);
    std::string forged =
        encode_frame((*frame)->first, static_cast<uint32_t>((*frame)->entries.size()), payload,
                     (*frame)->signature);
    bytes.replace(kPendingHeader.size(), (*frame)->bytes.size(), forged);
    return "forged a pending frame";
  }

  const Sample& sample_;
  std::mt19937_64& random_;
};

// Frames dropped from the end of a pending file: the ledger's own earlier state, which no look at
// one copy can tell (docs/ledger-format.md, "What a copy cannot show").
bool is_earlier_pending(const std::string& now, const std::string& was) {
  if (now.size() >= was.size() || !was.starts_with(now))
    return false;
  MemoryDisk disk(Image{.files = {{"f", now}}, .dirs = {}});
  auto file = disk.storage()->open("f", OpenMode::Read);
  auto reader = FrameReader::begin(**file);
  if (!reader)
    return false;
  for (;;) {
    auto frame = reader->next();
    if (!frame || !*frame)
      return reader->torn() == 0;
  }
}

// What changes nothing that anybody reads: see the comment at each.
bool is_irrelevant(const Sample& sample, const Image& mutated) {
  Checkpoint checkpoint = *peek_checkpoint(sample.image.files.at("checkpoint"));
  for (const auto& [path, was] : sample.image.files) {
    auto now = mutated.files.find(path);
    if (now != mutated.files.end() && now->second == was)
      continue;
    auto ref = parse_tile_path(path);
    // A partial tile of an older size: all of it stands in the newer ones too.
    bool older = ref && ref->width < kTileWidth &&
                 ref->index * kTileWidth + ref->width < nodes_at(checkpoint.size, ref->level);
    if (now == mutated.files.end() && older)
      continue;
    if (now != mutated.files.end() && path.starts_with("pending.") &&
        is_earlier_pending(now->second, was))
      continue;
    return false;
  }
  for (const auto& [path, now] : mutated.files) {
    if (sample.image.files.contains(path))
      continue;
    // A true partial tile: what a publish at that size would have left.
    auto ref = parse_tile_path(path);
    auto full = ref ? sample.image.files.find(tile_path({ref->level, ref->index}))
                    : sample.image.files.end();
    if (full == sample.image.files.end() || !full->second.starts_with(now))
      return false;
  }
  return true;
}

// Swapped pending files are the same ledger: their frames are numbered.
bool same_but_for_pending_names(const Sample& sample, const Image& mutated) {
  Image swapped = mutated;
  if (!swapped.files.contains("pending.0") || !swapped.files.contains("pending.1"))
    return false;
  std::swap(swapped.files["pending.0"], swapped.files["pending.1"]);
  return swapped.files == sample.image.files;
}

// In shards, each with a seed of its own, so that a full run stays below the time limit of one
// test.
class LedgerMutation : public testing::TestWithParam<uint64_t> {};

TEST_P(LedgerMutation, NoneIsAccepted) {
  std::vector<Sample> samples;
  samples.push_back(make_sample({1}, 0));
  samples.push_back(make_sample({5, 3}, 2));
  samples.push_back(make_sample({20, 30, 7}, 0));
  samples.push_back(make_sample({250, 30}, 1));
  bool full = getenv("TENURE_FULL") != nullptr;
  uint64_t wanted = full ? 25'000 : 150;
  uint64_t seed = number_from("TENURE_SEED", GetParam());
  std::mt19937_64 random(seed);
  VerifyOptions options{.vkey = owner().verifier().vkey()};
  for (const Sample& sample : samples) {
    MemoryDisk disk(sample.image);
    auto report = verify_on(*disk.storage(), options);
    ASSERT_TRUE(report && report->ok()) << to_text(*report);
  }
  uint64_t done = 0;
  uint64_t irrelevant = 0;
  while (done < wanted) {
    // Mostly the small ones, which are quick to verify.
    const Sample& sample = samples[random() % 8 == 0 ? 3 : random() % 3];
    Image mutated = sample.image;
    std::string what = Mutator(sample, random).mutate(mutated);
    if (mutated.files == sample.image.files)
      continue;
    ++done;
    MemoryDisk disk(mutated);
    auto report = verify_on(*disk.storage(), options);
    ASSERT_TRUE(report);
    if (!report->ok())
      continue;
    ++irrelevant;
    ASSERT_TRUE(is_irrelevant(sample, mutated) || same_but_for_pending_names(sample, mutated))
        << "accepted: " << what << " (TENURE_SEED=" << seed << ", number " << done << ")";
  }
  RecordProperty("mutations", std::to_string(done));
  printf("%llu mutations, none accepted but %llu that change nothing\n",
         static_cast<unsigned long long>(done), static_cast<unsigned long long>(irrelevant));
}

INSTANTIATE_TEST_SUITE_P(Shard, LedgerMutation, testing::Range(uint64_t{1}, uint64_t{41}));

// open() on a mutated ledger either refuses or gives the entries as they were.
TEST(LedgerMutationAtOpen, NeverInventsEntries) {
  Sample sample = make_sample({5, 3}, 3);
  uint64_t wanted = getenv("TENURE_FULL") != nullptr ? 100'000 : 600;
  std::mt19937_64 random(number_from("TENURE_SEED", 2));
  for (uint64_t done = 0; done < wanted; ++done) {
    Image mutated = sample.image;
    std::string what = Mutator(sample, random).mutate(mutated);
    MemoryDisk disk(mutated);
    auto ledger = open_on(disk.storage(), owner(), true);
    if (!ledger)
      continue;
    ASSERT_LE((*ledger)->size(), 14U) << what;
    if (!(*ledger)->publish())
      continue;
    auto report = verify_on(*disk.storage(),
                            {.vkey = owner().verifier().vkey(),
                             .known_checkpoints = {},
                             .check_entry = [](uint64_t i, std::string_view entry) -> Result<> {
                               if (entry == "type=VIRT_RESOURCE entry " + std::to_string(i))
                                 return {};
                               return fail(Errc::Corrupt, "invented");
                             }});
    ASSERT_TRUE(report);
    for (const Problem& problem : report->problems) ASSERT_NE(problem.what, "invented") << what;
  }
}

}  // namespace
}  // namespace tenure::ledger
