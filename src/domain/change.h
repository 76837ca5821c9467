// SPDX-License-Identifier: Apache-2.0
// What becomes of a running guest's definition when a device comes or goes. Pure; nothing that is
// there already gets another alias or address.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "domain/domain.h"

namespace tenure::domain {

struct Addition {
  Domain domain;      // with the device, complete
  std::string alias;  // of the device
  std::string xml;    // of the device, with alias, address and MAC as they are now
};

// `running` is complete; `xml` is one element of <devices>, as `virsh attach-device` takes it. A
// given alias is kept if it is free. Errors as parse() and complete(), with the place in
// `source_name`; Busy where the guest has no bus or slot left that takes a device while it runs.
Result<Addition> add_device(const Domain& running, std::string_view xml,
                            std::string_view source_name);

// The one device of an element of <devices>, in a Domain of its own. Errors: as parse().
Result<Domain> parse_element(std::string_view xml, std::string_view source_name);
// The element with the alias, address and MAC that the device of that alias has in `domain`.
std::string pinned_element(const Domain& domain, std::string_view alias, std::string_view xml);
// Where the elements of the devices that come and go start, and their aliases.
std::vector<std::pair<Place, std::string>> device_places(const Domain& domain);

// Takes the device out; NotFound if there is none of that alias.
Result<> remove_device(Domain& domain, std::string_view alias);

// A copy that has the device of that alias and no other, without memory, boot files and buses.
Domain only_device(const Domain& domain, std::string_view alias);

// Of all devices that can come and go.
std::vector<std::string> device_aliases(const Domain& domain);

// The alias of the device that `word` names: an alias; a disk's target or path; an interface's MAC
// or target; a channel's name; the path of a chardev, rng or input; the name of a shmem; the host's
// address of a hostdev; the tag, socket or folder of a filesystem; or, if it starts with '<', what
// the element has of these. NotFound; Invalid if it fits several.
Result<std::string> find_device(const Domain& domain, std::string_view word);

}  // namespace tenure::domain
