// SPDX-License-Identifier: Apache-2.0
// C2SP signed-note and tlog-checkpoint: a text with Ed25519 signatures below it, and the text that
// says "this log has so many entries and this root". Only signature type 0x01 (Ed25519) is ours;
// lines of other keys (witnesses) are checked for form and otherwise left alone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "ledger/hash.h"

struct evp_pkey_st;    // OpenSSL's EVP_PKEY
struct evp_md_ctx_st;  // EVP_MD_CTX

namespace tenure::ledger {

inline constexpr size_t kMaxNote = 65536;  // bytes; signed-note asks verifiers to bound it
inline constexpr size_t kMaxOrigin = 255;  // bytes
inline constexpr size_t kSignatureSize = 64;

// Standard base64 with padding (RFC 4648 §4).
std::string base64_encode(std::string_view bytes);
// Invalid for anything that base64_encode would not have written (also non-zero spare bits).
Result<std::string> base64_decode(std::string_view text);

// Invalid unless it can be both an origin and a key name: 1 to kMaxOrigin printable ASCII bytes
// without space and plus.
Result<> check_origin(std::string_view origin);

// A public key under its name; parsed from and written as a vkey, "<name>+<8 hex>+<base64 of 0x01
// and 32 bytes>". Thread-safe, copies are cheap.
class Verifier {
 public:
  static Result<Verifier> from_vkey(std::string_view vkey);
  static Result<Verifier> from_public_key(std::string name, std::string_view public_key32);

  bool verify(std::string_view text, std::string_view signature64) const;
  const std::string& name() const { return name_; }
  uint32_t id() const { return id_; }
  std::string vkey() const;

 private:
  std::string name_;
  uint32_t id_ = 0;
  std::string public_key_;
  std::shared_ptr<evp_pkey_st> key_;
};

// The private key under its name. Thread-safe.
class Signer {
 public:
  // A new key from the system's random numbers.
  static Result<Signer> generate(std::string name);
  // PKCS#8 PEM, unencrypted, as `openssl genpkey -algorithm ed25519` writes it.
  static Result<Signer> from_pem(std::string name, const std::string& pem);
  // From the 32-byte seed of RFC 8032; for reproducible tests.
  static Result<Signer> from_seed(std::string name, std::string_view seed32);

  Result<std::string> to_pem() const;
  // 64 bytes; the same text always gives the same signature.
  Result<std::string> sign(std::string_view text) const;
  const Verifier& verifier() const { return verifier_; }

 private:
  static Result<Signer> from_key(std::string name, std::shared_ptr<evp_pkey_st> key);

  std::shared_ptr<evp_pkey_st> key_;
  // Ready to sign, and never used but to be copied: OpenSSL looks its algorithms up for a new one,
  // which is a third of the time of a signature after a pause.
  std::shared_ptr<const evp_md_ctx_st> ready_;
  Verifier verifier_;
};

// `text` (ending in a newline), an empty line, and one signature line.
Result<std::string> sign_note(const Signer& signer, std::string_view text);
// The text of a note that `verifier` has signed. Corrupt if it is malformed or its signature is
// missing or wrong.
Result<std::string> open_note(const Verifier& verifier, std::string_view note);

struct Checkpoint {
  std::string origin;
  uint64_t size = 0;
  Hash root{};
};

std::string checkpoint_text(const Checkpoint& checkpoint);
// The note of a checkpoint, signed. Its length depends on the origin and the digits of size only.
Result<std::string> sign_checkpoint(const Signer& signer, const Checkpoint& checkpoint);
// Checks signature, form, and that the origin is the key's name. Extension lines are Corrupt: this
// log never writes them.
Result<Checkpoint> open_checkpoint(const Verifier& verifier, std::string_view note);
// The text part without any signature check: for readers without a key.
Result<Checkpoint> peek_checkpoint(std::string_view note);

}  // namespace tenure::ledger
