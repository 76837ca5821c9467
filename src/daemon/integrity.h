// SPDX-License-Identifier: Apache-2.0
// Verifications made by the daemon, each on the record (VIRT_INTEGRITY_CHECK op=verify) with its
// verdict, what it covered, and who asked: the ledger as a whole, and the kernel's state against
// the open tenures. Only what was looked at here is recorded, never somebody else's verdict.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/thread_pool.hpp>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/identity.h"
#include "daemon/guests.h"
#include "guest/run/context.h"
#include "guest/run/live_check.h"

namespace tenure::daemon {

class Integrity {
 public:
  Integrity(guest::Context& context, const Guests& guests) : context_(context), guests_(guests) {}

  // Structure, hashes and signatures of all entries, in a thread of its own.
  asio::awaitable<Result<nlohmann::json>> verify_ledger(Requester who);
  // One running guest, or all if `guest` is empty. What differs is looked at twice, so that an
  // operation under way is not taken for a difference.
  asio::awaitable<Result<nlohmann::json>> verify_live(std::string guest, Requester who);
  // Verifies the ledger every so many hours, until the executor stops; 0: never.
  asio::awaitable<void> run_schedule(uint32_t hours);

 private:
  asio::awaitable<nlohmann::json> look_at(std::shared_ptr<guest::Guest> guest, Requester who);
  asio::awaitable<void> record(trail::Record record, Requester who);

  guest::Context& context_;
  const Guests& guests_;
  asio::thread_pool worker_{1};  // reading a long ledger takes seconds; the journal's pool is not
                                 // for that
};

}  // namespace tenure::daemon
