// SPDX-License-Identifier: Apache-2.0
// Watches the fence of every running guest and records what changes behind our back. Where the
// kernel tells of a change (fanotify, tracepoints, inotify) it is looked at then; everything is
// looked at now and then all the same.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "daemon/guests.h"
#include "guest/run/context.h"
#include "guest/run/drift.h"

namespace tenure::daemon {

class DriftWatch {
 public:
  virtual ~DriftWatch() = default;  // ends the watch
  // What differs now of a running guest and has its record.
  virtual std::vector<guest::Difference> known(const std::string& uuid) const = 0;
};

// What cannot be watched is logged once, and polled.
std::unique_ptr<DriftWatch> watch_drift(guest::Context& context, Guests& guests,
                                        guest::OnDrift policy);

}  // namespace tenure::daemon
