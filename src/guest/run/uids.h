// SPDX-License-Identifier: Apache-2.0
// The unprivileged uid of each guest, stable for its uuid (state/uids.json), from a configured
// range.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "guest/run/context.h"

namespace tenure::guest {

// nullopt when the settings have no range (unprivileged instance). Busy when the range is used up.
Result<std::optional<uint32_t>> uid_of(const Paths& paths, const Settings& settings,
                                       const std::string& uuid);

}  // namespace tenure::guest
