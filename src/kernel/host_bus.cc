// SPDX-License-Identifier: Apache-2.0
#include "kernel/host_bus.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "base/text.h"

namespace tenure::kernel {
namespace {

constexpr size_t kSysfsPage = 4096;  // a page, which is what sysfs gives at most
constexpr size_t kMaxDevices = 65536;

bool is_plain(std::string_view name) {
  const auto plain = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || c == ':' || c == '.' || c == '-';
  };
  return !name.empty() && name.size() <= 64 && name.find("..") == name.npos &&
         std::ranges::all_of(name, plain);
}

Result<uint32_t> number_of(const std::string& path, int base) {
  TRY(std::string text, read_file(path, kSysfsPage));
  std::string_view digits = trim(text);
  if (base == 16 && digits.starts_with("0x"))
    digits.remove_prefix(2);
  auto value = parse_int<uint32_t>(digits, base);
  if (!value)
    return fail(Errc::Io, path + ": not a number");
  return *value;
}

// The last name of where a link leads; "" if there is none.
std::string link_name(const std::string& path) {
  std::error_code error;
  auto target = std::filesystem::read_symlink(path, error);
  return error ? "" : target.filename().string();
}

std::string pci_folder(const std::string& sysfs, const std::string& address) {
  return sysfs + "/bus/pci/devices/" + address;
}

Result<> write_attribute(const std::string& path, std::string_view value) {
  TRY(UniqueFd fd, open_file(path, O_WRONLY));
  return write_all(fd.get(), value, path);
}

// A driver that the device has not is none of these.
Result<> unbind(const std::string& folder, const std::string& address) {
  if (link_name(folder + "/driver").empty())
    return {};
  return write_attribute(folder + "/driver/unbind", address);
}

// "(null)" is how older kernels print that there is none.
std::string override_of(const std::string& folder) {
  auto text = read_file(folder + "/driver_override", kSysfsPage);
  const std::string_view name = text ? trim(*text) : "";
  return name == "(null)" ? "" : std::string(name);
}

Result<> set_override(const std::string& folder, const std::string& driver) {
  return write_attribute(folder + "/driver_override", driver + "\n");
}

// With the override of the driver that is to have it, so that no other one comes first.
Result<> rebind(const std::string& address, const std::string& driver, const std::string& sysfs) {
  const std::string folder = pci_folder(sysfs, address);
  TRY_OK(set_override(folder, driver));
  TRY_OK(unbind(folder, address));
  // Fails where no driver wants it, which the caller sees by looking.
  if (!driver.empty())
    static_cast<void>(write_attribute(sysfs + "/bus/pci/drivers_probe", address));
  return {};
}

Result<> check_driver(const std::string& address, const std::string& driver,
                      const std::string& sysfs) {
  TRY(PciDevice after, pci_device(address, sysfs));
  const auto name = [](const std::string& of) { return of.empty() ? "nothing" : of; };
  if (after.driver == driver)
    return {};
  return fail(Errc::Io, fmt::format("{}: bound to {} instead of {}", address, name(after.driver),
                                    name(driver)));
}

}  // namespace

std::string UsbDevice::node() const {
  return fmt::format("/dev/bus/usb/{:03}/{:03}", bus, device);
}

std::string UsbDevice::address() const {
  return fmt::format("{:03}.{:03}", bus, device);
}

Result<std::vector<UsbDevice>> usb_devices(const std::string& sysfs) {
  std::vector<UsbDevice> devices;
  const std::string folder = sysfs + "/bus/usb/devices";
  auto names = folder_names(folder, kMaxDevices);
  if (!names && names.error().code() == Errc::NotFound)
    return devices;
  if (!names)
    return fail(std::move(names).error());
  for (const std::string& name : *names) {
    const std::string at = folder + "/" + name + "/";
    // "usb1" is a root hub, "1-1:1.0" an interface of a device.
    if (name.starts_with("usb") || name.find(':') != name.npos)
      continue;
    auto bus = number_of(at + "busnum", 10);
    auto device = number_of(at + "devnum", 10);
    auto vendor = number_of(at + "idVendor", 16);
    auto product = number_of(at + "idProduct", 16);
    if (bus && device && vendor && product)  // unplugged while we read
      devices.push_back({.bus = *bus, .device = *device, .vendor = *vendor, .product = *product});
  }
  return devices;
}

Result<PciDevice> pci_device(const std::string& address, const std::string& sysfs) {
  if (!is_plain(address))
    return fail(Errc::Invalid, printable(address) + ": not a PCI address");
  const std::string folder = pci_folder(sysfs, address);
  PciDevice device{.address = address};
  auto vendor = number_of(folder + "/vendor", 16);
  if (!vendor && vendor.error().code() == Errc::NotFound)
    return fail(Errc::NotFound, address + ": this host has no such PCI device");
  if (!vendor)
    return fail(std::move(vendor).error());
  device.vendor = *vendor;
  TRY(device.product, number_of(folder + "/device", 16));
  device.driver = link_name(folder + "/driver");
  device.driver_override = override_of(folder);
  device.group = parse_int<uint32_t>(link_name(folder + "/iommu_group"));
  return device;
}

Result<std::vector<PciDevice>> iommu_group(uint32_t group, const std::string& sysfs) {
  TRY(std::vector<std::string> names,
      folder_names(fmt::format("{}/kernel/iommu_groups/{}/devices", sysfs, group), kMaxDevices));
  std::vector<PciDevice> members;
  for (const std::string& name : names) {
    auto member = pci_device(name, sysfs);
    if (member)
      members.push_back(std::move(*member));
    else if (member.error().code() != Errc::NotFound)  // mediated devices are in groups, too
      return fail(std::move(member).error());
  }
  return members;
}

Result<uint32_t> mdev_group(const std::string& uuid, const std::string& sysfs) {
  if (!is_plain(uuid))
    return fail(Errc::Invalid, printable(uuid) + ": not a uuid");
  const std::string folder = sysfs + "/bus/mdev/devices/" + uuid;
  auto group = parse_int<uint32_t>(link_name(folder + "/iommu_group"));
  if (!group)
    return fail(Errc::NotFound, uuid + ": this host has no such mediated device");
  return *group;
}

Result<Outcome> bind_pci_driver(const std::string& address, const std::string& driver,
                                const std::string& sysfs) {
  TRY(PciDevice before, pci_device(address, sysfs));
  if (before.driver == driver)
    return Outcome::Unchanged;
  TRY_OK(rebind(address, driver, sysfs));
  TRY_OK(check_driver(address, driver, sysfs));
  return Outcome::Changed;
}

Result<Outcome> give_back_pci(const std::string& address, const std::string& driver,
                              const std::string& driver_override, const std::string& sysfs) {
  auto before = pci_device(address, sysfs);
  if (!before && before.error().code() == Errc::NotFound)
    return Outcome::Unchanged;
  if (!before)
    return fail(std::move(before).error());
  // Bound and unbound again, or a change that never came about: only the override is left of it.
  const std::string& now = before->driver_override;
  const std::string& wanted = now == kVfioDriver || now == driver ? driver_override : now;
  const bool changed = before->driver != driver;
  if (changed)
    TRY_OK(rebind(address, driver, sysfs));
  if (changed || now != wanted)
    TRY_OK(set_override(pci_folder(sysfs, address), wanted));
  TRY_OK(check_driver(address, driver, sysfs));
  return changed ? Outcome::Changed : Outcome::Unchanged;
}

}  // namespace tenure::kernel
