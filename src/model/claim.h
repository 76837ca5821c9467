// SPDX-License-Identifier: Apache-2.0
// What one device of a guest needs of the host. Plain values; pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/device_number.h"
#include "trail/record.h"

namespace tenure::model {

// A resource with the access and the reason. `kind` is the resrc value of the trail ("disk", "net",
// "net-open", "cgroup", "chardev", "rng", "mem", "vcpu", "file" …).
struct Claim {
  std::string kind;
  std::string id;                    // path, MAC, "c 136:*", count
  Access access;
  std::optional<DeviceNumber> rdev;  // of a device node, as looked up once
  bool any_minor = false;            // a class=major rule: rdev->minor is meaningless
  std::string holder;                // which device needs it: "disk vda", "interface net0", "memory"
  // The record of the grant, complete but for reason, txn, grant and requester.
  trail::Record record{trail::Kind{}};
};

}  // namespace tenure::model
