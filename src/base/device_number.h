// SPDX-License-Identifier: Apache-2.0
// What the kernel calls a device: type, major, minor; and the three accesses of a device rule.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace tenure {

enum class DeviceType : char { Block = 'b', Char = 'c' };

struct DeviceNumber {
  DeviceType type = DeviceType::Char;
  uint32_t major = 0;
  uint32_t minor = 0;
  auto operator<=>(const DeviceNumber&) const = default;
};

// Union of r, w, m (mknod), in the order of cgroup-v1/devices.rst.
struct Access {
  bool read = false;
  bool write = false;
  bool mknod = false;

  auto operator<=>(const Access&) const = default;
  bool none() const { return !read && !write && !mknod; }
  Access operator|(Access o) const { return {read || o.read, write || o.write, mknod || o.mknod}; }
  Access minus(Access o) const { return {read && !o.read, write && !o.write, mknod && !o.mknod}; }
  bool covers(Access o) const { return o.minus(*this).none(); }
};

inline constexpr Access kReadOnly{.read = true};
inline constexpr Access kReadWrite{.read = true, .write = true};

// "rw", "r", "rwm"; "" for none.
std::string to_string(Access access);
// Letters r, w, m in any order, each at most once; else Invalid.
Result<Access> parse_access(std::string_view text);

// "b 8:16", the form of devices.list and of our messages.
std::string to_string(const DeviceNumber& dev);
// "08:10": libvirt's hex pair of the audit log's rdev= (no type; upper case, at least two digits).
std::string rdev_hex(const DeviceNumber& dev);

// From st_mode and st_rdev; nullopt if not a device node.
std::optional<DeviceNumber> device_of(uint32_t st_mode, uint64_t st_rdev);
// The kernel's dev_t for mknod(2).
uint64_t to_dev_t(const DeviceNumber& dev);

}  // namespace tenure
