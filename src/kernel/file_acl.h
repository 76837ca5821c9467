// SPDX-License-Identifier: Apache-2.0
// POSIX ACL entries on image files: one entry for a guest's uid, nothing else changed; never chown.
#pragma once

#include <cstdint>
#include <optional>

#include "base/device_number.h"
#include "base/result.h"
#include "kernel/fence.h"

namespace tenure::kernel {

// Adds or changes the entry `uid:access` (read, write only) through an O_PATH or ordinary fd
// (/proc/self/fd/N); the mask is widened as acl_calc_mask(3) does. Unchanged if it stands so already or
// if the mode bits give the uid that access as owner. Read back after the write. Unsupported where the
// file system has no ACLs.
Result<Outcome> set_file_acl(int fd, uint32_t uid, Access access);
// The entry `uid:--x` on a folder, so that QEMU may pass through it to its images and to nothing else there. Same
// results as set_file_acl; an entry that already has x is Unchanged.
Result<Outcome> set_search_acl(int fd, uint32_t uid);
// Removes the entry of `uid`; when no extended entry is left the file is as it was before the first.
Result<Outcome> remove_file_acl(int fd, uint32_t uid);
// The entry of `uid` now; nullopt if there is none.
Result<std::optional<Access>> file_acl_of(int fd, uint32_t uid);

}  // namespace tenure::kernel
