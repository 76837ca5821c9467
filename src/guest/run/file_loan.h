// SPDX-License-Identifier: Apache-2.0
// A file of the host that QEMU has for the length of one operation: the daemon opened it and lends
// a descriptor. Granted on the record before QEMU can use it, released once QEMU has closed it.
#pragma once

#include <asio/awaitable.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "guest/run/context.h"
#include "guest/run/run_seams.h"
#include "guest/run/run_state.h"
#include "kernel/host_file.h"
#include "qemu/qmp.h"
#include "registrar/operation.h"

namespace tenure::guest {

// How long the bytes on their way to a file or from it may stand still.
inline constexpr std::chrono::seconds kFileStall{60};

// Who borrows. All outlive the loan.
struct Borrower {
  Context& context;
  const RunState& state;
  RunSeams& seams;
  const std::shared_ptr<qemu::Qmp>& qmp;  // where it is kept
  std::vector<registrar::Hold>& holds;
};

// How QEMU's command wants to have it.
enum class LoanBy {
  Name,   // getfd: "fd:NAME"
  FdSet,  // add-fd: "/dev/fdset/N"
};

class FileLoan {
 public:
  FileLoan(Borrower to, registrar::Txn txn)
      : to_(to),
        txn_(std::move(txn)),
        operation_(to.context.journal, to.state.ref, txn_, to.seams, &to.holds) {}

  // `role` of the record: save, restore, dump, screenshot. Returns what QEMU calls the file. On
  // failure QEMU does not have it, and the trail says so.
  asio::awaitable<Result<std::string>> lend(const kernel::HostFile& file, std::string role,
                                            LoanBy by);

  // Waits until QEMU has closed it, for a moment, and releases. `why` goes into the record. What
  // QEMU still has open then stays among the holds; Busy.
  asio::awaitable<Result<>> end(std::string why = "");

 private:
  asio::awaitable<Result<>> give(const kernel::HostFile& file);
  asio::awaitable<Result<>> look(const kernel::HostFile& file) const;
  asio::awaitable<void> take_back();

  Borrower to_;
  registrar::Txn txn_;
  registrar::Operation operation_;
  LoanBy by_ = LoanBy::Name;
  std::string name_;    // of getfd
  int64_t fdset_ = -1;  // of add-fd
};

// The roles of loans: what a daemon that died may have left open.
bool is_loan(const model::Claim& claim);

// Waits for the moment that QEMU needs to close the files of these tenures, then releases them;
// what it still has open is given back.
asio::awaitable<Result<std::vector<registrar::Hold>>> end_loans(Borrower to, registrar::Txn txn,
                                                                std::vector<registrar::Hold> loans,
                                                                std::string why);

}  // namespace tenure::guest
