// SPDX-License-Identifier: Apache-2.0
// USB and PCI devices of the host by sysfs, and the driver that a PCI device is bound to. `sysfs`
// is where sysfs is mounted (tests give a folder of their own). Thread-safe (no state).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "kernel/fence.h"

namespace tenure::kernel {

// The driver that hands PCI devices to user space.
inline constexpr char kVfioDriver[] = "vfio-pci";

struct UsbDevice {
  uint32_t bus = 0, device = 0;  // of its node /dev/bus/usb/BUS/DEVICE
  uint32_t vendor = 0, product = 0;
  std::string node() const;     // "/dev/bus/usb/001/004"
  std::string address() const;  // "001.004"
};

// All devices but root hubs, which nobody passes on. Empty on a host without USB.
Result<std::vector<UsbDevice>> usb_devices(const std::string& sysfs = "/sys");

struct PciDevice {
  std::string address;  // "0000:01:00.0"
  uint32_t vendor = 0, product = 0;
  std::string driver;             // "" for none
  std::string driver_override;    // the driver that alone may have it; "" for any
  std::optional<uint32_t> group;  // of the IOMMU
};

// NotFound if there is none; Invalid for what is no address.
Result<PciDevice> pci_device(const std::string& address, const std::string& sysfs = "/sys");
// All members of an IOMMU group.
Result<std::vector<PciDevice>> iommu_group(uint32_t group, const std::string& sysfs = "/sys");
// The IOMMU group of a mediated device.
Result<uint32_t> mdev_group(const std::string& uuid, const std::string& sysfs = "/sys");

// Unbinds the device from its driver and binds it to `driver`, alone (driver_override). Read back:
// Unchanged if it was so already; Io if another driver, or none, has it afterwards. The kernel
// waits in it for whoever uses the device.
Result<Outcome> bind_pci_driver(const std::string& address, const std::string& driver,
                                const std::string& sysfs = "/sys");
// Undoes that: `driver` ("": none) has the device again, and the override is what it was before. Io
// if another driver has it then. The override of somebody else, made meanwhile, stays.
Result<Outcome> give_back_pci(const std::string& address, const std::string& driver,
                              const std::string& driver_override,
                              const std::string& sysfs = "/sys");

}  // namespace tenure::kernel
