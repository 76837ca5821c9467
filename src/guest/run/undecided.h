// SPDX-License-Identifier: Apache-2.0
// Intents of a run whose result is not known, because tenured died between the two: which of them
// QEMU bears out, and their end in the trail (registrar/settle.h).
#pragma once

#include <asio/awaitable.hpp>
#include <cstdint>
#include <map>
#include <memory>
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

// By the index of an intent: whether QEMU holds what it is of; an error where that cannot be told.
using Verdicts = std::map<uint64_t, Result<bool>>;

// Of the intents that QEMU itself has to tell of, while it lives; the records of those that it
// bears out are completed by what it says. Without a monitor (null): confirm_each().
asio::awaitable<Verdicts> ask_qemu(Undecided at, kernel::ProcessId process,
                                   std::shared_ptr<qemu::Qmp> qmp);

// As registrar::settle(): by the verdicts, and by the kernel for what has none or is denied. What
// cannot be told stays pending.
asio::awaitable<Result<>> settle_undecided(Undecided at, Verdicts verdicts, std::string why);

}  // namespace tenure::guest
