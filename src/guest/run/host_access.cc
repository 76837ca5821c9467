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

namespace {

Result<rlimit> locked_now(pid_t pid) {
  rlimit now{};
  if (prlimit(pid, RLIMIT_MEMLOCK, nullptr, &now) < 0)
    return fail_sys("ask for RLIMIT_MEMLOCK of", std::to_string(pid));
  return now;
}

Result<> set_locked(pid_t pid, rlimit limit) {
  if (prlimit(pid, RLIMIT_MEMLOCK, &limit, nullptr) < 0)
    return fail_sys(fmt::format("set RLIMIT_MEMLOCK to {} of", limit.rlim_cur),
                    std::to_string(pid));
  return {};
}

}  // namespace

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
    if (!device.driver_override.empty())
      record.set("override", device.driver_override);
    claims.push_back(model::claim_of(std::move(record)));
  }
  if (claims.empty())
    co_return Result<>{};
  CO_TRY_OK(co_await operation.intend(std::move(claims), std::nullopt));
  co_return co_await operation.apply();
}

Result<> check_not_held(const Facts& facts, const std::vector<registrar::Hold>& holds) {
  for (const auto& [alias, found] : facts.hostdevs)
    for (const registrar::Hold& hold : holds)
      if (hold.claim.record.kind == trail::Kind::Hostdev && hold.claim.id == found.address)
        return fail(Errc::Invalid,
                    fmt::format("{}: the host's {} is that of {} already", alias, found.address,
                                hold.claim.record.get("alias").value_or("?")));
  return {};
}

uint64_t lock_limit(const domain::Domain& domain) {
  constexpr uint64_t kAlways = 64ULL << 20U;  // io_uring and vhost need some
  return std::max(kAlways, locked_bytes(domain));
}

Result<> raise_locked(pid_t pid, const domain::Domain& domain) {
  if (locked_bytes(domain) == 0)
    return {};
  const uint64_t wanted = lock_limit(domain);
  TRY(rlimit now, locked_now(pid));
  if (now.rlim_cur >= wanted)
    return {};
  return set_locked(pid, {.rlim_cur = wanted, .rlim_max = std::max<rlim_t>(wanted, now.rlim_max)});
}

// The hard limit as well: up to that QEMU may go by itself.
Result<> lower_locked(pid_t pid, const domain::Domain& domain) {
  const uint64_t wanted = lock_limit(domain);
  TRY(rlimit now, locked_now(pid));
  if (now.rlim_max <= wanted)
    return {};
  return set_locked(pid, {.rlim_cur = std::min<rlim_t>(now.rlim_cur, wanted), .rlim_max = wanted});
}

}  // namespace tenure::guest
