// SPDX-License-Identifier: Apache-2.0
// A running guest's whole state goes to a file and comes back from it: our head
// (save_header.h, docs/save-format.md) and QEMU's migration stream.
#pragma once

#include <asio/awaitable.hpp>
#include <string>

#include "guest/run/file_loan.h"
#include "guest/run/live.h"
#include "guest/run/run_state.h"
#include "kernel/host_file.h"

namespace tenure::guest {

// Stops the vCPUs and writes the state to `path` (kernel::open_output). The caller holds the
// guest's turn. On success QEMU has nothing left to run: end it. On failure the guest goes on as
// before and what was begun of a new file is removed.
asio::awaitable<Result<>> save(Live& live, std::string path, registrar::Txn txn);

// A guest in a file.
struct Saved {
  kernel::HostFile file;  // at the beginning of the stream
  RunState run;           // the definition, and what had joined and left
  bool paused = false;    // it was, when it was saved
  // Of `stop --save`: gone before the guest goes on, for its disks change from then on.
  bool once = false;
};

// Opens and checks it. Errors: those of kernel::open_input(); Invalid, Unsupported, Corrupt: it is
// no whole saved state.
Result<Saved> open_saved(const std::string& path);

// QEMU was started with -incoming defer: has it read the state. On failure QEMU has ended or is to
// be ended.
asio::awaitable<Result<>> load(Borrower to, Events& events, const Saved& saved, registrar::Txn txn);

// Where `stop --save` keeps a guest's state: state/save/UUID.
std::string managed_save_path(const Paths& paths, const std::string& uuid);

// Removes what a tenured that died has left there: states that were never finished, or are used up.
Result<> tidy_managed_saves(const Paths& paths);

// Just before its guest goes on. put_back(): it did not; used_up(): it did. Nothing unless `once`.
Result<> take_away(const Saved& saved);
Result<> put_back(const Saved& saved);
Result<> used_up(const Saved& saved);

}  // namespace tenure::guest
