// SPDX-License-Identifier: Apache-2.0
#include "kernel/shared_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "kernel/mounts.h"

namespace tenure::kernel {
namespace {

Result<UniqueFd> open_folder(const std::string& path) {
  open_how how{};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_NO_MAGICLINKS;
  UniqueFd fd(static_cast<int>(syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof how)));
  if (!fd)
    return fail_sys("open folder", path);
  return fd;
}

bool is_readonly(std::string_view options) {
  return options == "ro" || options.starts_with("ro,");
}

}  // namespace

Result<SharedFolder> clone_folder(const std::string& path, bool readonly) {
  TRY(UniqueFd folder, open_folder(path));
  SharedFolder shared;
  struct stat facts{};
  if (fstat(folder.get(), &facts) < 0)
    return fail_sys("stat", path);
  shared.dev = facts.st_dev;
  shared.ino = facts.st_ino;
  shared.tree.reset(open_tree(folder.get(), "",
                              OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE));
  if (!shared.tree)
    return fail_sys("open_tree", path);
  mount_attr attributes{};
  attributes.attr_set = kAttrNosuid | kAttrNodev | kAttrNoexec | (readonly ? kAttrReadonly : 0);
  attributes.propagation = MS_PRIVATE;
  if (mount_setattr(shared.tree.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes,
                    sizeof attributes) < 0)
    return fail_sys("mount_setattr", path);
  return shared;
}

Result<RootFolder> root_of(pid_t pid) {
  const std::string path = fmt::format("/proc/{}/root", pid);
  struct stat facts{};
  if (stat(path.c_str(), &facts) < 0)
    return fail_sys("stat", path);
  RootFolder root{.dev = facts.st_dev, .ino = facts.st_ino};
  TRY(const std::string mounts, read_file(fmt::format("/proc/{}/mountinfo", pid), kMaxMountinfo));
  // The last mount at "/" is the one on top (proc_pid_mountinfo(5)).
  bool found = false;
  for (std::string_view line : split(mounts, '\n')) {
    const size_t dash = line.find(" - ");
    auto words = split(line.substr(0, dash), ' ');
    if (dash == line.npos || words.size() < 6 || words[4] != "/")
      continue;
    auto of_fs = split(line.substr(dash + 3), ' ');
    root.readonly = is_readonly(words[5]) || (of_fs.size() > 2 && is_readonly(of_fs[2]));
    found = true;
  }
  if (!found)
    return fail(Errc::NotFound, path + ": no mount");
  return root;
}

}  // namespace tenure::kernel
