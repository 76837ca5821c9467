// SPDX-License-Identifier: Apache-2.0
// The ledger's private key on disk. A new key gets its final name only after its ledger has been
// made, so that "there is a key but no ledger" always means that the ledger was taken away.
#pragma once

#include <string>

#include "base/result.h"
#include "ledger/note.h"

namespace tenure::ledger {

struct LoadedKey {
  Signer signer;
  bool confirmed = false;  // it has its final name: its ledger has been made before
};

// Reads <key_path>, or the key of an interrupted first start, or makes a new one (0600, O_EXCL).
// Denied if others than the owner may read it; Corrupt if <key_path>.pub is of another key or
// origin.
Result<LoadedKey> load_key(const std::string& key_path, const std::string& origin);

// Gives a new key its final name and writes <key_path>.pub (the vkey and a newline, 0644). Nothing
// to do if that has been done.
Result<> confirm_key(const std::string& key_path, const LoadedKey& key);

}  // namespace tenure::ledger
