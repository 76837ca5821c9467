// SPDX-License-Identifier: Apache-2.0
// The end of all tenures of a run, and what is left of it where that cannot be.
#pragma once

#include <asio/awaitable.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "domain/domain.h"
#include "guest/run/context.h"
#include "guest/run/run_seams.h"
#include "registrar/operation.h"

namespace tenure::guest {

// registrar::release(), and again for what could not be taken away: nobody else would do it before
// the next start of tenured, and the guest could not be started meanwhile. Gives up after about a
// second, and returns what is left.
asio::awaitable<Result<std::vector<registrar::Hold>>> release_all(
    Context& context, registrar::RunRef run, registrar::Txn txn, registrar::Seams& seams,
    std::vector<registrar::Hold> holds, registrar::Ending ending);

// A run that has ended and whose tenures have not all: what is left stays open in the ledger.
struct LeftOver {
  registrar::RunRef ref;
  std::vector<registrar::Hold> holds;
  // Their acts. Null where it is not known what else the run holds: then only the next start of
  // tenured tries again, which asks for that first.
  std::shared_ptr<registrar::Seams> seams;
  int64_t tried_ms = system_clock().realtime_ns() / 1'000'000;  // when it was tried last
};

// The acts of a run that goes no further, with the definition to which they refer.
std::shared_ptr<registrar::Seams> kept_with(std::unique_ptr<domain::Domain> domain,
                                            std::unique_ptr<RunSeams> seams);

// Tries once more to end them, and forgets the run with the last of them. What fails as it did
// before is not recorded again. The guest must not run meanwhile; errors are logged.
asio::awaitable<void> end_left_over(Context& context, LeftOver& left);

// One of them for people: "grant 17, acl /srv/a.img (disk0): …".
std::string still_held(const registrar::Hold& hold);
// All, or the first and how many more: "still held: 2 tenures: …; …".
std::string still_held(const std::vector<registrar::Hold>& holds);

}  // namespace tenure::guest
