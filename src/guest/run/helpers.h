// SPDX-License-Identifier: Apache-2.0
// Processes of a guest's own beside its QEMU (virtiofsd): started in its cgroups before QEMU may
// use them, watched, looked at, and ended with it. Each is init of a pid namespace, so that its
// pidfd speaks for all that it starts.
#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "domain/domain.h"
#include "guest/plan/facts.h"
#include "guest/run/run_state.h"
#include "model/claim.h"

namespace tenure::guest {

class RunSeams;
struct Context;

struct Helper {
  HelperState state;
  UniqueFd pidfd;
  UniqueFd socket;  // QEMU's end of the connection, until QEMU has it
};
using Helpers = std::map<std::string, Helper>;  // by alias of the device

// Starts what serves the folders of `devices`, in the cgroups of `seams`, and notes it in the
// run's state, which is saved. What was started before an error stays for end_helpers(). Blocking
// for the few ms that it takes.
Result<> start_helpers(const Context& context, const domain::Domain& devices, const Facts& facts,
                       const HostOptions& options, RunSeams& seams, RunState& state);

// Those of the state that still run, by pid and start time; for a run that outlived its daemon.
// Whoever cannot be looked at is neither alive nor dead: an error.
Result<Helpers> find_helpers(const RunState& state);
// Of a run whose daemon died before it wrote QEMU's pid down: who can be its QEMU, by cgroup or
// else by arguments. Where there are helpers, which come before QEMU, by both.
Result<std::vector<pid_t>> qemu_candidates(const RunSeams& seams, const RunState& state,
                                           bool helpers);

bool has_exited(const Helper& helper);
// "exit status 1", "signal 9"; reaps it. "" for one that is not our child.
std::string how_it_ended(const Helper& helper);

// Waits that long for it to end by itself, then kills it; forgets it once it is gone. Nothing for
// an alias without one. Timeout: it does not die, and stays known.
asio::awaitable<Result<>> end_helper(asio::any_io_executor executor, RunSeams& seams,
                                     std::string alias, std::chrono::milliseconds patience);
// All of them at once, without patience; the first error.
asio::awaitable<Result<>> end_helpers(asio::any_io_executor executor, RunSeams& seams);

// Whether the process ends within that time.
asio::awaitable<bool> exits_within(asio::any_io_executor executor, int pidfd,
                                   std::chrono::milliseconds patience);

// Whether the definition has devices with helpers.
bool has_helpers(const domain::Domain& domain);
// A helper that was not written down has lost its only peer with the daemon that started it, and
// ends: waits for that, for 2 s at most. What stays in the cgroup is for the drift watch to tell.
asio::awaitable<void> let_strays_end(asio::any_io_executor executor, RunSeams& seams, pid_t qemu);

// The processes of a helper: of the guest's cgroup if it has one, else of the whole host.
Result<std::vector<pid_t>> processes_of(const Helper& helper, const RunSeams& seams);
// `pid` is the helper or was started by it, and runs the same program.
bool is_of_helper(pid_t pid, const Helper& helper);
// Its capabilities are none but those it serves with.
bool has_shed_capabilities(pid_t pid);

// Law 1: the helper runs, one of its processes has the folder of the claim for its root, read-only
// if the claim says so, and none has more rights than it serves with. Internal if that is not so;
// any other error is a look that failed.
Result<> confirm_served(const Helper& helper, const RunSeams& seams, const model::Claim& claim);

}  // namespace tenure::guest
