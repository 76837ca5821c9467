// SPDX-License-Identifier: Apache-2.0
// What stands in a ledger's folder, by the names alone.
#pragma once

#include <functional>
#include <set>
#include <string>

#include "ledger/storage.h"
#include "ledger/tile.h"

namespace tenure::ledger {

struct ListingSink {
  std::function<void(std::string where, std::string what)> problem;
  std::function<void(std::string what)> note;  // of a leftover that nobody reads
};

// All tiles that lie below tile/. `empty`: nothing is published, so that there may be no such
// folder. Partial tiles may go at any time, as a writer that has filled the tile removes them.
std::set<TileRef> list_files(const Storage& storage, bool empty, const ListingSink& sink);

}  // namespace tenure::ledger
