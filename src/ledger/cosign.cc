// SPDX-License-Identifier: Apache-2.0
#include "ledger/cosign.h"

#include <fmt/format.h>

#include "ledger/bytes.h"
#include "ledger/hash.h"

namespace tenure::ledger {
namespace {

constexpr char kTimestamped = 4;                     // signature type of tlog-cosignature
constexpr size_t kPayload = 4 + 8 + kSignatureSize;  // key id, time, signature

uint32_t cosigner_id(std::string_view name, std::string_view public_key) {
  std::string text(name);
  text.append("\n").append(1, kTimestamped).append(public_key);
  Hash hash = sha256(text);
  return uint32_t{hash[0]} << 24 | uint32_t{hash[1]} << 16 | uint32_t{hash[2]} << 8 | hash[3];
}

std::string message(std::string_view text, uint64_t time_s) {
  return fmt::format("cosignature/v1\ntime {}\n{}", time_s, text);
}

}  // namespace

Result<WitnessKey> WitnessKey::from_public_key(std::string name, std::string_view public_key) {
  WitnessKey made;
  TRY(made.key_, Verifier::from_public_key(std::move(name), public_key));
  made.public_key_ = public_key;
  made.id_ = cosigner_id(made.key_.name(), public_key);
  return made;
}

Result<WitnessKey> WitnessKey::from_vkey(std::string_view vkey) {
  auto bad = [] {
    return fail(Errc::Invalid,
                "witness key: wants <name>+<8 hex digits>+<base64 of 0x04 and an Ed25519 key>");
  };
  size_t first = vkey.find('+');
  size_t second = first == vkey.npos ? first : vkey.find('+', first + 1);
  if (second == vkey.npos || vkey.size() > kMaxOrigin + 64)
    return bad();
  auto raw = base64_decode(vkey.substr(second + 1));
  if (!raw || raw->size() != 33 || raw->front() != kTimestamped)
    return bad();
  TRY(WitnessKey made, from_public_key(std::string(vkey.substr(0, first)), raw->substr(1)));
  if (made.vkey() != vkey)
    return bad();
  return made;
}

std::string WitnessKey::vkey() const {
  return fmt::format("{}+{:08x}+{}", name(), id_,
                     base64_encode(std::string(1, kTimestamped) + public_key_));
}

Result<uint64_t> WitnessKey::check(std::string_view text, std::string_view line) const {
  std::string head = fmt::format("{}{} ", kDash, name());
  if (!line.starts_with(head))
    return fail(Errc::NotFound, "a signature line of another key");
  auto raw = base64_decode(line.substr(head.size()));
  if (!raw || raw->size() != kPayload || get_big_endian(std::string_view(*raw).substr(0, 4)) != id_)
    return fail(Errc::NotFound, "a signature line of another key");
  std::string_view payload(*raw);
  uint64_t time_s = get_big_endian(payload.substr(4, 8));
  if (!key_.verify(message(text, time_s), payload.substr(12)))
    return fail(Errc::Corrupt, fmt::format("the cosignature of {} does not verify", name()));
  return time_s;
}

Result<std::string> cosign(const Signer& signer, std::string_view public_key, std::string_view text,
                           uint64_t time_s) {
  TRY(std::string signature, signer.sign(message(text, time_s)));
  const std::string& name = signer.verifier().name();
  std::string payload;
  put_big_endian(payload, cosigner_id(name, public_key), 4);
  put_big_endian(payload, time_s, 8);
  return fmt::format("{}{} {}", kDash, name, base64_encode(payload + signature));
}

}  // namespace tenure::ledger
