// SPDX-License-Identifier: Apache-2.0
// POSIX ACL entries on image files: one entry for a guest's uid, nothing else changed; never chown.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/device_number.h"
#include "base/result.h"
#include "kernel/fence.h"

namespace tenure::kernel {

// Adds or changes the entry `uid:access` (read, write only) through an O_PATH or ordinary fd
// (/proc/self/fd/N); an execute bit that the entry has stays. The mask is widened by `access`;
// where it withholds from somebody else what it must now let through, that is Denied: nobody but
// `uid` gains anything. Unchanged if the entry stands so already (mask considered) or if the mode
// bits give the uid that access as owner; Denied if it is the owner and they do not, as no entry
// counts for the owner. Read back after the write. Unsupported where the file system has no ACLs.
// Not safe against others who change the ACL of the same file in the same moment: there is no lock
// for that.
Result<Outcome> set_file_acl(int fd, uint32_t uid, Access access);
// The entry `uid:--x` on a folder, so that QEMU may pass through it to its images and to nothing
// else there; otherwise as set_file_acl(), whose read and write bits stay.
Result<Outcome> set_search_acl(int fd, uint32_t uid);
// Removes the entry of `uid` and takes from the mask what nobody else has; when no extended entry
// is left the file is as it was before the first (mode bits, and no xattr). Nobody else gains
// anything. Unchanged if there is no such entry.
Result<Outcome> remove_file_acl(int fd, uint32_t uid);
// What the entry of `uid` gives now, mask considered (read, write); nullopt if there is none.
Result<std::optional<Access>> file_acl_of(int fd, uint32_t uid);

// Whether a process of `uid` and `gid`, with no further groups and no capabilities, may search this
// folder: acl(5), ACCESS CHECK ALGORITHM. Mode bits alone where the file system has no ACLs.
Result<bool> may_search(int fd, uint32_t uid, uint32_t gid);
// Owner, owning group and every entry in words: "owner 0:0", "user::rw", "user:1000:r", "group::r",
// "group:5:rw", "other::"; for comparing. Without the mask and the entries of uids that `skip`
// names. Mode bits where the file system has no ACLs.
Result<std::vector<std::string>> file_acl_words(int fd, const std::function<bool(uint32_t)>& skip);
// What the file gives `uid` for its own sake: as its owner, or by the entry in its name (mask
// considered). What it gives everybody or a group is not in it.
struct FileGrant {
  bool is_owner = false;
  bool has_entry = false;
  Access access;  // read, write
  bool search = false;
};
Result<FileGrant> file_grant_of(int fd, uint32_t uid);

}  // namespace tenure::kernel
