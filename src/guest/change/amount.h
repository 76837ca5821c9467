// SPDX-License-Identifier: Apache-2.0
// Memory, vCPUs and iothreads of a running guest: amounts that change. Each record says what QEMU
// reports, never what was asked for. The caller holds the guest's turn.
#pragma once

#include <asio/awaitable.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "guest/change/change.h"
#include "guest/run/live.h"

namespace tenure::guest {

// What is asked for; what is not given stays as it is.
struct Amounts {
  std::optional<uint64_t> memory_kib;
  std::optional<uint32_t> vcpus, iothreads;
};

// Asks the balloon driver; only the request is recorded here, for what the guest gives back comes
// by BALLOON_CHANGE (note_memory). Unsupported without a balloon, Invalid beyond the guest's
// memory.
asio::awaitable<Result<>> set_memory(Live& live, uint64_t kib, registrar::Txn txn);

// One by one; stops at the first that QEMU or the guest refuses, with the count reached on the
// record. Unplugging waits for the guest as long as `patience` says.
asio::awaitable<Result<>> set_vcpus(Live& live, uint32_t count, Patience patience,
                                    registrar::Txn txn);
asio::awaitable<Result<>> set_iothreads(Live& live, uint32_t count, registrar::Txn txn);

// What the open tenure says that the guest has.
uint64_t held_memory_kib(const Live& live);
// Asks QEMU what the guest has, after `device` went, and records it as reason=update if it is not
// what the tenure says.
asio::awaitable<Result<>> note_reported_memory(Live& live, std::string device, std::string why,
                                               registrar::Txn txn);

// What the definition wants the guest to give back at its start: <currentMemory> in KiB, where that
// is less than its memory and there is a balloon.
std::optional<uint64_t> balloon_at_start(const domain::Domain& domain);
// Why nothing comes of it, "" if something does or it asks for nothing.
std::string ignored_current_memory(const domain::Domain& domain);

// The balloon driver says that the guest has this much now.
asio::awaitable<Result<>> note_memory(Live& live, uint64_t kib, registrar::Txn txn);

// Asks QEMU for all three and records what differs from the tenures: it changed while nobody
// watched.
asio::awaitable<Result<>> note_amounts(Live& live, registrar::Txn txn);

}  // namespace tenure::guest
