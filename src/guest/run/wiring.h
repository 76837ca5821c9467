// SPDX-License-Identifier: Apache-2.0
// Between the plan and QEMU's command line: which fd and which image belongs to which device.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "domain/domain.h"
#include "guest/plan/facts.h"
#include "guest/run/run_seams.h"
#include "qemu/command_line.h"

namespace tenure::guest {

// Sockets that the daemon binds for chardevs in listening mode, by alias: QEMU's uid could not.
using ChardevSockets = std::map<std::string, UniqueFd>;
Result<ChardevSockets> bind_sockets(const domain::Domain& domain, const HostOptions& options);
// Unlinks them once the run has ended.
void unlink_sockets(const domain::Domain& domain, const HostOptions& options);

qemu::Wiring wire(const domain::Domain& domain, const Facts& facts, const RunSeams& seams,
                  const HostOptions& options, const ChardevSockets& sockets, int monitor_fd);

// Every fd that the wiring of a launch names.
std::vector<int> passed_fds(const RunSeams& seams, const ChardevSockets& sockets, int monitor_fd);

}  // namespace tenure::guest
