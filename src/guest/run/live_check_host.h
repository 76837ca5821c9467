// SPDX-License-Identifier: Apache-2.0
// The parts of live_check() that look at the devices and the interfaces of the host which a guest
// holds.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "guest/run/live_check.h"
#include "kernel/process.h"

namespace tenure::guest {

// Adds to `report` what is not as the tenures say: a device that was pulled out, or that QEMU has
// closed, and a PCI device that a driver of the host has now. `files` is what QEMU has open.
void check_host_devices(const LiveSubject& subject, const std::vector<kernel::OpenFile>& files,
                        LiveReport& report);

// Adds taps that are not ports of the bridges at which the guest holds its MACs.
void check_ports(const LiveSubject& subject, LiveReport& report);

// The interfaces that a guest holds descriptors of.
class OwnLinks {
 public:
  // Nothing for another claim than NetOpen.
  void add(const model::Claim& claim);
  // Whether the interface that has this name now is one of them.
  bool has(const std::string& ifname);

 private:
  std::vector<kernel::MadeLink> links_;
  std::map<std::string, uint32_t> indices_;  // by name
};

}  // namespace tenure::guest
