// SPDX-License-Identifier: Apache-2.0
#include "ledger/note.h"
#include "tests/unit/ledger/test_signer.h"

#include <gtest/gtest.h>

namespace tenure::ledger {
namespace {

// Key and note of the example that the note format's first implementation documents.
constexpr char kKnownKey[] = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
constexpr char kKnownNote[] =
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "\xE2\x80\x94 PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

TEST(LedgerNote, OpensTheKnownNote) {
  auto key = Verifier::from_vkey(kKnownKey);
  ASSERT_TRUE(key) << key.error().what();
  EXPECT_EQ(key->vkey(), kKnownKey);
  auto text = open_note(*key, kKnownNote);
  ASSERT_TRUE(text) << text.error().what();
  EXPECT_EQ(text->size(), 99U);
}

TEST(LedgerNote, Base64HasOneSpelling) {
  EXPECT_EQ(base64_encode("f"), "Zg==");
  EXPECT_EQ(base64_encode("fo"), "Zm8=");
  EXPECT_EQ(base64_encode("foobar"), "Zm9vYmFy");
  EXPECT_EQ(*base64_decode("Zm8="), "fo");
  for (const char* bad : {"Zm8", "Zm9=", "Zh==", "Zm8=\n", "Zm8==", "=", "Z", "Zm 8=", "Zm-_"})
    EXPECT_FALSE(base64_decode(bad)) << bad;
}

TEST(LedgerNote, KeyGoesThroughPemAndVkey) {
  Signer signer = *Signer::generate("tenure/test");
  Signer again = *Signer::from_pem("tenure/test", *signer.to_pem());
  EXPECT_EQ(again.verifier().vkey(), signer.verifier().vkey());
  auto verifier = Verifier::from_vkey(signer.verifier().vkey());
  ASSERT_TRUE(verifier);
  std::string note = *sign_note(again, "text\n");
  EXPECT_EQ(*open_note(*verifier, note), "text\n");
}

TEST(LedgerNote, WrongKeysAreRefused) {
  std::string good = test_signer().verifier().vkey();
  std::string other_id = good;
  other_id[std::string("tenure/test+").size()] ^= 1;
  for (const std::string& bad : {std::string(), std::string("x"), std::string("a+b+c"), other_id,
                                 good + "\n", "b" + good, good.substr(0, good.size() - 4)})
    EXPECT_FALSE(Verifier::from_vkey(bad)) << bad;
  EXPECT_FALSE(Signer::from_pem("tenure/test", "-----BEGIN PRIVATE KEY-----\nAAAA\n"));
  EXPECT_FALSE(Signer::generate("with space"));
  EXPECT_FALSE(Signer::generate(""));
}

TEST(LedgerNote, CheckpointRoundTrip) {
  Signer signer = test_signer();
  std::string note = *sign_checkpoint(signer, {"tenure/test", 70000, leaf_hash("x")});
  auto opened = open_checkpoint(signer.verifier(), note);
  ASSERT_TRUE(opened) << opened.error().what();
  EXPECT_EQ(opened->size, 70000U);
  EXPECT_EQ(opened->root, leaf_hash("x"));
  EXPECT_EQ(peek_checkpoint(note)->size, 70000U);
}

TEST(LedgerNote, EveryBitOfACheckpointCounts) {
  Signer signer = test_signer();
  std::string note = *sign_checkpoint(signer, {"tenure/test", 12, leaf_hash("x")});
  for (size_t bit = 0; bit < note.size() * 8; ++bit) {
    std::string changed = note;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << bit % 8));
    EXPECT_FALSE(open_checkpoint(signer.verifier(), changed)) << bit;
  }
  for (size_t size = 0; size < note.size(); ++size)
    EXPECT_FALSE(open_checkpoint(signer.verifier(), note.substr(0, size))) << size;
}

TEST(LedgerNote, ASignedTextThatIsNoCheckpointIsRefused) {
  Signer signer = test_signer();
  std::string root = base64_encode(bytes_of(leaf_hash("x")));
  for (const std::string& text :
       {"tenure/test\n012\n" + root + "\n", "tenure/test\n-1\n" + root + "\n",
        std::string("tenure/test\n1\n\n"), "tenure/test\n1\n" + root + "\nmore\n",
        "other\n1\n" + root + "\n", "\n1\n" + root + "\n",
        "tenure/test\n1\n" + root.substr(4) + "\n", std::string("\n")}) {
    std::string note = *sign_note(signer, text);
    EXPECT_TRUE(open_note(signer.verifier(), note)) << text;
    EXPECT_FALSE(open_checkpoint(signer.verifier(), note)) << text;
  }
}

TEST(LedgerNote, OtherSignersAreLeftAlone) {
  Signer signer = test_signer();
  Signer witness = *Signer::from_seed("witness", std::string(32, 'w'));
  std::string text = checkpoint_text({"tenure/test", 1, leaf_hash("x")});
  std::string note = *sign_note(signer, text);
  std::string cosigned = note + sign_note(witness, text)->substr(text.size() + 1);
  EXPECT_TRUE(open_checkpoint(signer.verifier(), cosigned));
  EXPECT_FALSE(open_checkpoint(signer.verifier(), *sign_note(witness, text)));
}

}  // namespace
}  // namespace tenure::ledger
