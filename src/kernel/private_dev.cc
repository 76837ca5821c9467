// SPDX-License-Identifier: Apache-2.0
#include "kernel/private_dev.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string_view>

#include "base/file.h"
#include "base/text.h"
#include "kernel/mounts.h"

namespace tenure::kernel {
namespace {

struct TmpfsSpec {
  const char* size;       // as tmpfs(5) takes it
  const char* nr_inodes;  // bounds what a guest can make in shm, and we in dev
  const char* mode;
  unsigned attributes;
};
constexpr TmpfsSpec kDevSpec{"1m", "16384", "0755", kAttrNosuid | kAttrNoexec};
constexpr TmpfsSpec kShmSpec{"16m", "1024", "1777", kAttrNosuid | kAttrNodev | kAttrNoexec};

struct Link {
  const char* name;
  const char* target;
};
constexpr std::array kLinks{Link{"fd", "/proc/self/fd"}, Link{"stdin", "/proc/self/fd/0"},
                            Link{"stdout", "/proc/self/fd/1"}, Link{"stderr", "/proc/self/fd/2"}};
constexpr std::array kMountPoints{"pts", "shm"};

Result<UniqueFd> detached_tmpfs(const TmpfsSpec& spec, const std::string& name) {
  UniqueFd context(fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (!context)
    return fail_sys("fsopen tmpfs for", name);
  const std::array options{std::pair{"size", spec.size}, std::pair{"nr_inodes", spec.nr_inodes},
                           std::pair{"mode", spec.mode}};
  for (auto [key, value] : options) {
    if (fsconfig(context.get(), FSCONFIG_SET_STRING, key, value, 0) < 0)
      return fail_sys(fmt::format("set tmpfs option {} for", key), name);
  }
  if (fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) < 0)
    return fail_sys("create tmpfs for", name);
  // FSMOUNT_CLOEXEC has the value of FSOPEN_CLOEXEC; glibc 2.36 names it in an enum-less block
  // only.
  UniqueFd mount(fsmount(context.get(), 0x1, spec.attributes));
  if (!mount)
    return fail_sys("fsmount tmpfs for", name);
  return mount;
}

bool is_reserved(std::string_view name) {
  return std::ranges::find(kMountPoints, name) != kMountPoints.end() ||
         std::ranges::find(kLinks, name, &Link::name) != kLinks.end();
}

// The components of a node's path below /dev.
Result<std::vector<std::string_view>> components_of(std::string_view path) {
  constexpr std::string_view kDev = "/dev/";
  if (!path.starts_with(kDev) || path.size() >= PATH_MAX)
    return fail(Errc::Invalid, fmt::format("device node {}: not below /dev", printable(path)));
  auto parts = split(path.substr(kDev.size()), '/');
  for (std::string_view part : parts) {
    if (part.empty() || part == "." || part == ".." || part.size() > NAME_MAX ||
        part.find('\0') != part.npos)
      return fail(Errc::Invalid, fmt::format("device node {}: not a plain path", printable(path)));
  }
  if (is_reserved(parts.front()))
    return fail(Errc::Invalid, fmt::format("device node {}: the guest's /dev/{} is made by us",
                                           printable(path), parts.front()));
  return parts;
}

// Where a node is or goes: its folder and its name in there.
struct Place {
  UniqueFd folder;
  std::string name;
};

// Walks component by component, O_NOFOLLOW. With `make`, missing folders are made; without it a
// missing folder is NotFound.
Result<Place> walk(int dev_fd, const std::string& path, bool make) {
  TRY(auto parts, components_of(path));
  TRY(UniqueFd folder, open_at(dev_fd, ".", O_PATH | O_DIRECTORY));
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    std::string part(parts[i]);
    if (make && mkdirat(folder.get(), part.c_str(), 0755) == 0) {
      // The umask may have taken bits that the guest's uid needs to pass through.
      if (fchmodat(folder.get(), part.c_str(), 0755, 0) < 0)
        return fail_sys("chmod folder of", path);
    } else if (make && errno != EEXIST) {
      return fail_sys("mkdir for", path);
    }
    int next = openat(folder.get(), part.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (next < 0)
      return fail_sys("open folder of", path);
    folder.reset(next);
  }
  return Place{std::move(folder), std::string(parts.back())};
}

using Found = std::optional<struct stat>;
Result<Found> look(const Place& place, const std::string& path) {
  struct stat st{};
  if (fstatat(place.folder.get(), place.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0)
    return Found(st);
  if (errno == ENOENT)
    return Found();
  return fail_sys("stat", path);
}

bool has_number(const struct stat& st, const DevNode& node) {
  return device_of(st.st_mode, st.st_rdev) == node.rdev;
}
bool has_owner_and_mode(const struct stat& st, const DevNode& node) {
  return st.st_uid == node.uid && st.st_gid == node.gid && (st.st_mode & 07777) == node.mode;
}

Error something_else(const struct stat& st, const DevNode& node) {
  auto rdev = device_of(st.st_mode, st.st_rdev);
  return Error(Errc::Exists,
               fmt::format("device node {}: wanted {}, but {} is there", printable(node.path),
                           to_string(node.rdev), rdev ? to_string(*rdev) : "no device"));
}

Result<> set_owner_and_mode(const Place& place, const DevNode& node) {
  int folder = place.folder.get();
  const char* name = place.name.c_str();
  if (fchownat(folder, name, node.uid, node.gid, AT_SYMLINK_NOFOLLOW) < 0)
    return fail_sys("chown device node", node.path);
  // Follows symlinks, but root alone can write in this folder and we have just seen a device there.
  if (fchmodat(folder, name, node.mode, 0) < 0)
    return fail_sys("chmod device node", node.path);
  TRY(Found now, look(place, node.path));
  if (!now || !has_number(*now, node) || !has_owner_and_mode(*now, node))
    return fail(Errc::Io, fmt::format("device node {}: not what was made when read back",
                                      printable(node.path)));
  return {};
}

constexpr int kDeepest = 16;  // folders; /dev/disk/by-id has two

Result<> list_folder(int parent, const char* name, const std::string& path, int depth,
                     std::vector<DevNode>& found) {
  if (depth > kDeepest)
    return fail(Errc::Corrupt, fmt::format("{}: folders too deep", printable(path)));
  TRY(UniqueFd folder, open_at(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(fdopendir(folder.get()), closedir);
  if (!dir)
    return fail_sys("read folder", path);
  (void)folder.release();  // the stream's now
  while (const dirent* entry = readdir(dir.get())) {
    const std::string_view part = entry->d_name;
    if (part == "." || part == ".." || (depth == 0 && is_reserved(part)))
      continue;
    struct stat st{};
    if (fstatat(dirfd(dir.get()), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
      continue;  // gone since
    const std::string below = path + "/" + entry->d_name;
    if (S_ISDIR(st.st_mode))
      TRY_OK(list_folder(dirfd(dir.get()), entry->d_name, below, depth + 1, found));
    if (auto rdev = device_of(st.st_mode, st.st_rdev))
      found.push_back({.path = below,
                       .rdev = *rdev,
                       .uid = st.st_uid,
                       .gid = st.st_gid,
                       .mode = st.st_mode & 07777U});
  }
  return {};
}

Result<UniqueFd> build_dev(const std::vector<DevNode>& nodes) {
  TRY(UniqueFd dev, detached_tmpfs(kDevSpec, "/dev"));
  for (const char* name : kMountPoints) {
    if (mkdirat(dev.get(), name, 0755) < 0)
      return fail_sys("mkdir in the private /dev", name);
    if (fchmodat(dev.get(), name, 0755, 0) < 0)
      return fail_sys("chmod in the private /dev", name);
  }
  for (const Link& link : kLinks) {
    if (symlinkat(link.target, dev.get(), link.name) < 0)
      return fail_sys("symlink in the private /dev", link.name);
  }
  for (const DevNode& node : nodes) TRY_OK(add_node(dev.get(), node));
  return dev;
}

}  // namespace

Result<PrivateDev> build_private_dev(const std::vector<DevNode>& nodes,
                                     const std::vector<std::string>& shm_files) {
  PrivateDev tree;
  TRY(tree.dev, build_dev(nodes));
  TRY(tree.shm, detached_tmpfs(kShmSpec, "/dev/shm"));
  int pts = open_tree(AT_FDCWD, "/dev/pts", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (pts < 0 && errno != ENOENT)
    return fail_sys("open_tree", "/dev/pts");
  tree.pts.reset(pts);
  for (const std::string& name : shm_files) {
    const std::string path = "/dev/shm/" + name;
    if (name.empty() || name.find('/') != name.npos)
      return fail(Errc::Invalid, fmt::format("{}: not a name in /dev/shm", printable(name)));
    UniqueFd file(open_tree(AT_FDCWD, path.c_str(),
                            OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW));
    if (!file)
      return fail_sys("open_tree", path);
    tree.files.emplace_back(path, std::move(file));
  }
  return tree;
}

Result<> add_folder(PrivateDev& tree, const std::string& name, UniqueFd mount) {
  const std::string path = "/dev/" + name;
  TRY(Place place, walk(tree.dev.get(), path, true));
  if (mkdirat(place.folder.get(), place.name.c_str(), 0700) < 0)
    return fail_sys("mkdir in the private /dev", name);
  tree.folders.emplace_back(path, std::move(mount));
  return {};
}

int enter_private_dev(const PrivateDev& tree, const char** step) {
  *step = "unshare the mount namespace";
  if (unshare(CLONE_NEWNS) < 0)
    return errno;
  // Slave, not private: images on file systems mounted later must still be reachable.
  *step = "make mounts a slave of the host's";
  if (mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) < 0)
    return errno;
  struct Move {
    int from;
    const char* to;
    const char* step;
  };
  const Move moves[] = {{tree.dev.get(), "/dev", "mount the private /dev"},
                        {tree.shm.get(), "/dev/shm", "mount the private /dev/shm"},
                        {tree.pts.get(), "/dev/pts", "mount /dev/pts"}};
  for (const Move& move : moves) {
    if (move.from < 0)
      continue;
    *step = move.step;
    if (move_mount(move.from, "", AT_FDCWD, move.to, MOVE_MOUNT_F_EMPTY_PATH) < 0)
      return errno;
  }
  *step = "mount a file of /dev/shm";
  for (const auto& [path, file] : tree.files) {
    int point = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (point < 0)
      return errno;
    close(point);
    if (move_mount(file.get(), "", AT_FDCWD, path.c_str(), MOVE_MOUNT_F_EMPTY_PATH) < 0)
      return errno;
  }
  *step = "mount a folder";
  for (const auto& [path, folder] : tree.folders)
    if (move_mount(folder.get(), "", AT_FDCWD, path.c_str(), MOVE_MOUNT_F_EMPTY_PATH) < 0)
      return errno;
  return 0;
}

Result<UniqueFd> open_guest_dev(pid_t pid) {
  // proc(5): what the process sees as its root folder.
  std::string path = fmt::format("/proc/{}/root{}", pid, "/dev");
  TRY(UniqueFd dev, open_file(path, O_PATH | O_DIRECTORY));
  struct stat guest{};
  struct stat own{};
  struct statfs fs{};
  if (fstat(dev.get(), &guest) < 0 || fstatfs(dev.get(), &fs) < 0)
    return fail_sys("stat", path);
  // Without a /dev of our own there is nothing to mistake the guest's for.
  bool have_own = stat("/dev", &own) == 0;
  if ((have_own && own.st_dev == guest.st_dev) || fs.f_type != TMPFS_MAGIC)
    return fail(Errc::Invalid, fmt::format("{}: not a private /dev", path));
  return dev;
}

Result<Outcome> add_node(int guest_dev_fd, const DevNode& node) {
  TRY(Place place, walk(guest_dev_fd, node.path, true));
  TRY(Found found, look(place, node.path));
  if (found && !has_number(*found, node))
    return fail(something_else(*found, node));
  if (found && has_owner_and_mode(*found, node))
    return Outcome::Unchanged;
  if (!found) {
    mode_t type = node.rdev.type == DeviceType::Block ? S_IFBLK : S_IFCHR;
    if (mknodat(place.folder.get(), place.name.c_str(), type, to_dev_t(node.rdev)) < 0)
      return fail_sys("mknod", node.path);
  }
  Result<> set = set_owner_and_mode(place, node);
  if (!set) {
    if (!found)
      unlinkat(place.folder.get(), place.name.c_str(), 0);
    return fail(std::move(set).error());
  }
  return Outcome::Changed;
}

Result<Outcome> remove_node(int guest_dev_fd, const DevNode& node) {
  auto place = walk(guest_dev_fd, node.path, false);
  if (!place && place.error().sys_errno() == ENOENT)
    return Outcome::Unchanged;
  if (!place)
    return fail(std::move(place).error());
  TRY(Found found, look(*place, node.path));
  if (!found)
    return Outcome::Unchanged;
  if (!has_number(*found, node))
    return fail(something_else(*found, node));
  if (unlinkat(place->folder.get(), place->name.c_str(), 0) < 0)
    return fail_sys("unlink device node", node.path);
  // Only empty folders go; the first that is in use ends the walk upward.
  std::string folder = node.path.substr(0, node.path.rfind('/'));
  while (folder.size() > std::string_view("/dev").size()) {
    if (unlinkat(guest_dev_fd, folder.c_str() + sizeof "/dev/" - 1, AT_REMOVEDIR) < 0)
      break;
    folder.resize(folder.rfind('/'));
  }
  return Outcome::Changed;
}

Result<std::vector<DevNode>> list_nodes(int guest_dev_fd) {
  std::vector<DevNode> found;
  TRY_OK(list_folder(guest_dev_fd, ".", "/dev", 0, found));
  std::ranges::sort(found, {}, &DevNode::path);
  return found;
}

}  // namespace tenure::kernel
