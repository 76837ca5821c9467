// SPDX-License-Identifier: Apache-2.0
// What has to do with mounts and is in no header that can be included: MOUNT_ATTR_* of
// include/uapi/linux/mount.h: glibc's sys/mount.h and the kernel's header exclude each other.
#pragma once

#include <cstddef>

namespace tenure::kernel {

inline constexpr unsigned kAttrReadonly = 0x1;
inline constexpr unsigned kAttrNosuid = 0x2;
inline constexpr unsigned kAttrNodev = 0x4;
inline constexpr unsigned kAttrNoexec = 0x8;

// Bytes of /proc/PID/mountinfo; a host with 100,000 mounts has about 12 MiB.
inline constexpr size_t kMaxMountinfo = 16U << 20U;

}  // namespace tenure::kernel
