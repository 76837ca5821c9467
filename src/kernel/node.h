// SPDX-License-Identifier: Apache-2.0
// Facts about a path of the host, looked up once: claims are made from these and never look again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/device_number.h"
#include "base/result.h"

namespace tenure::kernel {

enum class FileType { Regular, Directory, Block, Char, Socket, Fifo, Other };

struct NodeFacts {
  std::string path;  // as asked for
  FileType type = FileType::Other;
  std::optional<DeviceNumber> rdev;  // of Block and Char
  uint64_t dev = 0, ino = 0;         // st_dev, st_ino
  uint64_t size = 0;  // bytes; of a block device by BLKGETSIZE64 if it could be opened
};

// stat(2), following symlinks.
Result<NodeFacts> node_facts(const std::string& path);

// The block devices below a device-mapper device, all levels of device mapper
// (/sys/dev/block/M:N/slaves), each once, with its /dev path; empty for anything else. Members of
// an md array below it are not listed: who opens the upper device never opens those. Invalid beyond
// 16 levels or 1024 devices. `sysfs` is where sysfs is mounted (tests give a folder of their own).
struct Slave {
  DeviceNumber dev;
  std::string path;
};
Result<std::vector<Slave>> device_mapper_slaves(const DeviceNumber& dev,
                                                const std::string& sysfs = "/sys");

// "/dev/<DEVNAME>" of /sys/dev/{block,char}/M:N/uevent; NotFound if the kernel has no such device.
Result<std::string> device_path(const DeviceNumber& dev, const std::string& sysfs = "/sys");

}  // namespace tenure::kernel
