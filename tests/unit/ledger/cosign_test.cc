// SPDX-License-Identifier: Apache-2.0
// Cosignatures of witnesses: what verifies, and that nothing else does.
#include "ledger/cosign.h"

#include <gtest/gtest.h>

#include "base/text.h"

namespace tenure::ledger {
namespace {

const Signer& witness() {
  static const Signer signer = *Signer::from_seed("witness.example/w1", std::string(32, 'w'));
  return signer;
}
std::string public_key(const Signer& signer) {
  std::string vkey = signer.verifier().vkey();
  return base64_decode(vkey.substr(vkey.find('+', vkey.find('+') + 1) + 1))->substr(1);
}
const std::string kText = "tenure/test\n3\nXiIn2H2jeGJb5W+qQw5H1OITr61O0Tdzfdpv2luyi2o=\n";

TEST(Cosignature, VerifiesWithItsTime) {
  auto key = WitnessKey::from_public_key("witness.example/w1", public_key(witness()));
  ASSERT_TRUE(key);
  auto again = WitnessKey::from_vkey(key->vkey());
  ASSERT_TRUE(again) << again.error().what();
  auto line = cosign(witness(), public_key(witness()), kText, 1'700'000'000);
  ASSERT_TRUE(line);
  EXPECT_EQ(again->check(kText, *line), 1'700'000'000U);
}

TEST(Cosignature, NothingElseVerifies) {
  auto key = WitnessKey::from_public_key("witness.example/w1", public_key(witness()));
  auto line = *cosign(witness(), public_key(witness()), kText, 1'700'000'000);
  EXPECT_EQ(key->check("tenure/test\n4\nX\n", line).error().code(), Errc::Corrupt);
  // Another time than the one that was signed.
  std::string raw = *base64_decode(line.substr(line.rfind(' ') + 1));
  raw[11] = static_cast<char>(raw[11] ^ 1);
  std::string later = line.substr(0, line.rfind(' ') + 1) + base64_encode(raw);
  EXPECT_EQ(key->check(kText, later).error().code(), Errc::Corrupt);
  // Our own signature type is not a witness's, nor is another key of that name.
  std::string note = *sign_note(witness(), kText);
  std::string own(trim(note.substr(kText.size() + 1)));
  EXPECT_EQ(key->check(kText, own).error().code(), Errc::NotFound);
  Signer other = *Signer::from_seed("witness.example/w1", std::string(32, 'x'));
  EXPECT_FALSE(key->check(kText, *cosign(other, public_key(other), kText, 1)));
  EXPECT_FALSE(WitnessKey::from_vkey(witness().verifier().vkey())) << "type 0x01";
  for (const char* bad : {"", "a", "a+b", "a+00000000+AAAA"})
    EXPECT_FALSE(WitnessKey::from_vkey(bad));
}

}  // namespace
}  // namespace tenure::ledger
