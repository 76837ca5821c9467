// SPDX-License-Identifier: Apache-2.0
// All guests of this instance, defined and running, and the operations on them. Every refusal of a
// request is recorded with its requester. One thread: the event loop's.
#pragma once

#include <asio/awaitable.hpp>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/identity.h"
#include "daemon/definitions.h"
#include "guest/guest.h"
#include "guest/recover.h"
#include "guest/run/end_of_run.h"
#include "guest/start.h"
#include "registrar/replay.h"

namespace tenure::daemon {

struct GuestName {
  std::string name;
  std::string uuid;
};
inline GuestName name_of(const guest::Guest& guest) {
  return {guest.state().ref.vm, guest.state().ref.uuid};
}

// How a guest's state or picture goes to a file.
struct FileRequest {
  std::string op;      // save, dump, screenshot
  std::string path;    // absolute
  std::string format;  // dump, screenshot; "" for the default
};

struct StartOptions {
  bool discard_saved = false;  // boot, and forget what `stop --save` kept
  std::optional<bool> require_fence;
  std::optional<kernel::CgroupVersion> fence;
};

class Guests {
 public:
  Guests(guest::Context& context, Definitions definitions, std::map<std::string, uint64_t> last_run)
      : context_(context), definitions_(std::move(definitions)), last_run_(std::move(last_run)) {}

  // Takes over guests found by recovery and watches them; and what it could not end.
  void adopt(guest::Recovered recovered);

  asio::awaitable<Result<GuestName>> define(std::string xml, std::string source, Requester who);
  // Busy while a state of `stop --save` is kept, unless that is to be forgotten as well.
  asio::awaitable<Result<>> undefine(std::string guest, bool discard_saved, Requester who);
  asio::awaitable<Result<std::shared_ptr<guest::Guest>>> start(std::string guest,
                                                               StartOptions options, Requester who);
  asio::awaitable<Result<std::shared_ptr<guest::Guest>>> start_xml(std::string xml,
                                                                   std::string source,
                                                                   StartOptions options,
                                                                   Requester who);
  // A guest comes back from the file that save() or `stop --save` wrote.
  asio::awaitable<Result<std::shared_ptr<guest::Guest>>> restore(std::string path,
                                                                 StartOptions options,
                                                                 Requester who);
  asio::awaitable<Result<>> stop(std::string guest, std::chrono::seconds timeout, Requester who);
  // Its state is kept for the next start, and it stops.
  asio::awaitable<Result<>> stop_saving(std::string guest, Requester who);
  asio::awaitable<Result<>> to_file(std::string guest, FileRequest request, Requester who);
  // The file that `stop --save` has kept of this guest; "" if there is none.
  std::string saved_state(const std::string& uuid) const;
  asio::awaitable<Result<>> kill(std::string guest, Requester who);
  // pause, resume, reboot, reset, inject-nmi: guest::kVerbs.
  asio::awaitable<Result<>> control(std::string verb, std::string guest, Requester who);
  // A device joins; returns its alias. `xml` is one element of <devices>.
  asio::awaitable<Result<std::string>> attach(std::string guest, std::string xml,
                                              std::string source, Requester who);
  asio::awaitable<Result<>> detach(std::string guest, std::string device, guest::Patience patience,
                                   Requester who);
  asio::awaitable<Result<>> set(std::string guest, guest::Amounts amounts, guest::Patience patience,
                                Requester who);
  // A device becomes what `xml`, one element of <devices>, says of it.
  asio::awaitable<Result<std::string>> start_job(std::string guest, guest::BlockJobRequest request,
                                                 bool wait, Requester who);
  // abort, pivot, finish.
  asio::awaitable<Result<>> steer_job(std::string guest, std::string disk, std::string action,
                                      Requester who);
  // A disk of a running guest got another top image: so has the definition for the next run, where
  // it had the one before.
  asio::awaitable<void> follow_disk(guest::DiskMoved moved);
  asio::awaitable<Result<>> snapshot(std::string guest, guest::SnapshotRequest request,
                                     Requester who);
  asio::awaitable<Result<guest::Updated>> update(std::string guest, std::string xml,
                                                 std::string source, guest::Patience patience,
                                                 Requester who);
  // Audit lost a record and the policy is to pause or stop the guests: does it, on the record.
  asio::awaitable<void> act_on_audit_loss();

  // By name, uuid or unique uuid prefix; NotFound, or Invalid if the prefix fits several.
  Result<GuestName> find(const std::string& guest) const;
  std::shared_ptr<guest::Guest> running(const std::string& uuid) const;
  const Definition* definition(const std::string& uuid) const;
  const Definitions& definitions() const { return definitions_; }
  const std::map<std::string, std::shared_ptr<guest::Guest>>& all_running() const {
    return running_;
  }
  // Of runs that have ended: what could not be taken away.
  const std::vector<std::shared_ptr<guest::LeftOver>>& left_over() const { return left_over_; }
  void keep(guest::LeftOver left) {
    left_over_.push_back(std::make_shared<guest::LeftOver>(std::move(left)));
  }
  // Tries to take it away, now and then, as long as there is any; never ends.
  asio::awaitable<void> end_left_over();

 private:
  // Records that a request was refused, and why, and gives the error back.
  // `txn`: of the operation, if anything of it stands on the trail already; "" for one of its own.
  asio::awaitable<Error> refuse(std::string op, GuestName guest, Requester who, Error why,
                                std::string txn = "");
  asio::awaitable<Result<std::shared_ptr<guest::Guest>>> launch(
      std::unique_ptr<domain::Domain> domain, std::optional<guest::Saved> saved,
      StartOptions options, Requester who);
  asio::awaitable<Result<std::shared_ptr<guest::Guest>>> running_or_refuse(std::string op,
                                                                           std::string guest,
                                                                           Requester who);
  Result<> check_free(const domain::Domain& domain) const;
  // Busy if `stop --save` keeps a state of it other than `path`, which would be stale from now on.
  Result<> check_not_saved(const std::string& uuid, const std::string& path) const;
  void watch(const std::shared_ptr<guest::Guest>& guest);
  // Before this guest starts again, so that what it had is not taken for what it gets.
  asio::awaitable<void> end_left_over_of(std::string uuid);
  trail::Record definition_record(trail::Kind kind, const GuestName& guest, const std::string& virt,
                                  const Requester& who);

  guest::Context& context_;
  Definitions definitions_;
  std::map<std::string, uint64_t> last_run_;                      // by uuid
  std::map<std::string, std::shared_ptr<guest::Guest>> running_;  // by uuid
  std::map<std::string, std::string> starting_;                   // uuid -> name
  std::vector<std::shared_ptr<guest::LeftOver>> left_over_;
  registrar::Turns left_over_turns_;
};

}  // namespace tenure::daemon
