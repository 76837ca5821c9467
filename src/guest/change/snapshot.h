// SPDX-License-Identifier: Apache-2.0
// External snapshots: new images take what the guest writes to its disks from now on, those that it
// wrote to become their backing images. One operation for all disks of a request.
#pragma once

#include <asio/awaitable.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "guest/run/live.h"

namespace tenure::guest {

struct SnapshotDisk {
  std::string disk;  // domain::find_device
  std::string path;  // of the new image, absolute
};

struct SnapshotRequest {
  std::vector<SnapshotDisk> disks;
  bool existing = false;  // the images are there, with the disks' images as their backing
};

// The new images are qcow2. A file is made and must not exist, unless `existing`; a block device is
// written to. On failure nothing is left granted and no file that was made. Errors: Invalid,
// NotFound, Exists, Busy, Unsupported, and those of QEMU.
asio::awaitable<Result<>> snapshot(Live& live, SnapshotRequest request, registrar::Txn txn);

// A file for an image: made empty, for nobody but root, where there is none; a block device that
// nobody has mounted is taken as it is. True if it was made. Exists if there is a file.
Result<bool> make_image_file(const std::string& path);

}  // namespace tenure::guest
