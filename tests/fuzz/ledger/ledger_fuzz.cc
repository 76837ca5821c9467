// SPDX-License-Identifier: Apache-2.0
// Every parser of the ledger on arbitrary bytes: notes, keys, bundles, tile names, proofs, frames.
#include <cstdlib>

#include "ledger/note.h"
#include "ledger/pending.h"
#include "ledger/proof.h"
#include "ledger/tile.h"

namespace {

using namespace tenure;
using namespace tenure::ledger;

class Bytes final : public File {
 public:
  explicit Bytes(std::string bytes) : bytes_(std::move(bytes)) {}
  Result<std::string> read_at(uint64_t offset, size_t size) const override {
    return offset < bytes_.size() ? bytes_.substr(offset, size) : std::string();
  }
  Result<> write_at(uint64_t, std::string_view) override { return fail(Errc::Denied, "read only"); }
  Result<> truncate(uint64_t) override { return fail(Errc::Denied, "read only"); }
  Result<> sync() override { return {}; }
  Result<uint64_t> size() const override { return bytes_.size(); }

 private:
  std::string bytes_;
};

void must(bool condition) {
  if (!condition)
    abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  static const Signer signer = *Signer::from_seed("tenure/fuzz", std::string(32, 'f'));
  if (auto checkpoint = peek_checkpoint(input))
    must(input.starts_with(checkpoint_text(*checkpoint)));
  must(!open_note(signer.verifier(), input));  // nobody guesses a signature
  if (auto key = Verifier::from_vkey(input))
    must(key->vkey() == input);
  if (auto raw = base64_decode(input))
    must(base64_encode(*raw) == input);
  if (auto ref = parse_tile_path(input))
    must(tile_path(*ref) == input);
  if (auto entries = split_bundle(input, size % 7)) {
    std::string again;
    for (std::string_view entry : *entries) add_to_bundle(again, entry);
    must(again == input);
  }
  static const std::string vkey = signer.verifier().vkey();
  must(!check_proof(input, vkey));
  Bytes file(std::string(kPendingHeader) + std::string(input));
  if (auto reader = FrameReader::begin(file)) {
    for (auto frame = reader->next(); frame && *frame; frame = reader->next())
      must((*frame)->end() > (*frame)->first);
    must(reader->offset() + reader->torn() == kPendingHeader.size() + size);
  }
  return 0;
}
