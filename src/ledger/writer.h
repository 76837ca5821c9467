// SPDX-License-Identifier: Apache-2.0
// The Ledger over any storage: what Ledger::open() does once folder, lock and key are there.
#pragma once

#include <memory>

#include "base/result.h"
#include "ledger/ledger.h"
#include "ledger/note.h"
#include "ledger/storage.h"

namespace tenure::ledger {

// Opens, or makes if `may_create` and there is none, and mends. The signer's name is the origin.
// Corrupt if what is there is not a ledger of this key, or entries that were durable are missing.
Result<std::unique_ptr<Ledger>> open_on(std::unique_ptr<Storage> storage, Signer signer,
                                        bool may_create);

}  // namespace tenure::ledger
