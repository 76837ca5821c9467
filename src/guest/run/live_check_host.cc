// SPDX-License-Identifier: Apache-2.0
#include "guest/run/live_check_host.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "kernel/host_bus.h"
#include "kernel/net_device.h"

namespace tenure::guest {
namespace {

using trail::Kind;

void check_driver(const model::Claim& claim, const std::string& sysfs, LiveReport& report) {
  auto device = kernel::pci_device(claim.id, sysfs);
  if (!device && device.error().code() != Errc::NotFound) {
    report.unknown.push_back(fmt::format("driver of {}: {}", claim.id, device.error().what()));
    return;
  }
  const std::string found = device ? device->driver : "";
  if (found == kernel::kVfioDriver)
    return;
  report.differences.push_back(
      {.kind = LiveKind::Driver,
       .resource = claim.id,
       .expected = kernel::kVfioDriver,
       .found = found,
       .text = fmt::format("{}: bound to {}, and ought to be bound to {}", claim.id,
                           found.empty() ? "nothing" : found, kernel::kVfioDriver)});
}

void check_device(const model::Claim& claim, const std::vector<kernel::OpenFile>& files,
                  const std::string& sysfs, LiveReport& report) {
  if ((claim.record.kind != Kind::Hostdev && claim.record.kind != Kind::Evdev) || !claim.rdev)
    return;
  // QEMU keeps the node of a USB device open that nobody uses and that is gone (host-libusb.c).
  const std::string name = fmt::format("{} {}", claim.id, to_string(*claim.rdev));
  const std::string at =
      fmt::format("{}/dev/char/{}:{}", sysfs, claim.rdev->major, claim.rdev->minor);
  auto same = [&](const kernel::OpenFile& file) { return file.rdev == claim.rdev; };
  const bool gone = access(at.c_str(), F_OK) < 0 && errno == ENOENT;
  if (gone || std::ranges::none_of(files, same))
    report.differences.push_back(
        {.kind = LiveKind::Descriptor,
         .resource = name,
         .expected = "open",
         .found = gone ? "no such device" : "",
         .text = printable(name) + (gone ? " is gone from this host: was it pulled out?"
                                         : ": QEMU does not have it open any more")});
  if (claim.record.get("bus") == "pci")
    check_driver(claim, sysfs, report);
}

}  // namespace

void check_host_devices(const LiveSubject& subject, const std::vector<kernel::OpenFile>& files,
                        LiveReport& report) {
  for (const registrar::Hold& hold : subject.holds)
    check_device(hold.claim, files, subject.options.sysfs, report);
}

void check_ports(const LiveSubject& subject, LiveReport& report) {
  for (const registrar::Hold& hold : subject.holds) {
    const auto bridge = hold.claim.record.get("bridge");
    const model::Claim* opened = opened_link(subject.holds, hold.claim.holder);
    if (hold.claim.record.kind != Kind::Net || !bridge || opened == nullptr)
      continue;
    const std::string ifname(opened->record.get("ifname").value_or(""));
    auto master = kernel::link_master(ifname);
    if (!master && master.error().code() != Errc::NotFound)
      report.unknown.push_back(
          fmt::format("bridge of {}: {}", printable(ifname), master.error().what()));
    if (!master || *master == *bridge)  // without the interface it is the descriptor that differs
      continue;
    report.differences.push_back(
        {.kind = LiveKind::Port,
         .resource = ifname,
         .expected = std::string(*bridge),
         .found = *master,
         .text =
             fmt::format("{} is a port of {}, the tenures say {}", printable(ifname),
                         master->empty() ? "no bridge" : printable(*master), printable(*bridge))});
  }
}

void OwnLinks::add(const model::Claim& claim) {
  if (claim.record.kind == Kind::NetOpen && claim.record.get("ifname"))
    links_.push_back(link_of(claim));
}

bool OwnLinks::has(const std::string& ifname) {
  auto [known, first] = indices_.try_emplace(ifname, 0);
  if (first)
    known->second = kernel::link_index(ifname).value_or(0);  // it is in another network namespace
  const uint32_t index = known->second;
  return std::ranges::any_of(links_, [&](const kernel::MadeLink& link) {
    return link.index != 0 && index != 0 ? link.index == index : link.ifname == ifname;
  });
}

}  // namespace tenure::guest
