// SPDX-License-Identifier: Apache-2.0
// The acts of devices of the host: drivers of PCI devices, files of shared memory.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/file.h"
#include "guest/plan/host_devices.h"
#include "guest/run/run_seams.h"
#include "kernel/host_bus.h"

namespace tenure::guest {

using kernel::Outcome;

namespace {

// What the device goes back to.
struct Before {
  std::string driver, driver_override;
};

Before before_of(const model::Claim& claim) {
  std::string name(claim.record.get("old-driver").value_or("?"));
  return {.driver = name == "?" ? "" : name,
          .driver_override = std::string(claim.record.get("override").value_or(""))};
}

Result<Outcome> give_back(const std::string& address, const Before& before,
                          const std::string& sysfs) {
  return kernel::give_back_pci(address, before.driver, before.driver_override, sysfs);
}

Result<> check_group_closed(const std::string& address, pid_t qemu, const std::string& sysfs) {
  auto device = kernel::pci_device(address, sysfs);
  if (!device || !device->group || qemu == 0)
    return {};
  auto node = kernel::node_facts(fmt::format("/dev/vfio/{}", *device->group));
  TRY(std::vector<kernel::OpenFile> files, kernel::open_files(qemu));
  auto of_group = [&](const kernel::OpenFile& file) { return node && file.rdev == node->rdev; };
  if (std::ranges::any_of(files, of_group))
    return fail(Errc::Busy, fmt::format("{}: still held: QEMU has its IOMMU group {} open", address,
                                        *device->group));
  return {};
}

}  // namespace

// On a pool thread: everything by value.
std::function<Result<Outcome>()> RunSeams::slow_apply(const model::Claim& claim) {
  if (claim.record.kind != trail::Kind::Driver)
    return nullptr;
  return [address = claim.id, before = before_of(claim), sysfs = options_.sysfs] {
    auto bound = kernel::bind_pci_driver(address, kVfioDriver, sysfs);
    // What is recorded as refused must not stay half done. The first error is the one to report.
    if (!bound)
      static_cast<void>(give_back(address, before, sysfs));
    return bound;
  };
}

// The kernel waits in the unbind for whoever has the device open; nobody may.
std::function<Result<Outcome>()> RunSeams::slow_withdraw(const model::Claim& claim,
                                                         trail::Record& record) {
  if (claim.record.kind != trail::Kind::Driver)
    return nullptr;
  Before before = before_of(claim);
  record.set("old-driver", kVfioDriver)
      .set("new-driver", before.driver.empty() ? "?" : before.driver);
  return [address = claim.id, before = std::move(before), sysfs = options_.sysfs,
          qemu = process_.pid]() -> Result<Outcome> {
    TRY_OK(check_group_closed(address, qemu, sysfs));
    return give_back(address, before, sysfs);
  };
}

// A daemon that died in the midst of the change left a device that nobody has: it goes back.
Result<bool> RunSeams::has_driver(const model::Claim& claim) {
  auto device = kernel::pci_device(claim.id, options_.sysfs);
  if (!device && device.error().code() == Errc::NotFound)
    return false;
  if (!device)
    return fail(std::move(device).error());
  if (device->driver == kVfioDriver)
    return true;
  TRY_OK(give_back(claim.id, before_of(claim), options_.sysfs));
  return false;
}

// The folder is everybody's: neither a link nor a file of another size is taken.
Result<UniqueFd> RunSeams::shared_file(const model::Claim& claim) const {
  auto shmem = std::ranges::find_if(domain_.shmems, [&](const domain::Shmem& one) {
    return "shmem:" + one.info.alias == claim.holder;
  });
  if (shmem == domain_.shmems.end())
    return fail(Errc::Internal, claim.holder + ": no such device");
  if (shmem->kind == domain::ShmemKind::Doorbell)
    return open_file(claim.id, O_PATH);
  TRY(UniqueFd fd, open_file(claim.id, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0600));
  struct stat facts{};
  if (fstat(fd.get(), &facts) < 0)
    return fail_sys("stat", claim.id);
  const auto size = static_cast<off_t>(shmem->size_kib * 1024);
  if (!S_ISREG(facts.st_mode) || (facts.st_size != 0 && facts.st_size != size))
    return fail(Errc::Invalid,
                fmt::format("{}: it is there and is no file of {} KiB", claim.id, shmem->size_kib));
  if (facts.st_size == 0 && ftruncate(fd.get(), size) < 0)
    return fail_sys("resize", claim.id);
  return fd;
}

}  // namespace tenure::guest
