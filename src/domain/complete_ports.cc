// SPDX-License-Identifier: Apache-2.0
// Ports of virtio-serial controllers (channels, virtio consoles) and of USB controllers.
#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <tuple>
#include <vector>

#include "base/text.h"
#include "domain/complete.h"

namespace tenure::domain {
namespace {

constexpr uint32_t kSerialPorts = 31;  // max_ports of QEMU's virtio-serial, port 0 included

using PortSet = std::set<std::pair<uint32_t, uint32_t>>;  // controller, port

bool is_virtio_console(const Chardev& c) {
  return c.role == ChardevRole::Console && c.target_type == "virtio";
}

Result<> reserve_serial(const Domain& d, const Chardev& c, PortSet& taken) {
  const Address& a = c.info.address;
  const Controller* controller = find_controller(d, "virtio-serial", a.controller);
  if (controller == nullptr || a.port >= controller->ports.value_or(kSerialPorts)) {
    return fail(error_at(d, c.info.place, "no such virtio-serial controller or port"));
  }
  if (!taken.emplace(a.controller, a.port).second) {
    return fail(error_at(d, c.info.place, "this virtio-serial port is taken"));
  }
  return {};
}

// Port 0 is for consoles: old guests take whatever is there for one.
Result<> assign_serial(const Domain& d, Chardev& c, PortSet& taken) {
  for (const Controller& controller : d.controllers) {
    if (controller.type != "virtio-serial")
      continue;
    const uint32_t ports = controller.ports.value_or(kSerialPorts);
    for (uint32_t port = is_virtio_console(c) ? 0 : 1; port < ports; ++port) {
      if (!taken.emplace(controller.index, port).second)
        continue;
      c.info.address = {
          .kind = AddressKind::VirtioSerial, .controller = controller.index, .port = port};
      return {};
    }
  }
  return fail(error_at(d, c.info.place, "no free virtio-serial port: add a <controller>"));
}

Result<> assign_virtio_serial(Domain& d) {
  PortSet taken;
  std::vector<Chardev*> open;
  for (Chardev& c : d.chardevs) {
    const bool here = c.role == ChardevRole::Channel || is_virtio_console(c);
    const AddressKind kind = c.info.address.kind;
    if (here && kind == AddressKind::VirtioSerial)
      TRY_OK(reserve_serial(d, c, taken));
    if (here && kind == AddressKind::None)
      open.push_back(&c);
    if (here != (kind == AddressKind::VirtioSerial) && kind != AddressKind::None &&
        (here || kind == AddressKind::VirtioSerial)) {
      return fail(error_at(d, c.info.place, "an address of the wrong type"));
    }
  }
  for (Chardev* c : open) TRY_OK(assign_serial(d, *c, taken));
  return {};
}

struct UsbPorts {
  std::string_view model;
  uint32_t ports;
};
// Root ports of QEMU's host controllers; xhci counts its USB 2 ports.
constexpr std::array<UsbPorts, 8> kUsbPorts = {{{"piix3-uhci", 2},
                                                {"piix4-uhci", 2},
                                                {"vt82c686b-uhci", 2},
                                                {"pci-ohci", 3},
                                                {"ehci", 6},
                                                {"ich9-ehci1", 6},
                                                {"nec-xhci", 4},
                                                {"qemu-xhci", 4}}};

uint32_t usb_ports(const Controller& c) {
  const auto found = std::ranges::find(kUsbPorts, c.model, &UsbPorts::model);
  return c.ports.value_or(found == kUsbPorts.end() ? 0 : found->ports);
}

std::vector<DeviceInfo*> usb_devices(Domain& d) {
  std::vector<DeviceInfo*> all;
  for (Disk& x : d.disks) {
    if (x.bus == "usb")
      all.push_back(&x.info);
  }
  for (Input& x : d.inputs) {
    if (x.bus == "usb")
      all.push_back(&x.info);
  }
  for (Sound& x : d.sounds) {
    if (x.model == "usb")
      all.push_back(&x.info);
  }
  for (Chardev& x : d.chardevs) {
    if (x.target_type == "usb-serial" || x.role == ChardevRole::Redir)
      all.push_back(&x.info);
  }
  for (Hostdev& x : d.hostdevs) {
    if (x.kind == HostdevKind::Usb)
      all.push_back(&x.info);
  }
  return all;
}

Result<> reserve_usb(const Domain& d, const DeviceInfo& info, PortSet& taken) {
  const Controller* c = find_controller(d, "usb", info.address.controller);
  const auto port = parse_int<uint32_t>(info.address.usb_port);
  if (c == nullptr || c->model == "none")
    return fail(error_at(d, info.place, "no such USB controller"));
  if (!port) {
    return fail(
        error_at(d, info.place, "ports of USB hubs are not implemented", Errc::Unsupported));
  }
  if (*port == 0 || *port > usb_ports(*c))
    return fail(error_at(d, info.place, "no such USB port"));
  if (!taken.emplace(c->index, *port).second) {
    return fail(error_at(d, info.place, "this USB port is taken"));
  }
  return {};
}

Result<> assign_usb_port(const Domain& d, DeviceInfo& info, PortSet& taken) {
  const bool bus_given = info.address.kind == AddressKind::Usb;
  for (const Controller& c : d.controllers) {
    if (c.type != "usb" || c.model.starts_with("ich9-uhci"))
      continue;
    if (bus_given && c.index != info.address.controller)
      continue;
    for (uint32_t port = 1; port <= usb_ports(c); ++port) {
      if (!taken.emplace(c.index, port).second)
        continue;
      info.address.kind = AddressKind::Usb;
      info.address.controller = c.index;
      info.address.usb_port = std::to_string(port);
      return {};
    }
  }
  return fail(error_at(d, info.place, "no free USB port: add a <controller type='usb'>"));
}

Result<> assign_usb(Domain& d) {
  PortSet taken;
  const auto devices = usb_devices(d);
  for (const DeviceInfo* info : devices) {
    const Address& a = info->address;
    if (a.kind != AddressKind::None && a.kind != AddressKind::Usb) {
      return fail(error_at(d, info->place, "a USB device with an address of another type"));
    }
    if (!a.usb_port.empty())
      TRY_OK(reserve_usb(d, *info, taken));
  }
  for (DeviceInfo* info : devices) {
    if (info->address.usb_port.empty())
      TRY_OK(assign_usb_port(d, *info, taken));
  }
  return {};
}

}  // namespace

Result<> assign_ports(Domain& d) {
  TRY_OK(assign_virtio_serial(d));
  return assign_usb(d);
}

}  // namespace tenure::domain
