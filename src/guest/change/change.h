// SPDX-License-Identifier: Apache-2.0
// A device joins or leaves a running guest: claims, intents, acts, QEMU, read-back, results, rolled
// back as one. The caller holds the guest's turn.
#pragma once

#include <asio/awaitable.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "base/result.h"
#include "guest/run/live.h"

namespace tenure::guest {

// How a device is asked to leave.
struct Patience {
  std::chrono::milliseconds timeout{10'000};  // for the guest's answer
  bool force = false;  // revoke at once what can be, whatever the guest still has open
};

// `xml` is one element of <devices>. Returns the alias. On failure nothing is left granted; the
// trail has what was granted and released, and res=failed for what QEMU refused.
asio::awaitable<Result<std::string>> attach(Live& live, std::string xml, std::string source,
                                            registrar::Txn txn);

// `word` names the device (domain::find_device). Timeout, with what is still held, when the guest
// does not answer: the request stays armed, and the release is recorded when it lets go.
asio::awaitable<Result<>> detach(Live& live, std::string word, Patience patience,
                                 registrar::Txn txn);

// The guest has let go of the device: removes its backends, revokes, looks, records. Busy if QEMU
// still has something of it open.
asio::awaitable<Result<>> finish_detach(Live& live, std::string alias, std::string why,
                                        registrar::Txn txn);

// Aliases of devices that the definition has and QEMU has not: a daemon died while they came or
// went.
asio::awaitable<Result<std::vector<std::string>>> lost_devices(Live& live);

}  // namespace tenure::guest
