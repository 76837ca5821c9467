// SPDX-License-Identifier: Apache-2.0
// One operation of the registrar: claims -> durable intents -> act -> read back -> results, rolled
// back as one when a step fails. The only code that begins or ends a tenure. It knows the trail and
// the order of things; what an act *is* (a map update, an ACL entry, an open) is behind Seams.
//
// One thread: the event loop's.
#pragma once

#include <asio/awaitable.hpp>
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
};

// The acts behind the claims of one run. The guest room has the real ones, tests a fake.
class Seams {
 public:
  virtual ~Seams() = default;
  // Makes the claim true and reads it back. It may complete claim.record with what came of it (an
  // interface name).
  virtual Result<kernel::Outcome> apply(model::Claim& claim) = 0;
  // Takes it away and reads back that it is gone. `others` still hold: what they share must stay.
  virtual Result<kernel::Outcome> withdraw(const model::Claim& claim,
                                           const std::vector<Hold>& others) = 0;
};

// Puts virt, vm, uuid, run, txn and the requester into a record.
void stamp(trail::Record& record, const RunRef& run, const Txn& txn);

// True for claims that the registrar itself acts on (cgroup, ACL, opens); the others are QEMU's,
// confirmed by looking at it.
bool has_act(const model::Claim& claim);

class Operation {
 public:
  Operation(Journal& journal, RunRef run, Txn txn, Seams& seams)
      : journal_(journal), run_(std::move(run)), txn_(std::move(txn)), seams_(seams) {}

  // Makes the intents of all claims and of the operation's own VIRT_CONTROL record durable in one
  // write.
  asio::awaitable<Result<>> intend(std::vector<model::Claim> claims, trail::Record control);

  // Acts on every claim that has an act, in order, and emits the results. On the first refusal, or
  // when the audit system loses a record, it returns the error; call roll_back() then.
  asio::awaitable<Result<>> apply();

  // The claims without an act, for the caller to confirm in QEMU and to complete (a pty's path).
  std::vector<model::Claim*> unconfirmed();

  // They are true: emits their results, then the operation's own record, and commits.
  asio::awaitable<Result<>> conclude(trail::Record control);
  // The operation's own record went out as a success, confirmed or not: from here on it has not
  // failed, and what follows is an end of its own (a start that is undone is a stop).
  bool announced() const { return announced_; }

  // Withdraws what was granted, records it, ends the untried intents, writes `control` with its
  // own success and with why=, and commits. What cannot be taken away stays for take_holds().
  asio::awaitable<Result<>> roll_back(trail::Record control, const Error& why);

  // What is held now, in the order of the grants; the operation forgets it.
  std::vector<Hold> take_holds();
  const RunRef& run() const { return run_; }
  const Txn& txn() const { return txn_; }

 private:
  enum class State { Intended, Granted, Failed };
  struct Step {
    Hold hold;
    State state = State::Intended;
    trail::Record intent{trail::Kind::Control};
  };
  trail::Record result_of(const Step& step, bool success) const;
  trail::Record finish(trail::Record control);

  Journal& journal_;
  RunRef run_;
  Txn txn_;
  Seams& seams_;
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

// Ends tenures: acts in reverse order of their grants, emits one release record each; what could
// not be withdrawn is recorded as failed and given back. `reason` is the word of libvirt's trail
// for it (stop, detach); `why` goes into the record if not empty; `bounds` do where nothing was
// left to withdraw, as it had ended before. Does not commit.
asio::awaitable<Result<std::vector<Hold>>> release(Journal& journal, RunRef run, Txn txn,
                                                   Seams& seams, std::vector<Hold> holds,
                                                   std::string reason, std::string why,
                                                   std::optional<Bounds> bounds = std::nullopt);

// The record that ends a tenure, from the record that began it.
trail::Record release_record(const Hold& hold, std::string_view reason);

}  // namespace tenure::registrar
