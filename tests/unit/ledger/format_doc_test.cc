// SPDX-License-Identifier: Apache-2.0
// The worked example of docs/ledger-format.md is what the ledger writes, byte for byte.
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/text.h"
#include "ledger/pending.h"
#include "ledger/writer.h"
#include "tests/unit/ledger/memory_disk.h"

namespace tenure::ledger {
namespace {

TEST(LedgerFormatDoc, ExampleIsTrue) {
  auto doc = read_file(TENURE_SOURCE_DIR "/docs/ledger-format.md", 1 << 20);
  ASSERT_TRUE(doc) << doc.error().what();
  MemoryDisk disk;
  auto ledger =
      open_on(disk.storage(), *Signer::from_seed("tenure/test", std::string(32, 's')), true);
  ASSERT_TRUE(ledger);
  ASSERT_TRUE((*ledger)->append({"a", "bb", ""}));
  ASSERT_TRUE((*ledger)->publish());
  ASSERT_TRUE((*ledger)->append({"ccc"}));
  Image image = disk.image();
  auto shown = [&](const std::string& text) {
    EXPECT_NE(doc->find(text), doc->npos) << "not in the document: " << text;
  };
  shown(image.files["checkpoint"]);
  shown(to_hex(image.files["tile/entries/000.p/3"]));
  shown(to_hex(image.files["tile/0/000.p/3"].substr(0, 32)));
  std::string frame = to_hex(image.files["pending.0"].substr(kPendingHeader.size()));
  for (size_t at = 0; at < frame.size(); at += 96) shown(frame.substr(at, 96));
}

}  // namespace
}  // namespace tenure::ledger
