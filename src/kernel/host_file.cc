// SPDX-License-Identifier: Apache-2.0
#include "kernel/host_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>

#include "base/file.h"

namespace tenure::kernel {
namespace {

// A link in a folder that others can write to may be theirs: only our own are followed, as that of
// /dev/VG/LV is.
Result<std::string> resolve(const std::string& path) {
  if (!path.starts_with('/'))
    return fail(Errc::Invalid, fmt::format("'{}': not an absolute path", path));
  struct stat st{};
  if (lstat(path.c_str(), &st) < 0 || !S_ISLNK(st.st_mode))
    return path;
  if (st.st_uid != geteuid())
    return fail(Errc::Denied, fmt::format("{}: a symbolic link of uid {}", path, st.st_uid));
  char target[PATH_MAX];
  if (realpath(path.c_str(), target) == nullptr)
    return fail_sys("resolve", path);
  return std::string(target);
}

Result<struct stat> facts_of(const HostFile& file) {
  struct stat st{};
  if (fstat(file.fd.get(), &st) < 0)
    return fail_sys("look at", file.path);
  return st;
}

void note(HostFile& file, const struct stat& st) {
  file.dev = st.st_dev;
  file.ino = st.st_ino;
  if (S_ISBLK(st.st_mode))
    file.rdev = device_of(st.st_mode, st.st_rdev);
}

Result<> refuse_locked(const HostFile& file) {
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (fcntl(file.fd.get(), F_OFD_GETLK, &lock) < 0)
    return fail_sys("ask for locks of", file.path);
  if (lock.l_type == F_UNLCK)
    return {};
  return fail(Errc::Busy, fmt::format("{}: in use: somebody has a lock on it", file.path));
}

Result<> make_empty(const HostFile& file, const struct stat& st) {
  if (st.st_uid != geteuid())
    return fail(Errc::Denied, fmt::format("{}: a file of uid {}, who could read what is written to "
                                          "it; remove it first",
                                          file.path, st.st_uid));
  if (st.st_nlink != 1)
    return fail(Errc::Denied, fmt::format("{}: it has {} names", file.path, st.st_nlink));
  TRY_OK(refuse_locked(file));
  if (fchmod(file.fd.get(), 0600) < 0)
    return fail_sys("change the mode of", file.path);
  if (ftruncate(file.fd.get(), 0) < 0)
    return fail_sys("empty", file.path);
  return {};
}

}  // namespace

Result<HostFile> open_output(const std::string& path) {
  HostFile file{.path = path};
  TRY(const std::string real, resolve(path));
  auto made = open_file(real, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  file.created = made.has_value();
  if (!made && made.error().sys_errno() != EEXIST)
    return fail(std::move(made).error());
  if (!made)  // not blocking: a fifo is refused below. O_EXCL: a block device that is mounted
    made = open_file(real, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_EXCL);
  if (!made)
    return fail(std::move(made).error());
  file.fd = std::move(*made);
  TRY(const struct stat st, facts_of(file));
  note(file, st);
  if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
    return fail(Errc::Invalid, fmt::format("{}: neither file nor block device", path));
  Result<> ready = S_ISREG(st.st_mode) ? make_empty(file, st) : refuse_locked(file);
  TRY_OK(ready);
  // open(2) had O_NONBLOCK; QEMU is to wait for the disk.
  if (fcntl(file.fd.get(), F_SETFL, 0) < 0)
    return fail_sys("change the flags of", path);
  return file;
}

Result<HostFile> open_input(const std::string& path) {
  HostFile file{.path = path};
  TRY(const std::string real, resolve(path));
  TRY(file.fd, open_file(real, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  TRY(const struct stat st, facts_of(file));
  note(file, st);
  if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
    return fail(Errc::Invalid, fmt::format("{}: neither file nor block device", path));
  if (fcntl(file.fd.get(), F_SETFL, 0) < 0)
    return fail_sys("change the flags of", path);
  return file;
}

Result<> discard(const HostFile& file) {
  struct stat st{};
  if (!file.created || lstat(file.path.c_str(), &st) < 0)
    return {};
  if (st.st_dev != file.dev || st.st_ino != file.ino)
    return {};
  if (unlink(file.path.c_str()) < 0)
    return fail_sys("remove", file.path);
  return {};
}

}  // namespace tenure::kernel
