// SPDX-License-Identifier: Apache-2.0
// The steps of complete(), each a pure function over the Domain. Private to src/domain.
#pragma once

#include <string>
#include <string_view>

#include "domain/domain.h"

namespace tenure::domain {

// "web1.xml:12:7: message".
Error error_at(const Domain& domain, Place place, std::string_view message,
               Errc code = Errc::Invalid);

// complete_controllers.cc: the machine's own controllers, those that devices need, default models.
Result<> add_controllers(Domain& domain);
// complete_drives.cc: drive addresses of disks, from their targets; orders disks as libvirt does.
Result<> assign_drives(Domain& domain);
Result<> check_drives(const Domain& domain);
// complete_ports.cc: ports of virtio-serial and USB controllers.
Result<> assign_ports(Domain& domain);
// complete_pci.cc: PCI addresses, and the ports and bridges that these need.
Result<> assign_pci(Domain& domain);
// complete_memory.cc: slots of memory devices, and a cell for guests that can have them.
Result<> complete_memory(Domain& domain);
// complete_alias.cc: of all devices anew, or only of those that have none.
Result<> assign_aliases(Domain& domain);
Result<> assign_new_aliases(Domain& domain);

// What complete() does, for a complete Domain that devices without alias and address have joined.
Result<> complete_addition(Domain& domain);

// "vda" -> 0, "sdaa" -> 26.
uint32_t target_index(std::string_view target);

// The controller of this type and index, or nullptr.
Controller* find_controller(Domain& domain, std::string_view type, uint32_t index);
const Controller* find_controller(const Domain& domain, std::string_view type, uint32_t index);

}  // namespace tenure::domain
