// SPDX-License-Identifier: Apache-2.0
// stat(2) and sysfs. A path is resolved once, to an O_PATH descriptor, and everything that is said
// about it comes from that one object.
#include "kernel/node.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/file.h"
#include "base/text.h"
#include "base/unique_fd.h"

namespace tenure::kernel {
namespace {

constexpr size_t kMaxSysfsFile = 65536;  // bytes; sysfs gives a page, uevent at most a few
constexpr size_t kMaxSlaves = 1024;      // of one device-mapper device, over all levels
constexpr int kMaxDepth = 16;            // the kernel's own stacking limits are below this
constexpr uint64_t kSectorBytes = 512;   // unit of /sys/…/size, whatever the device's block size

struct TypeName {
  mode_t bits;
  FileType type;
};
constexpr TypeName kTypes[] = {
    {S_IFREG, FileType::Regular}, {S_IFDIR, FileType::Directory}, {S_IFBLK, FileType::Block},
    {S_IFCHR, FileType::Char},    {S_IFSOCK, FileType::Socket},   {S_IFIFO, FileType::Fifo},
};

FileType type_of(mode_t mode) {
  const auto* row = std::ranges::find(kTypes, mode & S_IFMT, &TypeName::bits);
  return row == std::end(kTypes) ? FileType::Other : row->type;
}

std::string sysfs_dir(const std::string& sysfs, const DeviceNumber& dev) {
  return fmt::format("{}/dev/{}/{}:{}", sysfs, dev.type == DeviceType::Block ? "block" : "char",
                     dev.major, dev.minor);
}

// BLKGETSIZE64 needs an open, which the caller may not be allowed; sysfs tells everybody.
uint64_t block_size(int path_fd, const DeviceNumber& dev) {
  Result<UniqueFd> fd = open_file(fmt::format("/proc/self/fd/{}", path_fd), O_RDONLY | O_NONBLOCK);
  uint64_t bytes = 0;
  if (fd && ioctl(fd->get(), BLKGETSIZE64, &bytes) == 0)
    return bytes;
  Result<std::string> sectors = read_file(sysfs_dir("/sys", dev) + "/size", kMaxSysfsFile);
  if (!sectors)
    return 0;
  return parse_int<uint64_t>(trim(*sectors)).value_or(0) * kSectorBytes;
}

// "8:16" of a sysfs `dev` file.
Result<DeviceNumber> read_number(const std::string& path, DeviceType type) {
  TRY(std::string text, read_file(path, kMaxSysfsFile));
  std::vector<std::string_view> parts = split(trim(text), ':');
  std::optional<uint32_t> major = parse_int<uint32_t>(parts[0]);
  std::optional<uint32_t> minor =
      parts.size() == 2 ? parse_int<uint32_t>(parts[1]) : std::optional<uint32_t>();
  if (!major || !minor)
    return fail(Errc::Io, path + ": not a device number");
  return DeviceNumber{type, *major, *minor};
}

bool is_device_mapper(const std::string& sysfs, const DeviceNumber& dev) {
  struct stat facts{};
  return stat((sysfs_dir(sysfs, dev) + "/dm").c_str(), &facts) == 0;
}

// Depth first. A device that is below two others is listed once.
Result<> collect_slaves(const std::string& sysfs, const DeviceNumber& dev, int depth,
                        std::vector<Slave>& found) {
  if (!is_device_mapper(sysfs, dev))
    return {};
  std::string folder = sysfs_dir(sysfs, dev) + "/slaves";
  if (depth == kMaxDepth)
    return fail(Errc::Invalid, fmt::format("{}: stacked deeper than {}", folder, kMaxDepth));
  TRY(std::vector<std::string> names, folder_names(folder, kMaxSlaves));
  for (const std::string& name : names) {
    TRY(DeviceNumber below, read_number(fmt::format("{}/{}/dev", folder, name), DeviceType::Block));
    if (std::ranges::find(found, below, &Slave::dev) != found.end())
      continue;
    if (found.size() == kMaxSlaves)
      return fail(Errc::Invalid, fmt::format("{}: more than {} devices below", folder, kMaxSlaves));
    TRY(std::string path, device_path(below, sysfs));
    found.push_back({below, std::move(path)});
    TRY_OK(collect_slaves(sysfs, below, depth + 1, found));
  }
  return {};
}

}  // namespace

Result<NodeFacts> node_facts(const std::string& path) {
  TRY(UniqueFd fd, open_file(path, O_PATH));
  struct stat facts{};
  if (fstat(fd.get(), &facts) < 0)
    return fail_sys("stat", path);
  NodeFacts node;
  node.path = path;
  node.type = type_of(facts.st_mode);
  node.rdev = device_of(facts.st_mode, facts.st_rdev);
  node.dev = facts.st_dev;
  node.ino = facts.st_ino;
  node.size = static_cast<uint64_t>(facts.st_size);
  if (node.type == FileType::Block)
    node.size = block_size(fd.get(), *node.rdev);
  return node;
}

Result<std::vector<Slave>> device_mapper_slaves(const DeviceNumber& dev, const std::string& sysfs) {
  std::vector<Slave> found;
  if (dev.type != DeviceType::Block)
    return found;
  TRY_OK(collect_slaves(sysfs, dev, 0, found));
  return found;
}

Result<std::string> device_path(const DeviceNumber& dev, const std::string& sysfs) {
  std::string path = sysfs_dir(sysfs, dev) + "/uevent";
  TRY(std::string text, read_file(path, kMaxSysfsFile));
  constexpr std::string_view kKey = "DEVNAME=";
  for (std::string_view line : split(text, '\n')) {
    if (!line.starts_with(kKey))
      continue;
    std::string_view name = line.substr(kKey.size());
    std::vector<std::string_view> parts = split(name, '/');
    if (std::ranges::find(parts, "..") != parts.end() || parts[0].empty())
      return fail(Errc::Io, fmt::format("{}: not a name below /dev: {}", path, name));
    return fmt::format("/dev/{}", name);
  }
  return fail(Errc::NotFound, path + ": the kernel names no node for this device");
}

}  // namespace tenure::kernel
