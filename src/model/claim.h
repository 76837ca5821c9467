// SPDX-License-Identifier: Apache-2.0
// What one device of a guest needs of the host. Plain values; pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/device_number.h"
#include "trail/record.h"

namespace tenure::model {

// A resource with the access and the reason. Made by claim_of() from the record that will announce
// its grant, so that what is claimed and what is recorded cannot differ; the same function reads
// claims back out of the ledger.
struct Claim {
  std::string kind;  // the resrc value: "disk", "net", "net-open", "cgroup", "mem" …
  std::string id;    // path, MAC, category, count
  Access access;     // none where the kind knows no access
  std::optional<DeviceNumber> rdev;  // of a device node, as looked up once
  bool any_minor = false;            // a class=major rule: rdev->minor means nothing
  std::string holder;                // which device needs it: "disk:vda", "net0", "base"
  // The record of the grant, without txn, grant and requester.
  trail::Record record;
};

// Of memory, vCPUs and iothreads a guest has one amount: a new one ends the tenure of the old one.
bool replaces(const Claim& newer, const Claim& older);

// `record` has its kind's own keys set; for= (or device=) gives the holder.
Claim claim_of(trail::Record record);

}  // namespace tenure::model
