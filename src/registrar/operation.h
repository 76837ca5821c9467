// SPDX-License-Identifier: Apache-2.0
// One operation of the registrar: claims -> durable intents -> act -> read back -> results, rolled
// back as one when a step fails. The only code that begins or ends a tenure. It knows the trail and
// the order of things; what an act *is* (a map update, an ACL entry, an open) is behind Seams.
//
// One thread: the event loop's.
#pragma once

#include <asio/awaitable.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/identity.h"
#include "kernel/fence.h"
#include "model/claim.h"
#include "registrar/journal.h"

namespace tenure::registrar {

// Which life of which guest the records speak of.
struct RunRef {
  std::string virt;  // "kvm", "qemu"
  std::string vm;
  std::string uuid;
  uint64_t run = 0;  // 0: of no run (define, a refused request)
};

// One operation, asked for by somebody.
struct Txn {
  std::string id;
  Requester who;
};

// A tenure that is open: the claim, and the ledger index of the intent that began it.
struct Hold {
  uint64_t grant = 0;
  model::Claim claim;
  std::string kept = {};  // why release() could not end it, at its last try
};

// What the run holds beside the claim at hand: what is shared with it stays.
using Others = std::vector<const model::Claim*>;

// Adds a tenure. An amount takes the place of the one before (model::replaces), and none of it is
// no tenure.
void add_hold(std::vector<Hold>& holds, Hold hold);

// The acts behind the claims of one run. The guest room has the real ones, tests a fake.
class Seams {
 public:
  virtual ~Seams() = default;
  // Makes the claim true and reads it back. It may complete claim.record with what came of it (an
  // interface name; reason=share where `others` have it all already, and nothing was changed).
  virtual Result<kernel::Outcome> apply(model::Claim& claim, const Others& others) = 0;
  // Takes it away and reads back that it is gone, but for what `others` need. `record` is that of
  // the release, to be completed with what was really taken (acl=w; reason=unshare for nothing).
  virtual Result<kernel::Outcome> withdraw(const model::Claim& claim, const Others& others,
                                           trail::Record& record) = 0;
  // The same of acts that may take long, to be run on a pool thread instead: what is returned owns
  // all that it uses. Null (as here) for all others. The record is completed before it runs.
  virtual std::function<Result<kernel::Outcome>()> slow_apply(const model::Claim&) { return {}; }
  virtual std::function<Result<kernel::Outcome>()> slow_withdraw(const model::Claim&,
                                                                 trail::Record&) {
    return {};
  }
  // Of a claim without an act, after all acts of its release: looks whether the guest has let go of
  // it, unless something that stays has it too. Busy, with what it still has, if not.
  virtual Result<> confirm_gone(const model::Claim& claim, const Others& staying) = 0;
};

// Puts virt, vm, uuid, run, txn and the requester into a record.
void stamp(trail::Record& record, const RunRef& run, const Txn& txn);

// True for claims that the registrar itself acts on (cgroup, ACL, opens); the others are QEMU's,
// confirmed by looking at it.
bool has_act(const model::Claim& claim);

class Operation {
 public:
  // `held` is what the run holds already, if it runs; it outlives the operation and does not change
  // meanwhile.
  Operation(Journal& journal, RunRef run, Txn txn, Seams& seams,
            const std::vector<Hold>* held = nullptr)
      : journal_(journal), run_(std::move(run)), txn_(std::move(txn)), seams_(seams), held_(held) {}

  // Makes the intents of all claims and of the operation's own VIRT_CONTROL record, if it has one,
  // durable in one write. May be called again for claims that only what was done shows.
  asio::awaitable<Result<>> intend(std::vector<model::Claim> claims,
                                   std::optional<trail::Record> control);

  // Acts on every claim that has an act and was not acted on, in order, and emits the results. On
  // the first refusal, or when the audit system loses a record, it returns the error; call
  // roll_back() then.
  asio::awaitable<Result<>> apply();

  // The claims without an act, for the caller to confirm in QEMU and to complete (a pty's path).
  std::vector<model::Claim*> unconfirmed();

  // QEMU was asked for the claims without an act and refused: roll_back() records them as failed.
  // Without this they were never tried, and nothing is said of them.
  void refuse_unconfirmed();

  // They are true: emits their results, then the operation's own record, and commits.
  asio::awaitable<Result<>> conclude(std::optional<trail::Record> control);
  // The operation's own record went out as a success, confirmed or not: from here on it has not
  // failed, and what follows is an end of its own (a start that is undone is a stop).
  bool announced() const { return announced_; }

  // Withdraws what was granted, records it, ends the untried intents, writes `control` with its
  // own success and with why=, and commits. What cannot be taken away stays for take_holds().
  asio::awaitable<Result<>> roll_back(std::optional<trail::Record> control, const Error& why);

  // What is held now, in the order of the grants; the operation forgets it.
  std::vector<Hold> take_holds();
  const RunRef& run() const { return run_; }
  const Txn& txn() const { return txn_; }

 private:
  enum class State { Intended, Granted, Failed, Refused };
  struct Step {
    Hold hold;
    State state = State::Intended;
    trail::Record intent{trail::Kind::Control};
  };
  trail::Record result_of(const Step& step, bool success) const;
  trail::Record finish(trail::Record control);
  Others others() const;
  std::vector<trail::Record> refusals(const Error& why);
  std::vector<trail::Record> kept(const Error& why);
  std::vector<trail::Record> untried();

  Journal& journal_;
  RunRef run_;
  Txn txn_;
  Seams& seams_;
  const std::vector<Hold>* held_;
  std::vector<Step> steps_;
  std::optional<uint64_t> control_intent_;  // until it has its result
  bool announced_ = false;
};

// Something ended by itself, after the one moment and before the other (ms since 1970 UTC).
struct Bounds {
  int64_t from_ms = 0;
  int64_t to_ms = 0;
};
void set_bounds(trail::Record& record, const Bounds& bounds);

// How and why tenures end.
struct Ending {
  std::string reason;            // the word of libvirt's trail for it: stop, detach
  std::string why;               // into the records, if not empty
  std::optional<Bounds> bounds;  // where nothing is left to withdraw, as it had ended before
  const std::vector<Hold>* staying = nullptr;  // what the run goes on to hold
  bool repeated = false;  // tried before: what fails in the same words is not recorded again
};

// Ends tenures: acts in reverse order of their grants, then a look at what has none, then one
// release record each; what could not be withdrawn is recorded as failed and given back, with why.
// Does not commit.
asio::awaitable<Result<std::vector<Hold>>> release(Journal& journal, RunRef run, Txn txn,
                                                   Seams& seams, std::vector<Hold> holds,
                                                   Ending ending);

// The record that ends a tenure, from the record that began it.
trail::Record release_record(const Hold& hold, std::string_view reason);

}  // namespace tenure::registrar
