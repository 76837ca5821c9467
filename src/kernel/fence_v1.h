// SPDX-License-Identifier: Apache-2.0
// The text of devices.list (Documentation/admin-guide/cgroup-v1/devices.rst). Pure.
#pragma once

#include <string_view>
#include <vector>

#include "base/result.h"
#include "kernel/fence.h"

namespace tenure::kernel {

// Sorted. Lost if a line allows all devices ("a *:* rwm", which is also how the kernel shows a
// cgroup that was never denied) or any major, since no guest of ours has such a rule; Corrupt for a
// line that is none of the kernel's.
Result<std::vector<AclRule>> parse_devices_list(std::string_view text);

}  // namespace tenure::kernel
