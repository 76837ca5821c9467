// SPDX-License-Identifier: Apache-2.0
// <controller>: one table says which models each type has, the rest are fields.
#include <algorithm>
#include <array>

#include "base/text.h"
#include "domain/parse.h"

namespace tenure::domain {
namespace {

struct ControllerModel {
  std::string_view type, model;
};
// What command_line_controller.cc can make. A model of "" is one that was not given.
constexpr std::array<ControllerModel, 38> kModels = {{
    {"pci", "pci-root"},
    {"pci", "pcie-root"},
    {"pci", "pci-bridge"},
    {"pci", "dmi-to-pci-bridge"},
    {"pci", "pcie-to-pci-bridge"},
    {"pci", "pcie-root-port"},
    {"pci", "pcie-switch-upstream-port"},
    {"pci", "pcie-switch-downstream-port"},
    {"pci", "pcie-expander-bus"},
    {"usb", ""},
    {"usb", "none"},
    {"usb", "piix3-uhci"},
    {"usb", "piix4-uhci"},
    {"usb", "ehci"},
    {"usb", "ich9-ehci1"},
    {"usb", "ich9-uhci1"},
    {"usb", "ich9-uhci2"},
    {"usb", "ich9-uhci3"},
    {"usb", "vt82c686b-uhci"},
    {"usb", "pci-ohci"},
    {"usb", "nec-xhci"},
    {"usb", "qemu-xhci"},
    {"sata", ""},
    {"ide", ""},
    {"ide", "piix3"},
    {"fdc", ""},
    {"scsi", ""},
    {"scsi", "auto"},
    {"scsi", "lsilogic"},
    {"scsi", "lsisas1068"},
    {"scsi", "lsisas1078"},
    {"scsi", "vmpvscsi"},
    {"scsi", "virtio-scsi"},
    {"scsi", "virtio-transitional"},
    {"scsi", "virtio-non-transitional"},
    {"virtio-serial", ""},
    {"virtio-serial", "virtio"},
    {"virtio-serial", "virtio-non-transitional"},
}};

void parse_model(const Element& e, Controller& c) {
  const std::string model = e.string("model");
  const auto same_type = [&](const ControllerModel& m) { return m.type == c.type; };
  const auto same = [&](const ControllerModel& m) { return same_type(m) && m.model == model; };
  if (std::ranges::none_of(kModels, same_type)) {
    e.unsupported("type '" + printable(c.type.substr(0, 64)) + "' is not implemented");
  } else if (std::ranges::none_of(kModels, same)) {
    e.unsupported("model '" + printable(model.substr(0, 64)) + "' is not implemented");
  }
  c.model = model == "auto" ? "" : model;
}

void parse_pci(const Element& e, Controller& c) {
  if (auto hole = e.child("pcihole64"))
    c.pcihole64_kib = hole->text_kib();
  if (auto model = e.child("model")) {
    c.pci_model_name = model->choice(
        "name", {"pci-bridge", "i82801b11-bridge", "pcie-pci-bridge", "pcie-root-port", "ioh3420",
                 "x3130-upstream", "xio3130-downstream", "pxb-pcie"});
  }
  if (auto target = e.child("target")) {
    c.chassis = target->number<uint32_t>("chassis", 0, 255);
    c.port = target->number<uint32_t>("port", 0, 255);
    c.chassis_nr = target->number<uint32_t>("chassisNr", 1, 255);
    c.bus_nr = target->number<uint32_t>("busNr", 1, 254);
    c.hotplug = target->flag("hotplug");
    if (auto node = target->child("node"))
      c.numa_node = node->text_number<uint32_t>(0, 127);
  }
}

void parse_virtio_driver(const Element& e, Controller& c) {
  auto driver = e.child("driver");
  if (!driver)
    return;
  c.info.virtio = parse_virtio(*driver);
  if (c.type != "scsi")
    return;
  c.queues = driver->number<uint32_t>("queues", 1, 1024);
  c.cmd_per_lun = driver->number<uint32_t>("cmd_per_lun", 1, 65535);
  c.max_sectors = driver->number<uint32_t>("max_sectors", 1, 65535);
  c.ioeventfd = driver->flag("ioeventfd");
  c.iothread = driver->number<uint32_t>("iothread", 1, 1024);
  if (!c.model.starts_with("virtio"))
    driver->invalid("only virtio-scsi has options");
}

}  // namespace

Controller parse_controller(const Element& e) {
  Controller c{.info = parse_info(e), .type = e.required("type")};
  c.index = e.number<uint32_t>("index", 0, 255).value_or(0);
  parse_model(e, c);
  if (c.type == "pci")
    parse_pci(e, c);
  if (c.type == "scsi" || c.type == "virtio-serial")
    parse_virtio_driver(e, c);
  if (c.type == "usb") {
    c.ports = e.number<uint32_t>("ports", 1, 15);
    if (c.ports && !c.model.ends_with("xhci"))
      e.invalid("only xhci has a number of ports");
    if (auto master = e.child("master"))
      c.master_port = master->number<uint32_t>("startport", 0, 5);
  }
  if (c.type == "virtio-serial") {
    c.ports = e.number<uint32_t>("ports", 1, 511);
    c.vectors = e.number<uint32_t>("vectors", 0, 1024);
  }
  return c;
}

}  // namespace tenure::domain
