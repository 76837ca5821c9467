// SPDX-License-Identifier: Apache-2.0
// tenure.conf (TOML): what an administrator may choose. See tenure.conf(5).
#pragma once

#include <optional>
#include <string>

#include "base/paths.h"
#include "base/result.h"
#include "daemon/witness.h"
#include "guest/run/context.h"
#include "guest/run/drift.h"
#include "kernel/cgroup.h"
#include "registrar/journal.h"

namespace tenure::daemon {

struct Config {
  guest::Settings guest;
  std::optional<kernel::CgroupVersion> fence;  // nullopt: v2 where it works, else v1
  registrar::OnAuditLoss on_audit_loss = registrar::OnAuditLoss::Refuse;
  guest::OnDrift on_drift = guest::OnDrift::Report;
  WitnessConfig witness;
  uint32_t verify_hours = 24;  // between verifications of the ledger; 0: never
  bool audit = true;           // false: the ledger alone is the trail
};

// An absent file gives the defaults; an unknown key or a wrong value is Invalid with file, line and
// column.
Result<Config> load_config(const Paths& paths);

}  // namespace tenure::daemon
