// SPDX-License-Identifier: Apache-2.0
// The key that the tests of the ledger sign with.
#pragma once

#include <string>

#include "ledger/note.h"

namespace tenure::ledger {

inline Signer test_signer() {
  return *Signer::from_seed("tenure/test", std::string(32, 's'));
}

}  // namespace tenure::ledger
