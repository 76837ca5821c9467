// SPDX-License-Identifier: Apache-2.0
// Controllers. Those that are part of the machine (roots, PIIX IDE, q35's SATA, i440fx's floppy
// controller) are not named; of the rest a bus comes before what sits on it.
#include <algorithm>
#include <array>
#include <vector>

#include "qemu/command_line_parts.h"

namespace tenure::qemu {
namespace {

using domain::Controller;

struct DeviceName {
  std::string_view type, model, device;
};
constexpr std::array<DeviceName, 25> kNames = {{
    {"pci", "pci-bridge", "pci-bridge"},
    {"pci", "dmi-to-pci-bridge", "i82801b11-bridge"},
    {"pci", "pcie-to-pci-bridge", "pcie-pci-bridge"},
    {"pci", "pcie-root-port", "pcie-root-port"},
    {"pci", "pcie-switch-upstream-port", "x3130-upstream"},
    {"pci", "pcie-switch-downstream-port", "xio3130-downstream"},
    {"pci", "pcie-expander-bus", "pxb-pcie"},
    {"usb", "piix3-uhci", "piix3-usb-uhci"},
    {"usb", "piix4-uhci", "piix4-usb-uhci"},
    {"usb", "ehci", "usb-ehci"},
    {"usb", "ich9-ehci1", "ich9-usb-ehci1"},
    {"usb", "ich9-uhci1", "ich9-usb-uhci1"},
    {"usb", "ich9-uhci2", "ich9-usb-uhci2"},
    {"usb", "ich9-uhci3", "ich9-usb-uhci3"},
    {"usb", "vt82c686b-uhci", "vt82c686b-usb-uhci"},
    {"usb", "pci-ohci", "pci-ohci"},
    {"usb", "nec-xhci", "nec-usb-xhci"},
    {"usb", "qemu-xhci", "qemu-xhci"},
    {"sata", "", "ahci"},
    {"fdc", "", "isa-fdc"},
    {"scsi", "lsilogic", "lsi"},
    {"scsi", "lsisas1068", "mptsas1068"},
    {"scsi", "lsisas1078", "megasas"},
    {"scsi", "vmpvscsi", "pvscsi"},
    {"virtio-serial", "", "virtio-serial-pci"},
}};

bool is_machines_own(const domain::Domain& d, const Controller& c) {
  const bool q35 = domain::is_q35(d);
  return (c.type == "pci" && c.index == 0) || c.type == "ide" || c.model == "none" ||
         (c.type == "sata" && c.index == 0 && q35) || (c.type == "fdc" && !q35);
}

Result<std::string> device_name(Builder& b, const Controller& c) {
  if (!c.pci_model_name.empty())
    return c.pci_model_name;
  if (c.type == "scsi" && c.model.starts_with("virtio")) {
    return Builder::virtio_name("virtio-scsi", c.model == "virtio-scsi" ? "virtio" : c.model);
  }
  if (c.type == "virtio-serial")
    return Builder::virtio_name("virtio-serial", c.model);
  const auto same = [&](const DeviceName& n) { return n.type == c.type && n.model == c.model; };
  const auto found = std::ranges::find_if(kNames, same);
  if (found == kNames.end())
    return fail(b.unsupported(c.info.place, "<controller>: not implemented"));
  return std::string(found->device);
}

// Models that the definition may name for one kind of bus.
bool fits(const Controller& c) {
  const std::string& name = c.pci_model_name;
  if (name.empty())
    return true;
  if (name == "ioh3420")
    return c.model == "pcie-root-port";
  const auto same = [&](const DeviceName& n) { return n.model == c.model && n.device == name; };
  return c.type == "pci" && std::ranges::any_of(kNames, same);
}

void add_pci_options(Json& options, const Controller& c) {
  const bool port = c.model == "pcie-root-port" || c.model == "pcie-switch-downstream-port";
  if (c.model == "pci-bridge")
    options.number("chassis_nr", c.chassis_nr.value_or(c.index));
  if (c.model == "pcie-expander-bus") {
    // Buses below the root are numbered from its own number downwards; high numbers are free.
    options.number("bus_nr", c.bus_nr.value_or(254 - 2 * c.index)).maybe("numa_node", c.numa_node);
  }
  if (!port)
    return;
  const domain::Address& a = c.info.address;
  options.number("port", c.port.value_or((a.slot << 3U) + a.function));
  options.number("chassis", c.chassis.value_or(c.index));
  options.maybe("hotplug", c.hotplug);
}

void add_usb_options(Json& options, const Controller& c) {
  if (c.ports)
    options.number("p2", *c.ports).number("p3", *c.ports);
}

void add_virtio_options(Json& options, const Controller& c) {
  Builder::virtio(options, c.info.virtio);
  if (c.type == "scsi") {
    options.maybe("num_queues", c.queues)
        .maybe("cmd_per_lun", c.cmd_per_lun)
        .maybe("max_sectors", c.max_sectors)
        .maybe("ioeventfd", c.ioeventfd);
    if (c.iothread)
      options.text("iothread", "iothread" + std::to_string(*c.iothread));
  } else {
    options.maybe("max_ports", c.ports).maybe("vectors", c.vectors);
  }
}

Result<> add_controller(Builder& b, const Controller& c) {
  TRY(const std::string name, device_name(b, c));
  if (!fits(c)) {
    return fail(b.invalid(c.info.place, "<controller>: model name " + c.pci_model_name +
                                            " is not of model " + c.model));
  }
  const bool port = c.model == "pcie-root-port" || c.model == "pcie-switch-downstream-port";
  if (c.hotplug && !port) {
    return fail(b.unsupported(c.info.place, "<controller>: 'hotplug' of this model"));
  }
  Json options("driver", name);
  domain::DeviceInfo info = c.info;
  if (c.model.starts_with("ich9-uhci")) {
    info.alias.clear();  // it is known by its ehci's
    const uint32_t first = c.model == "ich9-uhci1" ? 0 : c.model == "ich9-uhci2" ? 2 : 4;
    options.text("masterbus", b.bus_of("usb", c.index))
        .number("firstport", c.master_port.value_or(first));
  }
  if (c.type == "pci")
    add_pci_options(options, c);
  if (c.type == "usb")
    add_usb_options(options, c);
  if (c.type == "virtio-serial" || c.model.starts_with("virtio"))
    add_virtio_options(options, c);
  b.place(options, info);
  b.device(options);
  return {};
}

// PCI controllers in an order in which each one's bus is there before it.
Result<std::vector<const Controller*>> buses_in_order(Builder& b) {
  std::vector<const Controller*> waiting, ordered;
  for (const Controller& c : b.domain().controllers) {
    if (c.type == "pci" && c.index > 0)
      waiting.push_back(&c);
  }
  std::ranges::sort(waiting, {}, &Controller::index);
  while (!waiting.empty()) {
    const auto ready = [&](const Controller* c) {
      const uint32_t parent = c->info.address.controller;
      return std::ranges::none_of(waiting, [&](const Controller* w) { return w->index == parent; });
    };
    const auto next = std::ranges::find_if(waiting, ready);
    if (next == waiting.end()) {
      return fail(b.invalid(waiting.front()->info.place, "<controller>: PCI buses in a circle"));
    }
    ordered.push_back(*next);
    waiting.erase(next);
  }
  return ordered;
}

}  // namespace

Result<> add_controllers(Builder& b) {
  if (b.domain().iommu) {
    // Before all devices: what is plugged in earlier would not be translated.
    const domain::Iommu& iommu = *b.domain().iommu;
    Json options("driver", "intel-iommu");
    options.text("id", iommu.info.alias);
    if (iommu.intremap)
      options.text("intremap", *iommu.intremap ? "on" : "off");
    options.maybe("caching-mode", iommu.caching_mode);
    if (iommu.eim)
      options.text("eim", *iommu.eim ? "on" : "off");
    options.maybe("device-iotlb", iommu.iotlb).maybe("aw-bits", iommu.aw_bits);
    b.device(options);
  }
  TRY(const auto buses, buses_in_order(b));
  for (const Controller* c : buses) TRY_OK(add_controller(b, *c));
  const auto companion = [](const Controller& c) { return c.model.starts_with("ich9-uhci"); };
  for (const bool second : {false, true}) {
    for (const Controller& c : b.domain().controllers) {
      if (c.type == "pci" || is_machines_own(b.domain(), c) || companion(c) != second)
        continue;
      TRY_OK(add_controller(b, c));
    }
  }
  return {};
}

}  // namespace tenure::qemu
