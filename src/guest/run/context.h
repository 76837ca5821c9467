// SPDX-License-Identifier: Apache-2.0
// What the daemon lends to every guest: the loop, the trail, the fences, and the settings of this
// instance.
#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/identity.h"
#include "base/paths.h"
#include "domain/device.h"
#include "kernel/cgroup.h"
#include "kernel/fence.h"
#include "registrar/journal.h"
#include "registrar/operation.h"

namespace tenure::guest {

struct Settings {
  bool require_fence = true;
  std::vector<std::string> base_devices = {"/dev/null",   "/dev/zero",    "/dev/full",
                                           "/dev/random", "/dev/urandom", "/dev/ptmx"};
  std::string cgroup_parent;  // below each hierarchy's root; "" is the root itself
  std::string emulator;       // instead of the definition's; "" keeps that
  // Each guest runs as uid_first + its place in state/uids.json; nullopt: as the daemon itself (not
  // root).
  std::optional<uint32_t> uid_first;
  uint32_t uid_count = 10'000;
};

struct LeftOver;
struct RunState;

// A disk of a guest that runs on.
struct DiskMoved {
  std::string uuid;
  domain::Disk before, after;
  Requester who;
};

struct Context {
  asio::any_io_executor executor;
  asio::thread_pool& pool;
  registrar::Journal& journal;
  Paths paths;
  Settings settings;
  kernel::CgroupMounts mounts;
  kernel::FenceControl* fence_v1 = nullptr;  // null where it cannot be had
  kernel::FenceControl* fence_v2 = nullptr;
  std::string no_fence_reason;  // why, if there is none

  kernel::FenceControl* fence(std::optional<kernel::CgroupVersion> version) const {
    if (!version)
      return nullptr;
    return *version == kernel::CgroupVersion::V2 ? fence_v2 : fence_v1;
  }
  std::string boot_id;  // of this boot
  // Logs one line for the administrator (the daemon's log); the trail is not a log.
  std::function<void(const std::string&)> log;
  // Called when a run that starts has its fence, before QEMU is in it; may be empty.
  std::function<void(const RunState&)> fenced = {};
  // A new operation id, unique over the life of the ledger.
  std::function<std::string()> new_txn;
  // Called when a disk of a running guest has got another top image; may be empty.
  std::function<asio::awaitable<void>(DiskMoved)> disk_moved = {};
  // Called when a start that failed could not take everything away again; may be empty.
  std::function<void(LeftOver)> left_over = {};
};

}  // namespace tenure::guest
