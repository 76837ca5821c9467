// SPDX-License-Identifier: Apache-2.0
// Proofs that can be carried away: "this entry is number N of that log", checkable anywhere with
// the log's public key alone (C2SP tlog-proof@v1, with the entry itself as its extra data), and
// "this newer state of the log contains that older one".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "ledger/hash.h"
#include "ledger/storage.h"

namespace tenure::ledger {

inline constexpr size_t kMaxProof = 256 * 1024;  // bytes of a proof file

struct ProvedEntry {
  std::string origin;
  uint64_t index = 0;
  uint64_t size = 0;  // of the tree that it is proved to be in
  std::string entry;
};

// The proof file for a published entry, from the tiles alone. NotFound if `index` is not published
// (yet). Checks itself: Corrupt if the ledger's tiles do not give a valid proof.
Result<std::string> make_proof(const std::string& dir, uint64_t index);
Result<std::string> make_proof_on(const Storage& storage, uint64_t index);

// Corrupt unless the log of `vkey` has signed a tree with this entry. Needs nothing but its
// arguments.
Result<ProvedEntry> check_proof(std::string_view proof, std::string_view vkey);

// RFC 6962 consistency proof between two sizes, 0 < old_size <= size <= published; see
// check_consistency() in ledger/hash.h.
Result<std::vector<Hash>> prove_consistency(const Storage& storage, uint64_t old_size,
                                            uint64_t size);

}  // namespace tenure::ledger
