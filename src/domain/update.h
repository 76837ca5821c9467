// SPDX-License-Identifier: Apache-2.0
// What an element says that is to replace that of a device of a running guest, and what it may:
// another medium in a drive, the link state of an interface, its bridge. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "domain/domain.h"

namespace tenure::domain {

struct Update {
  std::string alias;
  std::optional<Disk> drive;     // as it will be: with another medium, or none (path "")
  std::optional<Interface> nic;  // as it will be
};

// What `xml` leaves out stays as it is. Errors: as parse(); NotFound if there is no such device;
// Unsupported, with the place, where it says something else of what cannot be changed while the
// guest runs. An Update without drive and nic changes nothing.
Result<Update> plan_update(const Domain& running, std::string_view xml,
                           std::string_view source_name);

}  // namespace tenure::domain
