// SPDX-License-Identifier: Apache-2.0
// What the host says about everything that a definition names, looked up once. Claims are made from
// these facts and nothing is looked up by name again (a node replaced between claim and release is
// released by its recorded number).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "domain/domain.h"
#include "kernel/cgroup.h"
#include "kernel/node.h"
#include "qemu/image.h"

namespace tenure::guest {

// What this run is given by the daemon's configuration and by what the host can do.
struct HostOptions {
  std::optional<kernel::CgroupVersion> fence;  // nullopt: unfenced, allowed by require_fence = no
  std::string cgroup_v2;                       // the guest's own, whole path; "" if none
  std::string cgroup_v1;
  std::optional<uint32_t> uid;  // of QEMU; nullopt: the daemon's own (unprivileged instance)
  std::vector<std::string> base_devices;  // of every guest: /dev/null …
  std::string runtime_dir;                // of this run: sockets that we make
  std::string sysfs = "/sys";             // tests give a folder of their own
};

// A device of the host that is passed on.
struct HostdevFacts {
  std::string node;               // of USB its own, else that of the IOMMU group
  std::string address;            // as the trail calls it
  std::string product;            // "8086:100e"; "" of an mdev
  std::optional<uint32_t> group;  // of the IOMMU
};

struct Facts {
  std::map<std::string, qemu::ImageChain> chains;             // by disk alias
  std::map<std::string, kernel::NodeFacts> nodes;             // by path
  std::map<std::string, HostdevFacts> hostdevs;               // by alias
  std::map<DeviceNumber, std::vector<kernel::Slave>> slaves;  // of device-mapper devices
  // Folders on the way to a file that the guest's uid may not search, by mode bits and POSIX ACL,
  // outermost first.
  std::map<std::string, std::vector<std::string>> closed_folders;
  // Device nodes that are named by symlinks outside of /dev: the first name below /dev on the way,
  // which is where QEMU will look for the node in its own /dev.
  std::map<std::string, std::string> dev_names;
  // Programs that serve it, by alias.
  std::map<std::string, std::string> helpers;
  std::vector<std::string> notes;  // what is missing (dry run only)

  const kernel::NodeFacts* node(const std::string& path) const;
  // Where the guest's own /dev must have the node that is called `path`.
  const std::string& dev_name(const std::string& path) const;
};

enum class Missing { Refuse, Note };

// Refuse: a missing or unreadable member is an error that names device and path. Note: it goes to
// `notes`, so that a definition from another host can be looked at.
Result<Facts> look_up(const domain::Domain& domain, const HostOptions& options, Missing missing);

// The same of devices that join a guest: without what it has from its start.
Result<Facts> look_up_devices(const domain::Domain& devices, const HostOptions& options);

// The same of a disk whose images are known: what lies below them, and on the way to them.
Result<Facts> look_up_images(const domain::Disk& disk, qemu::ImageChain images,
                             const HostOptions& options);

}  // namespace tenure::guest
