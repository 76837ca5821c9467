// SPDX-License-Identifier: Apache-2.0
// Looks at a started QEMU and says whether each device claim is true (DESIGN law 1): by its open
// files, its uid and capabilities, and its own answers over QMP.
#pragma once

#include <asio/awaitable.hpp>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "guest/plan/facts.h"
#include "guest/run/run_seams.h"
#include "kernel/process.h"
#include "model/claim.h"
#include "qemu/qmp.h"

namespace tenure::guest {

// Completes the claims' records with what only QEMU knows (the path of a pty, the size of memory).
// The error names the first claim that QEMU does not bear out.
asio::awaitable<Result<>> confirm(const std::shared_ptr<qemu::Qmp>& qmp, kernel::ProcessId process,
                                  const Facts& facts, const RunSeams& seams,
                                  std::vector<model::Claim*> claims);

// The same for each claim by itself, for a QEMU of which it is not known how far it got: true where
// it bears the claim out (and the claim's record is complete then), false if it does not, an error
// where that cannot be told. A device must be in its machine, a disk's image in its block nodes,
// whatever else of the guest has the same node open. Without a monitor (null) what its open files
// show is borne out, and nothing is denied. A NetOpen claim is one of its open descriptors of that
// device.
asio::awaitable<std::vector<Result<bool>>> confirm_each(const std::shared_ptr<qemu::Qmp>& qmp,
                                                        kernel::ProcessId process,
                                                        const Facts& facts, const RunSeams& seams,
                                                        std::vector<model::Claim*> claims);

// What the guest has, in KiB, by QEMU's answers to query-memory-size-summary and query-balloon
// (null without a balloon): memory of its boot and of modules, without what the balloon took. 0 if
// they do not say. May throw json::exception for answers that are not of their schema.
uint64_t memory_kib_of(const nlohmann::json& summary, const nlohmann::json& balloon);

// QEMU runs as `uid` with no capability; Internal otherwise. nullopt (unprivileged instance):
// nothing to look at.
Result<> confirm_confinement(kernel::ProcessId process, std::optional<uint32_t> uid);

}  // namespace tenure::guest
