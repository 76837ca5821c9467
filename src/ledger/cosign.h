// SPDX-License-Identifier: Apache-2.0
// C2SP tlog-cosignature: the signature line by which a witness says that it saw a checkpoint, and
// when. Only timestamped Ed25519 (cosignature/v1, signature type 0x04).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "ledger/note.h"

namespace tenure::ledger {

// A witness's public key under its name: "<name>+<8 hex>+<base64 of 0x04 and 32 bytes>".
// Thread-safe, copies are cheap.
class WitnessKey {
 public:
  // Invalid for anything else.
  static Result<WitnessKey> from_vkey(std::string_view vkey);
  static Result<WitnessKey> from_public_key(std::string name, std::string_view public_key32);

  const std::string& name() const { return key_.name(); }
  std::string vkey() const;
  // When the witness saw the checkpoint, in seconds since 1970: `line` is "— name base64" without
  // the newline, `text` the note's text with its final newline. NotFound if the line is of another
  // key, Corrupt if it does not verify.
  Result<uint64_t> check(std::string_view text, std::string_view line) const;

 private:
  Verifier key_;
  uint32_t id_ = 0;
  std::string public_key_;
};

// The line by which that key cosigns `text` at that time; for witnesses and tests. `signer` has the
// witness's name.
Result<std::string> cosign(const Signer& signer, std::string_view public_key32,
                           std::string_view text, uint64_t time_s);

}  // namespace tenure::ledger
