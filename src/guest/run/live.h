// SPDX-License-Identifier: Apache-2.0
// What a running guest is made of, for the operations on it. Each operation holds the guest's turn
// from its first look to its last record; an end of QEMU waits for it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "domain/domain.h"
#include "guest/run/context.h"
#include "guest/run/events.h"
#include "guest/run/run_seams.h"
#include "guest/run/run_state.h"
#include "qemu/qmp.h"
#include "registrar/turns.h"

namespace tenure::guest {

struct Live {
  Context& context;
  std::unique_ptr<domain::Domain> domain;  // as it is now; `seams` refers to it
  HostOptions options;
  RunState state;
  std::unique_ptr<RunSeams> seams;
  std::vector<registrar::Hold> holds;  // in the order of their grants
  std::shared_ptr<qemu::Qmp> qmp;      // null: no monitor
  Events events;
  registrar::Turns turns;
  registrar::Txn balloon_txn;                // of the last request; its id is "" if there was none
  std::map<std::string, Result<>> job_ends;  // of the last block job, by the disk's alias
  std::vector<std::shared_ptr<asio::steady_timer>> job_waiters;  // cancelled when one ends
};

}  // namespace tenure::guest
