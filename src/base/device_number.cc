// SPDX-License-Identifier: Apache-2.0
#include "base/device_number.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace tenure {

std::string to_string(Access access) {
  std::string text;
  if (access.read)
    text += 'r';
  if (access.write)
    text += 'w';
  if (access.mknod)
    text += 'm';
  return text;
}

Result<Access> parse_access(std::string_view text) {
  Access access;
  for (char letter : text) {
    bool* bit = letter == 'r'   ? &access.read
                : letter == 'w' ? &access.write
                : letter == 'm' ? &access.mknod
                                : nullptr;
    if (bit == nullptr || *bit)
      return fail(Errc::Invalid, fmt::format("access '{}': letters r, w, m, each once", text));
    *bit = true;
  }
  return access;
}

std::string to_string(const DeviceNumber& dev) {
  return fmt::format("{} {}:{}", static_cast<char>(dev.type), dev.major, dev.minor);
}

std::string rdev_hex(const DeviceNumber& dev) {
  return fmt::format("{:02X}:{:02X}", dev.major, dev.minor);
}

std::optional<DeviceNumber> device_of(uint32_t st_mode, uint64_t st_rdev) {
  if (!S_ISBLK(st_mode) && !S_ISCHR(st_mode))
    return std::nullopt;
  return DeviceNumber{S_ISBLK(st_mode) ? DeviceType::Block : DeviceType::Char, major(st_rdev),
                      minor(st_rdev)};
}

uint64_t to_dev_t(const DeviceNumber& dev) {
  return makedev(dev.major, dev.minor);
}

}  // namespace tenure
