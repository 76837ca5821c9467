// SPDX-License-Identifier: Apache-2.0
// Parsing is strict: a byte that could be changed without any reader noticing is a byte that an
// attacker could use, so each form has exactly one spelling.
#include "ledger/note.h"

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <algorithm>

#include "base/text.h"
#include "ledger/bytes.h"

namespace tenure::ledger {
namespace {

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr char kEd25519 = 1;  // signature type of signed-note
constexpr size_t kMaxSignatures = 64;

uint8_t byte_at(std::string_view text, size_t i) {
  return static_cast<uint8_t>(text[i]);
}

uint32_t key_id(std::string_view name, std::string_view public_key) {
  std::string text(name);
  text.append("\n").append(1, kEd25519).append(public_key);
  Hash hash = sha256(text);
  return uint32_t{hash[0]} << 24 | uint32_t{hash[1]} << 16 | uint32_t{hash[2]} << 8 | hash[3];
}

std::shared_ptr<EVP_PKEY> shared_key(EVP_PKEY* key) {
  return {key, EVP_PKEY_free};
}

// "— name base64" without the newline.
struct SignatureLine {
  std::string_view name;
  uint32_t id = 0;
  std::string signature;
};

Result<SignatureLine> parse_signature_line(std::string_view line) {
  auto bad = [] { return fail(Errc::Corrupt, "signed note: malformed signature line"); };
  if (!line.starts_with(kDash))
    return bad();
  line.remove_prefix(kDash.size());
  size_t space = line.find(' ');
  if (space == line.npos || space == 0)
    return bad();
  auto raw = base64_decode(line.substr(space + 1));
  if (!raw || raw->size() < 5)
    return bad();
  SignatureLine parsed{.name = line.substr(0, space), .signature = raw->substr(4)};
  for (size_t i = 0; i < 4; ++i) parsed.id = parsed.id << 8 | byte_at(*raw, i);
  return parsed;
}

struct NoteParts {
  std::string_view text;        // with its final newline
  std::string_view signatures;  // lines, each with its newline
};

Result<NoteParts> split_note(std::string_view note) {
  if (note.size() > kMaxNote)
    return fail(Errc::Corrupt, "signed note: too large");
  bool controls = std::any_of(note.begin(), note.end(),
                              [](char c) { return static_cast<uint8_t>(c) < 0x20 && c != '\n'; });
  if (controls)
    return fail(Errc::Corrupt, "signed note: contains control characters");
  size_t gap = note.rfind("\n\n");
  if (gap == note.npos || !note.ends_with('\n') || gap + 2 >= note.size())
    return fail(Errc::Corrupt, "signed note: text and signatures are not told apart");
  return NoteParts{note.substr(0, gap + 1), note.substr(gap + 2)};
}

Result<Checkpoint> parse_checkpoint(std::string_view text) {
  auto bad = [](std::string_view why) {
    return fail(Errc::Corrupt, fmt::format("checkpoint: {}", why));
  };
  std::vector<std::string_view> lines = split(text, '\n');
  if (lines.size() != 4 || !lines[3].empty())
    return bad("not exactly three lines");
  if (!check_origin(lines[0]))
    return bad("malformed origin");
  auto size = parse_int<uint64_t>(lines[1]);
  if (!size || fmt::format("{}", *size) != lines[1])
    return bad("malformed size");
  auto root = base64_decode(lines[2]);
  if (!root || root->size() != sizeof(Hash))
    return bad("malformed root hash");
  return Checkpoint{std::string(lines[0]), *size, hash_from(*root)};
}

}  // namespace

std::string base64_encode(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    size_t have = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) group = group << 8 | (k < have ? byte_at(bytes, i + k) : 0U);
    for (size_t k = 0; k < 4; ++k) text += k <= have ? kAlphabet[group >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

Result<std::string> base64_decode(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  uint32_t group = 0;
  int bits = 0;
  std::string_view digits = text.substr(0, text.find('='));
  for (char c : digits) {
    size_t value = kAlphabet.find(c);
    if (value == kAlphabet.npos)
      return fail(Errc::Invalid, "base64: foreign character");
    group = group << 6 | static_cast<uint32_t>(value);
    bits += 6;
    if (bits < 8)
      continue;
    bits -= 8;
    bytes += static_cast<char>(group >> bits & 0xFF);
  }
  if (base64_encode(bytes) != text)
    return fail(Errc::Invalid, "base64: not in canonical form");
  return bytes;
}

Result<> check_origin(std::string_view origin) {
  bool fits = !origin.empty() && origin.size() <= kMaxOrigin &&
              std::all_of(origin.begin(), origin.end(),
                          [](char c) { return c > ' ' && c < '\x7F' && c != '+'; });
  if (fits)
    return {};
  return fail(
      Errc::Invalid,
      fmt::format("origin '{}': wants 1 to {} printable ASCII characters, no space, no plus",
                  printable(origin.substr(0, kMaxOrigin)), kMaxOrigin));
}

Result<Verifier> Verifier::from_public_key(std::string name, std::string_view public_key) {
  TRY_OK(check_origin(name));
  if (public_key.size() != 32)
    return fail(Errc::Invalid, "Ed25519 public key: not 32 bytes");
  Verifier made;
  made.key_ = shared_key(EVP_PKEY_new_raw_public_key(
      EVP_PKEY_ED25519, nullptr, reinterpret_cast<const unsigned char*>(public_key.data()), 32));
  if (!made.key_)
    return fail(Errc::Invalid, "Ed25519 public key: refused by OpenSSL");
  made.id_ = key_id(name, public_key);
  made.name_ = std::move(name);
  made.public_key_ = public_key;
  return made;
}

Result<Verifier> Verifier::from_vkey(std::string_view vkey) {
  auto bad = [] {
    return fail(Errc::Invalid,
                "verifier key: wants <name>+<8 hex digits>+<base64>, as in a .pub file");
  };
  // The base64 part may hold plus signs itself; the name must not.
  size_t first = vkey.find('+');
  size_t second = first == vkey.npos ? first : vkey.find('+', first + 1);
  if (second == vkey.npos || vkey.size() > kMaxOrigin + 64)
    return bad();
  auto raw = base64_decode(vkey.substr(second + 1));
  if (!raw || raw->size() != 33 || raw->front() != kEd25519)
    return bad();
  TRY(Verifier made, from_public_key(std::string(vkey.substr(0, first)), raw->substr(1)));
  if (made.vkey() != vkey)
    return bad();
  return made;
}

std::string Verifier::vkey() const {
  return fmt::format("{}+{:08x}+{}", name_, id_,
                     base64_encode(std::string(1, kEd25519) + public_key_));
}

bool Verifier::verify(std::string_view text, std::string_view signature) const {
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  return signature.size() == kSignatureSize &&
         EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key_.get()) == 1 &&
         EVP_DigestVerify(context.get(), reinterpret_cast<const unsigned char*>(signature.data()),
                          signature.size(), reinterpret_cast<const unsigned char*>(text.data()),
                          text.size()) == 1;
}

Result<Signer> Signer::from_key(std::string name, std::shared_ptr<evp_pkey_st> key) {
  if (!key || EVP_PKEY_get_base_id(key.get()) != EVP_PKEY_ED25519)
    return fail(Errc::Invalid, "private key: not an Ed25519 key");
  unsigned char raw[32];
  size_t size = sizeof raw;
  if (EVP_PKEY_get_raw_public_key(key.get(), raw, &size) != 1 || size != sizeof raw)
    return fail(Errc::Invalid, "private key: has no public half");
  std::shared_ptr<EVP_MD_CTX> ready(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  if (EVP_DigestSignInit(ready.get(), nullptr, nullptr, nullptr, key.get()) != 1)
    return fail(Errc::Internal, "Ed25519 signing is not ready in OpenSSL");
  Signer made;
  made.key_ = std::move(key);
  made.ready_ = std::move(ready);
  TRY(made.verifier_,
      Verifier::from_public_key(std::move(name), {reinterpret_cast<const char*>(raw), sizeof raw}));
  return made;
}

Result<Signer> Signer::generate(std::string name) {
  return from_key(std::move(name), shared_key(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")));
}

Result<Signer> Signer::from_pem(std::string name, const std::string& pem) {
  std::unique_ptr<BIO, int (*)(BIO*)> bio(
      BIO_new_mem_buf(pem.data(), static_cast<int>(std::min<size_t>(pem.size(), kMaxNote))),
      BIO_free);
  // The callback refuses: without it OpenSSL would ask the terminal for a passphrase.
  auto refuse = [](char*, int, int, void*) { return -1; };
  return from_key(std::move(name),
                  shared_key(PEM_read_bio_PrivateKey(bio.get(), nullptr, refuse, nullptr)));
}

Result<Signer> Signer::from_seed(std::string name, std::string_view seed) {
  if (seed.size() != 32)
    return fail(Errc::Invalid, "Ed25519 seed: not 32 bytes");
  return from_key(std::move(name),
                  shared_key(EVP_PKEY_new_raw_private_key(
                      EVP_PKEY_ED25519, nullptr,
                      reinterpret_cast<const unsigned char*>(seed.data()), seed.size())));
}

Result<std::string> Signer::to_pem() const {
  std::unique_ptr<BIO, int (*)(BIO*)> bio(BIO_new(BIO_s_secmem()), BIO_free);
  char* text = nullptr;
  if (PEM_write_bio_PKCS8PrivateKey(bio.get(), key_.get(), nullptr, nullptr, 0, nullptr, nullptr) !=
      1)
    return fail(Errc::Internal, "private key: cannot be written as PEM");
  long size = BIO_get_mem_data(bio.get(), &text);
  return std::string(text, static_cast<size_t>(size));
}

Result<std::string> Signer::sign(std::string_view text) const {
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  std::string signature(kSignatureSize, '\0');
  size_t size = signature.size();
  if (EVP_MD_CTX_copy_ex(context.get(), ready_.get()) != 1 ||
      EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                     reinterpret_cast<const unsigned char*>(text.data()), text.size()) != 1)
    return fail(Errc::Internal, "Ed25519 signing failed in OpenSSL");
  return signature;
}

Result<std::string> sign_note(const Signer& signer, std::string_view text) {
  TRY(std::string signature, signer.sign(text));
  const Verifier& key = signer.verifier();
  std::string payload;
  put_big_endian(payload, key.id(), 4);
  return fmt::format("{}\n{}{} {}\n", text, kDash, key.name(), base64_encode(payload + signature));
}

Result<std::string> open_note(const Verifier& verifier, std::string_view note) {
  TRY(NoteParts parts, split_note(note));
  std::vector<std::string_view> lines = split(parts.signatures, '\n');
  lines.pop_back();
  if (lines.size() > kMaxSignatures)
    return fail(Errc::Corrupt, "signed note: too many signatures");
  bool signed_by_key = false;
  for (std::string_view line : lines) {
    TRY(SignatureLine signature, parse_signature_line(line));
    if (signature.name != verifier.name() || signature.id != verifier.id())
      continue;
    if (!verifier.verify(parts.text, signature.signature))
      return fail(Errc::Corrupt, fmt::format("signature of {} does not verify", verifier.name()));
    signed_by_key = true;
  }
  if (!signed_by_key)
    return fail(Errc::Corrupt, fmt::format("not signed by key {}", verifier.vkey()));
  return std::string(parts.text);
}

std::string checkpoint_text(const Checkpoint& checkpoint) {
  return fmt::format("{}\n{}\n{}\n", checkpoint.origin, checkpoint.size,
                     base64_encode(bytes_of(checkpoint.root)));
}

Result<std::string> sign_checkpoint(const Signer& signer, const Checkpoint& checkpoint) {
  return sign_note(signer, checkpoint_text(checkpoint));
}

Result<Checkpoint> open_checkpoint(const Verifier& verifier, std::string_view note) {
  TRY(std::string text, open_note(verifier, note));
  TRY(Checkpoint checkpoint, parse_checkpoint(text));
  if (checkpoint.origin != verifier.name())
    return fail(Errc::Corrupt, fmt::format("checkpoint of {}, but the key is that of {}",
                                           checkpoint.origin, verifier.name()));
  return checkpoint;
}

Result<Checkpoint> peek_checkpoint(std::string_view note) {
  TRY(NoteParts parts, split_note(note));
  return parse_checkpoint(parts.text);
}

}  // namespace tenure::ledger
