// SPDX-License-Identifier: Apache-2.0
// Definition + facts -> what a start needs: the claims, in the order in which they are made true,
// and the nodes of the guest's private /dev. A pure function: the dry run shows exactly what a
// start would do.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "domain/domain.h"
#include "guest/plan/facts.h"
#include "kernel/private_dev.h"
#include "model/claim.h"

namespace tenure::guest {

struct Plan {
  std::vector<model::Claim> claims;
  std::vector<kernel::DevNode> nodes;
};

// Two devices that need one node or one image have a claim each; the later one shares what the
// earlier one was allowed (reason=share). What the base list grants is no device's own.
Plan make_plan(const domain::Domain& domain, const Facts& facts, const HostOptions& options);

// The same for devices that join a running guest, or get something else (reason "update"):
// `devices` has nothing but them.
Plan plan_devices(const domain::Domain& devices, const Facts& facts, const HostOptions& options,
                  std::string_view reason = "attach");

// Claim::holder of all that these devices hold.
std::set<std::string> holder_names(const domain::Domain& devices);

// The name of a macvtap: the definition's, or one made of uuid and alias, so that it is found again
// after a crash.
std::string macvtap_name(const domain::Domain& domain, const domain::Interface& nic);
// Where a unix socket of a chardev lies: the definition's path, or one in the run's own folder.
std::string socket_path(const domain::Chardev& chardev, const HostOptions& options);

}  // namespace tenure::guest
