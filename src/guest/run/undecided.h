// SPDX-License-Identifier: Apache-2.0
// Intents of a run whose result is not known, because tenured died between the two: which of them
// QEMU bears out, and their end in the trail (registrar/settle.h).
#pragma once

#include <asio/awaitable.hpp>
#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "domain/domain.h"
#include "guest/plan/plan.h"
#include "guest/run/context.h"
#include "guest/run/run_seams.h"
#include "kernel/process.h"
#include "qemu/qmp.h"
#include "registrar/replay.h"

namespace tenure::guest {

// Where to look.
struct Undecided {
  Context& context;
  registrar::OpenRun& run;
  const domain::Domain& domain;
  const HostOptions& options;
  RunSeams& seams;
};

// What a QEMU that lives holds of the intents, by their index; their records are completed by what
// it says. Without a monitor (null) only what its open files show is found.
asio::awaitable<std::set<uint64_t>> held_by_qemu(Undecided at, kernel::ProcessId process,
                                                 std::shared_ptr<qemu::Qmp> qmp);

// As registrar::settle(), what is in `held` being there. If `qemu_is_silent`, what only QEMU can
// tell stays pending otherwise: it may still do what it was told and has not read.
asio::awaitable<Result<>> settle_undecided(Undecided at, std::set<uint64_t> held,
                                           bool qemu_is_silent, std::string why);

}  // namespace tenure::guest
