// SPDX-License-Identifier: Apache-2.0
// The records that announce what single devices hold, as the plan claims them. Pure.
#pragma once

#include <string>
#include <string_view>

#include "domain/domain.h"
#include "guest/plan/facts.h"
#include "trail/record.h"

namespace tenure::guest {

// "b", "c".
std::string_view device_letter(DeviceType type);
// devtype= and rdev= of a device node, by which it is found again in QEMU's open files.
void set_device(trail::Record& record, const Facts& facts, const std::string& path);

// `reason`: start, attach, update.
trail::Record net_record(const domain::Interface& nic, std::string_view reason);
trail::Record rng_record(const domain::Rng& rng, const Facts& facts, std::string_view reason);
trail::Record evdev_record(const domain::Input& input, const Facts& facts, std::string_view reason);
trail::Record hostdev_record(const domain::Hostdev& hostdev, const Facts& facts,
                             std::string_view reason);
trail::Record shmem_record(const domain::Shmem& shmem, std::string_view reason);
trail::Record fs_record(const domain::Filesystem& fs, std::string_view reason);
// `stream` is where the device comes from: a socket's path, or host:port.
trail::Record redirdev_record(const domain::Chardev& redirdev, const std::string& stream,
                              std::string_view reason);

// The file or socket of a shmem.
std::string shared_path(const domain::Shmem& shmem);

}  // namespace tenure::guest
