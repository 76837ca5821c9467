// SPDX-License-Identifier: Apache-2.0
// The methods of org.tenure (org.tenure.varlink): JSON in, JSON out, nothing else. One thread: the
// event loop's.
#pragma once

#include <asio/awaitable.hpp>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/identity.h"
#include "daemon/drift.h"
#include "daemon/guests.h"
#include "daemon/integrity.h"
#include "daemon/witness.h"
#include "guest/run/context.h"

namespace tenure::daemon {

class Api {
 public:
  // `witness` may be null.
  Api(guest::Context& context, Guests& guests, Integrity& integrity, const DriftWatch& drift,
      const Witness* witness)
      : context_(context),
        guests_(guests),
        integrity_(integrity),
        drift_(drift),
        witness_(witness) {}

  // The reply to one call, complete: {"parameters":{…}} or
  // {"error":"org.tenure.NotFound","parameters":{"message":…}}. Never throws.
  asio::awaitable<nlohmann::json> call(nlohmann::json message, Requester who);

 private:
  using Reply = asio::awaitable<Result<nlohmann::json>>;
  Reply define(nlohmann::json parameters, Requester who);
  Reply undefine(nlohmann::json parameters, Requester who);
  Reply list(nlohmann::json parameters, Requester who);
  Reply status(nlohmann::json parameters, Requester who);
  Reply show(nlohmann::json parameters, Requester who);
  Reply start(nlohmann::json parameters, Requester who);
  Reply stop(nlohmann::json parameters, Requester who);
  Reply save(nlohmann::json parameters, Requester who);
  Reply restore(nlohmann::json parameters, Requester who);
  Reply dump(nlohmann::json parameters, Requester who);
  Reply screenshot(nlohmann::json parameters, Requester who);
  Reply kill(nlohmann::json parameters, Requester who);
  Reply control(nlohmann::json parameters, Requester who);
  Reply attach(nlohmann::json parameters, Requester who);
  Reply detach(nlohmann::json parameters, Requester who);
  Reply snapshot(nlohmann::json parameters, Requester who);
  Reply block_commit(nlohmann::json parameters, Requester who);
  Reply block_pull(nlohmann::json parameters, Requester who);
  Reply block_copy(nlohmann::json parameters, Requester who);
  Reply block_job(nlohmann::json parameters, Requester who);
  Reply set(nlohmann::json parameters, Requester who);
  Reply update(nlohmann::json parameters, Requester who);
  Reply console(nlohmann::json parameters, Requester who);
  Reply verify_ledger(nlohmann::json parameters, Requester who);
  Reply verify_live(nlohmann::json parameters, Requester who);
  Reply info(nlohmann::json parameters, Requester who);
  Reply describe(nlohmann::json parameters, Requester who);
  Reply service_info(nlohmann::json parameters, Requester who);

  struct Method {
    std::string_view name;
    Reply (Api::*run)(nlohmann::json, Requester);
  };
  static const Method kMethods[];

  guest::Context& context_;
  Guests& guests_;
  Integrity& integrity_;
  const DriftWatch& drift_;
  const Witness* witness_;
};

}  // namespace tenure::daemon
