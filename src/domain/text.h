// SPDX-License-Identifier: Apache-2.0
// The text of a definition and of its devices: found, changed in place and compared, with all that
// people wrote into it. Pure. Everything that comes in has been through parse().
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "domain/domain.h"

namespace tenure::domain {

// The element of the device of that alias, of those that come and go; NotFound.
Result<std::string> device_text(std::string_view definition, std::string_view alias);

// The element of a drive with another medium (kind, path and format of `disk`), or none; that of an
// interface with another bridge or link state.
std::string with_medium(std::string_view element, const Disk& disk);
// The element of a disk with another chain: kind, path, format and backing of `disk`.
std::string with_chain(std::string_view element, const Disk& disk);
std::string with_connection(std::string_view element, const Interface& nic);

// The definition without the devices of these aliases and with these elements, given as alias and
// text. Errors: as parse().
Result<std::string> definition_text(
    std::string_view definition, const std::set<std::string>& without,
    const std::vector<std::pair<std::string, std::string>>& additions);

// The definition with another element in the place of that device; the rest is as it was written.
// NotFound; Invalid if its place cannot be told.
Result<std::string> with_element(std::string definition, std::string_view alias,
                                 std::string_view element);

// The definition with <uuid> after its <name>. Invalid, with the element to write, if there is no
// place for it that can be told.
Result<std::string> with_uuid(std::string definition, const Uuid& uuid);

// What differs between two definitions of a guest: aliases of devices, names of other elements;
// each once, sorted. Aliases, and addresses, MACs and chains that only one of the two states, are
// no difference. Errors: as parse().
Result<std::vector<std::string>> differences(std::string_view one, std::string_view other);

}  // namespace tenure::domain
