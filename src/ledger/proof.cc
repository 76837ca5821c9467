// SPDX-License-Identifier: Apache-2.0
#include "ledger/proof.h"

#include <fmt/format.h>

#include "base/text.h"
#include "ledger/ledger.h"
#include "ledger/note.h"
#include "ledger/publisher.h"
#include "ledger/tile.h"

namespace tenure::ledger {
namespace {

constexpr std::string_view kFirstLine = "c2sp.org/tlog-proof@v1";
constexpr size_t kMaxPath = 64;

struct ParsedProof {
  std::string entry;
  uint64_t index = 0;
  std::vector<Hash> path;
  std::string_view note;
};

std::unexpected<Error> bad(std::string_view why) {
  return fail(Errc::Corrupt, fmt::format("proof: {}", why));
}

// The rest of a line that begins with `word` and a space.
Result<std::string_view> after(std::string_view line, std::string_view word) {
  if (!line.starts_with(word) || line.size() <= word.size() || line[word.size()] != ' ')
    return bad(fmt::format("no line '{} …' where it belongs", word));
  return line.substr(word.size() + 1);
}

Result<std::vector<Hash>> parse_path(const std::vector<std::string_view>& lines, size_t from) {
  std::vector<Hash> path;
  for (size_t i = from; i < lines.size(); ++i) {
    auto hash = base64_decode(lines[i]);
    if (!hash || hash->size() != sizeof(Hash) || path.size() == kMaxPath)
      return bad("malformed hash");
    path.push_back(hash_from(*hash));
  }
  return path;
}

Result<ParsedProof> parse_proof(std::string_view text) {
  if (text.size() > kMaxProof)
    return bad("too large");
  size_t gap = text.find("\n\n");
  if (gap == text.npos)
    return bad("no empty line before the checkpoint");
  std::vector<std::string_view> lines = split(text.substr(0, gap), '\n');
  if (lines.size() < 3 || lines[0] != kFirstLine)
    return bad("not in the form tlog-proof@v1");
  ParsedProof proof;
  TRY(std::string_view extra, after(lines[1], "extra"));
  auto entry = base64_decode(extra);
  if (!entry)
    return bad("malformed entry");
  proof.entry = std::move(*entry);
  TRY(std::string_view number, after(lines[2], "index"));
  auto index = parse_int<uint64_t>(number);
  if (!index || fmt::format("{}", *index) != number)
    return bad("malformed index");
  proof.index = *index;
  TRY(proof.path, parse_path(lines, 3));
  proof.note = text.substr(gap + 2);
  return proof;
}

Result<Checkpoint> check_inclusion(const ParsedProof& proof, const Checkpoint& checkpoint) {
  TRY(Hash root,
      root_from_inclusion(leaf_hash(proof.entry), proof.index, checkpoint.size, proof.path));
  if (root != checkpoint.root)
    return bad(fmt::format("entry {} is not in the tree that was signed", proof.index));
  return checkpoint;
}

}  // namespace

Result<std::string> make_proof_on(const Storage& storage, uint64_t index) {
  TRY(std::string note, read_whole(storage, kCheckpointPath, kMaxNote));
  TRY(Checkpoint checkpoint, peek_checkpoint(note));
  if (index >= checkpoint.size)
    return fail(Errc::NotFound,
                fmt::format("entry {} is not published: the checkpoint covers {} entries", index,
                            checkpoint.size));
  uint64_t tile = index / kTileWidth;
  unsigned width =
      static_cast<unsigned>(std::min<uint64_t>(kTileWidth, checkpoint.size - tile * kTileWidth));
  TRY(std::string bundle, read_bundle(storage, tile, width));
  TRY(std::vector<std::string_view> entries, split_bundle(bundle, width));
  TileReader tiles(storage, checkpoint.size);
  auto node = [&](unsigned height, uint64_t i) { return tiles.node(height, i); };
  ParsedProof proof{.entry = std::string(entries[index % kTileWidth]), .index = index};
  TRY(proof.path, inclusion_path(node, index, checkpoint.size));
  TRY_OK(check_inclusion(proof, checkpoint));
  std::string text =
      fmt::format("{}\nextra {}\nindex {}\n", kFirstLine, base64_encode(proof.entry), index);
  for (const Hash& hash : proof.path) text += base64_encode(bytes_of(hash)) + "\n";
  return text + "\n" + note;
}

Result<std::string> make_proof(const std::string& dir, uint64_t index) {
  TRY_OK(crypto_ready());
  TRY(std::unique_ptr<Storage> storage, open_storage(dir));
  return make_proof_on(*storage, index);
}

Result<ProvedEntry> check_proof(std::string_view text, std::string_view vkey) {
  TRY_OK(crypto_ready());
  TRY(Verifier key, Verifier::from_vkey(vkey));
  TRY(ParsedProof proof, parse_proof(text));
  TRY(Checkpoint checkpoint, open_checkpoint(key, proof.note));
  TRY_OK(check_inclusion(proof, checkpoint));
  return ProvedEntry{checkpoint.origin, proof.index, checkpoint.size, std::move(proof.entry)};
}

Result<std::vector<Hash>> prove_consistency(const Storage& storage, uint64_t old_size,
                                            uint64_t size) {
  TRY(std::string note, read_whole(storage, kCheckpointPath, kMaxNote));
  TRY(Checkpoint checkpoint, peek_checkpoint(note));
  if (old_size == 0 || old_size > size || size > checkpoint.size)
    return fail(Errc::Invalid, fmt::format("consistency of {} and {}: wants 0 < old <= new <= {}",
                                           old_size, size, checkpoint.size));
  TileReader tiles(storage, checkpoint.size);
  auto node = [&](unsigned height, uint64_t i) { return tiles.node(height, i); };
  return consistency_path(node, old_size, size);
}

}  // namespace tenure::ledger
