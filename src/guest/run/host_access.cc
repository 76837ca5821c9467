// SPDX-License-Identifier: Apache-2.0
#include "guest/run/host_access.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>

#include "guest/plan/host_devices.h"
#include "kernel/host_bus.h"

namespace tenure::guest {

using domain::Hostdev;
using domain::HostdevKind;
using trail::Kind;
using trail::Record;

asio::awaitable<Result<>> bind_host_drivers(registrar::Operation& operation,
                                            const domain::Domain& devices,
                                            const HostOptions& options) {
  std::vector<model::Claim> claims;
  for (const Hostdev& hostdev : devices.hostdevs) {
    if (hostdev.kind != HostdevKind::Pci || !hostdev.managed)
      continue;
    CO_TRY(kernel::PciDevice device, kernel::pci_device(hostdev.host, options.sysfs));
    if (device.driver == kVfioDriver)
      continue;
    CO_TRY_OK(check_group(device, devices, options.sysfs));
    Record record(Kind::Driver);
    record.set("reason", "bind")
        .set("device", hostdev.host)
        .set("old-driver", device.driver.empty() ? "?" : device.driver)
        .set("new-driver", kVfioDriver)
        .set("for", "hostdev:" + hostdev.info.alias);
    claims.push_back(model::claim_of(std::move(record)));
  }
  if (claims.empty())
    co_return Result<>{};
  CO_TRY_OK(co_await operation.intend(std::move(claims), std::nullopt));
  co_return co_await operation.apply();
}

Result<> raise_locked(pid_t pid, const domain::Domain& domain) {
  const uint64_t wanted = locked_bytes(domain);
  rlimit now{};
  if (wanted == 0)
    return {};
  if (prlimit(pid, RLIMIT_MEMLOCK, nullptr, &now) < 0)
    return fail_sys("prlimit", std::to_string(pid));
  if (now.rlim_cur >= wanted)
    return {};
  const rlimit limit{.rlim_cur = wanted, .rlim_max = std::max<rlim_t>(wanted, now.rlim_max)};
  if (prlimit(pid, RLIMIT_MEMLOCK, &limit, nullptr) < 0)
    return fail_sys("raise RLIMIT_MEMLOCK of", std::to_string(pid));
  return {};
}

}  // namespace tenure::guest
