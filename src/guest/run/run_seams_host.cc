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
using registrar::Others;

namespace {

std::string old_driver(const model::Claim& claim) {
  std::string name(claim.record.get("old-driver").value_or("?"));
  return name == "?" ? "" : name;
}

}  // namespace

Result<Outcome> RunSeams::bind_driver(model::Claim& claim, const Others&) {
  auto bound = kernel::bind_pci_driver(claim.id, kVfioDriver, options_.sysfs);
  if (bound)
    return bound;
  // What is recorded as refused must not stay half done. The first error is the one to report.
  static_cast<void>(kernel::give_back_pci(claim.id, old_driver(claim), options_.sysfs));
  return fail(std::move(bound).error());
}

// The kernel waits in the unbind for whoever has the device open; nobody may.
Result<Outcome> RunSeams::unbind_driver(const model::Claim& claim, const Others&,
                                        trail::Record& record) {
  const std::string before = old_driver(claim);
  record.set("old-driver", kVfioDriver).set("new-driver", before.empty() ? "?" : before);
  auto device = kernel::pci_device(claim.id, options_.sysfs);
  if (device && device->group && process_.pid != 0) {
    auto node = kernel::node_facts(fmt::format("/dev/vfio/{}", *device->group));
    TRY(std::vector<kernel::OpenFile> files, kernel::open_files(process_.pid));
    auto of_group = [&](const kernel::OpenFile& file) { return node && file.rdev == node->rdev; };
    if (std::ranges::any_of(files, of_group))
      return fail(Errc::Busy, fmt::format("{}: still held: QEMU has its IOMMU group {} open",
                                          claim.id, *device->group));
  }
  return kernel::give_back_pci(claim.id, before, options_.sysfs);
}

Result<bool> RunSeams::has_driver(const model::Claim& claim) {
  auto device = kernel::pci_device(claim.id, options_.sysfs);
  if (!device && device.error().code() == Errc::NotFound)
    return false;
  if (!device)
    return fail(std::move(device).error());
  return device->driver == kVfioDriver;
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
