// SPDX-License-Identifier: Apache-2.0
// Controllers that a definition need not name: the machine's own, one USB controller, and whatever
// the addresses of disks and channels presuppose.
#include <algorithm>
#include <array>
#include <set>

#include "domain/complete.h"

namespace tenure::domain {
namespace {

bool has_type(const Domain& d, std::string_view type) {
  return std::ranges::any_of(d.controllers, [&](const Controller& c) { return c.type == type; });
}

void add(Domain& d, std::string_view type, uint32_t index, std::string_view model = "") {
  if (find_controller(d, type, index) != nullptr)
    return;
  d.controllers.push_back(Controller{.info = {.place = d.place},
                                     .type = std::string(type),
                                     .index = index,
                                     .model = std::string(model)});
}

void add_up_to(Domain& d, std::string_view type, uint32_t last) {
  for (uint32_t i = 0; i <= last; ++i) add(d, type, i);
}

void add_for_disks(Domain& d) {
  static constexpr std::array<std::string_view, 4> kTypes = {"ide", "sata", "scsi", "fdc"};
  for (std::string_view type : kTypes) {
    for (const Disk& disk : d.disks) {
      if (disk.bus == type)
        add_up_to(d, type, disk.info.address.controller);
    }
  }
}

bool on_virtio_serial(const Chardev& c) {
  return c.role == ChardevRole::Channel ||
         (c.role == ChardevRole::Console && c.target_type == "virtio");
}

void add_machines_own(Domain& d) {
  const bool q35 = is_q35(d);
  add(d, "pci", 0, q35 ? "pcie-root" : "pci-root");
  // A host controller that nobody asked for is libvirt's habit too: tablets and sticks need one.
  if (!has_type(d, "usb"))
    add(d, "usb", 0, q35 ? "qemu-xhci" : "piix3-uhci");
  if (q35)
    add(d, "sata", 0);
}

void fill_models(Domain& d) {
  for (Controller& c : d.controllers) {
    if (c.type == "usb" && c.model.empty())
      c.model = "piix3-uhci";
    if (c.type == "scsi" && c.model.empty())
      c.model = "lsilogic";
    if (c.type == "ide" && c.model.empty())
      c.model = "piix3";
  }
}

Result<> check_usb_none(const Domain& d) {
  const auto none = [](const Controller& c) { return c.type == "usb" && c.model == "none"; };
  const auto usb = [](const Controller& c) { return c.type == "usb"; };
  const auto first = std::ranges::find_if(d.controllers, none);
  if (first != d.controllers.end() && std::ranges::count_if(d.controllers, usb) > 1) {
    return fail(error_at(d, first->info.place, "<controller>: usb 'none' beside another one"));
  }
  return {};
}

Result<> check_fixed(const Domain& d, const Controller& c) {
  const bool q35 = is_q35(d);
  const auto wrong = [&](std::string_view why, Errc code = Errc::Invalid) -> Result<> {
    return fail(error_at(d, c.info.place, "<controller>: " + std::string(why), code));
  };
  if (c.type == "ide" && q35)
    return wrong("q35 has no ide controller; use sata");
  if (c.type == "ide" && c.index > 0)
    return wrong("a machine has one ide controller");
  if (c.type == "fdc" && c.index > 0)
    return wrong("a machine has one floppy controller");
  if (c.type != "pci")
    return {};
  const bool root = c.model == "pci-root" || c.model == "pcie-root";
  if (root != (c.index == 0))
    return wrong("index 0 is the root, and only the root");
  if (root && (c.model == "pcie-root") != q35)
    return wrong("a root of another machine");
  if (!q35 && c.model.starts_with("pcie") && !root)
    return wrong("PCI Express needs q35");
  if (!q35 && c.model == "dmi-to-pci-bridge")
    return wrong("dmi-to-pci-bridge needs q35");
  return {};
}

bool is_companion(const Controller& c) {
  return c.type == "usb" && c.model.starts_with("ich9-uhci");
}

Result<> check_all(const Domain& d) {
  std::set<std::pair<std::string, uint32_t>> seen;
  for (const Controller& c : d.controllers) {
    TRY_OK(check_fixed(d, c));
    if (is_companion(c))
      continue;  // shares the index of its ehci
    if (!seen.emplace(c.type, c.index).second) {
      return fail(error_at(d, c.info.place, "<controller>: this type and index are taken"));
    }
  }
  for (const Controller& c : d.controllers) {
    if (is_companion(c) && !seen.contains({"usb", c.index})) {
      return fail(error_at(d, c.info.place, "<controller>: a companion without its ich9-ehci1"));
    }
  }
  return {};
}

// A bus that only a higher one's index presupposes: a bridge, or a port of a PCI Express machine.
void fill_pci_gaps(Domain& d) {
  uint32_t last = 0;
  for (const Controller& c : d.controllers) {
    if (c.type == "pci")
      last = std::max(last, c.index);
  }
  for (uint32_t i = 1; i < last; ++i) add(d, "pci", i, is_q35(d) ? "pcie-root-port" : "pci-bridge");
}

}  // namespace

Controller* find_controller(Domain& d, std::string_view type, uint32_t index) {
  const auto same = [&](const Controller& c) {
    return c.type == type && c.index == index && !is_companion(c);
  };
  const auto found = std::ranges::find_if(d.controllers, same);
  return found == d.controllers.end() ? nullptr : &*found;
}

const Controller* find_controller(const Domain& d, std::string_view type, uint32_t index) {
  const auto same = [&](const Controller& c) {
    return c.type == type && c.index == index && !is_companion(c);
  };
  const auto found = std::ranges::find_if(d.controllers, same);
  return found == d.controllers.end() ? nullptr : &*found;
}

Result<> add_controllers(Domain& d) {
  add_machines_own(d);
  add_for_disks(d);
  for (const Chardev& c : d.chardevs) {
    if (on_virtio_serial(c))
      add_up_to(d, "virtio-serial", c.info.address.controller);
  }
  fill_models(d);
  fill_pci_gaps(d);
  TRY_OK(check_usb_none(d));
  return check_all(d);
}

}  // namespace tenure::domain
