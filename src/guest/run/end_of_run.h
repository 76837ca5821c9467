// SPDX-License-Identifier: Apache-2.0
// The end of all tenures of a run, and what is left of it where that cannot be.
#pragma once

#include <asio/awaitable.hpp>
#include <string>
#include <vector>

#include "guest/run/context.h"
#include "registrar/operation.h"

namespace tenure::guest {

// registrar::release(), and again for what could not be taken away: nobody else would do it before
// the next start of tenured, and the guest could not be started meanwhile. Gives up after about a
// second, and returns what is left.
asio::awaitable<Result<std::vector<registrar::Hold>>> release_all(
    Context& context, registrar::RunRef run, registrar::Txn txn, registrar::Seams& seams,
    std::vector<registrar::Hold> holds, registrar::Ending ending);

// A run that has ended and whose tenures have not all: what is left stays open in the ledger, and
// the next start of tenured tries again.
struct LeftOver {
  registrar::RunRef ref;
  std::vector<registrar::Hold> holds;
};

// One of them for people: "grant 17, acl /srv/a.img (disk0): …".
std::string still_held(const registrar::Hold& hold);
// All, or the first and how many more: "still held: 2 tenures: …; …".
std::string still_held(const std::vector<registrar::Hold>& holds);

}  // namespace tenure::guest
