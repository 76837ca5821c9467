// SPDX-License-Identifier: Apache-2.0
#include "guest/plan/host_devices.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace tenure::guest {
namespace {

using domain::Hostdev;
using domain::HostdevKind;

std::string pair_of(uint32_t vendor, uint32_t product) {
  return fmt::format("{:04x}:{:04x}", vendor, product);
}

bool fits(const Hostdev& wanted, const kernel::UsbDevice& found) {
  if (wanted.usb_bus && (found.bus != *wanted.usb_bus || found.device != *wanted.usb_device))
    return false;
  return !wanted.vendor || (found.vendor == *wanted.vendor && found.product == *wanted.product);
}

Result<HostdevFacts> look_up_usb(const Hostdev& wanted, const std::string& sysfs) {
  TRY(std::vector<kernel::UsbDevice> devices, kernel::usb_devices(sysfs));
  std::erase_if(devices, [&](const kernel::UsbDevice& found) { return !fits(wanted, found); });
  const std::string name = domain::host_address(wanted);
  if (devices.empty())
    return fail(Errc::NotFound, name + ": this host has no such USB device");
  if (devices.size() > 1)
    return fail(Errc::Invalid, fmt::format("{}: {} and {} fit; name one by <address bus= device=>",
                                           name, devices[0].address(), devices[1].address()));
  return HostdevFacts{.node = devices[0].node(),
                      .address = devices[0].address(),
                      .product = pair_of(devices[0].vendor, devices[0].product),
                      .group = {}};
}

// Drivers beside which VFIO takes a group (drivers/vfio/group.c: none, or one of its own, or a
// bridge's).
bool leaves_group_alone(const std::string& driver) {
  constexpr std::array<std::string_view, 4> kHarmless = {"", kVfioDriver, "pcieport", "pci-stub"};
  return std::ranges::find(kHarmless, driver) != kHarmless.end();
}

bool is_managed(const domain::Domain& domain, const std::string& address) {
  return std::ranges::any_of(domain.hostdevs, [&](const Hostdev& hostdev) {
    return hostdev.kind == HostdevKind::Pci && hostdev.managed && hostdev.host == address;
  });
}

Result<HostdevFacts> look_up_pci(const Hostdev& wanted, const domain::Domain& domain,
                                 const std::string& sysfs) {
  // Not moved out of its result: GCC 12 at -O2 believes that its strings may have no value.
  const Result<kernel::PciDevice> device = kernel::pci_device(wanted.host, sysfs);
  if (!device)
    return std::unexpected(device.error());
  if (device->group && device->driver != kVfioDriver && !wanted.managed)
    return fail(
        Errc::Busy,
        fmt::format("{}: bound to {}: bind it to {}, or have it done by managed='yes'", wanted.host,
                    device->driver.empty() ? "no driver" : device->driver, kVfioDriver));
  TRY_OK(check_group(*device, domain, sysfs));
  return HostdevFacts{.node = fmt::format("/dev/vfio/{}", *device->group),
                      .address = wanted.host,
                      .product = pair_of(device->vendor, device->product),
                      .group = device->group};
}

}  // namespace

Result<> check_group(const kernel::PciDevice& device, const domain::Domain& domain,
                     const std::string& sysfs) {
  if (!device.group)
    return fail(Errc::Unsupported,
                device.address + ": it is in no IOMMU group: is there an IOMMU, and is it on?");
  TRY(auto members, kernel::iommu_group(*device.group, sysfs));
  for (const kernel::PciDevice& member : members)
    if (!leaves_group_alone(member.driver) && !is_managed(domain, member.address))
      return fail(
          Errc::Busy,
          fmt::format("{}: {} of its IOMMU group {} is bound to {}: the whole group goes to "
                      "the guest or none of it",
                      device.address, member.address, *device.group, member.driver));
  return {};
}

Result<HostdevFacts> look_up_hostdev(const Hostdev& hostdev, const domain::Domain& domain,
                                     const std::string& sysfs) {
  if (hostdev.kind == HostdevKind::Usb)
    return look_up_usb(hostdev, sysfs);
  if (hostdev.kind == HostdevKind::Pci)
    return look_up_pci(hostdev, domain, sysfs);
  TRY(uint32_t group, kernel::mdev_group(hostdev.host, sysfs));
  return HostdevFacts{.node = fmt::format("/dev/vfio/{}", group),
                      .address = hostdev.host,
                      .product = "",
                      .group = group};
}

uint64_t locked_bytes(const domain::Domain& domain) {
  const auto by_vfio = [](const Hostdev& hostdev) { return hostdev.kind != HostdevKind::Usb; };
  if (std::ranges::none_of(domain.hostdevs, by_vfio))
    return 0;
  constexpr uint64_t kRest = 1ULL << 30U;  // video memory, device memory: as libvirt allows
  return domain::total_memory_kib(domain) * 1024 + kRest;
}

}  // namespace tenure::guest
