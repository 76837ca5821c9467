// SPDX-License-Identifier: Apache-2.0
// The exit codes of `tenure`: one table for every command, so that a script can tell "nothing
// found" from "could not look" and both from "looked, but the trail has holes".
#pragma once

#include "base/result.h"

namespace tenure::cli {

enum class ExitCode : int {
  Ok = 0,                 // found, or done
  NothingFound = 1,       // looked everywhere, completely: nothing matches
  Usage = 2,              // the command line is wrong
  NotPermitted = 3,       // EPERM, EACCES, or refused by policy
  NoSuchGuest = 4,        // no guest (name, uuid, unique prefix), device or file of that name
  Incomplete = 5,         // an answer was printed, but records are lost, cut or out of reach
  VerifyFailed = 6,       // the ledger does not verify
  DaemonUnreachable = 7,  // tenured does not run and could not be started
  Failed = 8,             // any other failure of an operation
  CheckFailed = 9,        // doctor: at least one check fails
};

inline int to_int(ExitCode code) {
  return static_cast<int>(code);
}

// The code for an operation's error: Denied is NotPermitted, NotFound is NoSuchGuest,
// Invalid is Usage, Lost (hang-up of the daemon) is DaemonUnreachable, everything else Failed.
ExitCode exit_code_of(const Error& error);

}  // namespace tenure::cli
