// SPDX-License-Identifier: Apache-2.0
#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>

namespace tenure {

Result<UniqueFd> open_file(const std::string& path, int flags, unsigned mode) {
  return open_at(AT_FDCWD, path, flags, mode);
}

Result<UniqueFd> open_at(int dir_fd, const std::string& path, int flags, unsigned mode) {
  int fd = openat(dir_fd, path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0)
    return fail_sys("open", path);
  return UniqueFd(fd);
}

Result<std::string> read_file(const std::string& path, size_t max_bytes) {
  TRY(UniqueFd fd, open_file(path, O_RDONLY));
  return read_fd(fd.get(), max_bytes, path);
}

Result<std::string> read_fd(int fd, size_t max_bytes, std::string_view name) {
  std::string bytes;
  char chunk[16384];
  for (;;) {
    ssize_t n = read(fd, chunk, sizeof chunk);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return fail_sys("read", name);
    if (n == 0)
      return bytes;
    if (bytes.size() + static_cast<size_t>(n) > max_bytes)
      return fail(Errc::Invalid, fmt::format("read {}: larger than {} bytes", name, max_bytes));
    bytes.append(chunk, static_cast<size_t>(n));
  }
}

Result<> write_all(int fd, std::string_view bytes, std::string_view name) {
  while (!bytes.empty()) {
    ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return fail_sys("write", name);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return {};
}

Result<> write_file_atomic(const std::string& path, std::string_view bytes, unsigned mode) {
  std::string temporary = path + ".tmp";
  TRY(UniqueFd fd, open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode));
  TRY_OK(write_all(fd.get(), bytes, temporary));
  if (fsync(fd.get()) < 0)
    return fail_sys("fsync", temporary);
  if (rename(temporary.c_str(), path.c_str()) < 0)
    return fail_sys("rename to", path);
  const std::string folder = folder_of(path);
  TRY(UniqueFd dir, open_file(folder, O_RDONLY | O_DIRECTORY));
  if (fsync(dir.get()) < 0)
    return fail_sys("fsync", folder);
  return {};
}

Result<std::vector<std::string>> folder_names(const std::string& path, size_t max) {
  std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(path.c_str()), closedir);
  if (dir == nullptr)
    return fail_sys("read folder", path);
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* entry = readdir(dir.get());
    if (entry == nullptr && errno != 0)
      return fail_sys("read folder", path);
    if (entry == nullptr)
      break;
    if (entry->d_name[0] == '.')
      continue;
    if (names.size() == max)
      return fail(Errc::Invalid, fmt::format("{}: more than {} entries", path, max));
    names.emplace_back(entry->d_name);
  }
  std::ranges::sort(names);
  return names;
}

std::string absolute_path(const std::string& path) {
  std::error_code error;
  const std::filesystem::path whole = std::filesystem::absolute(path, error);
  return error ? path : whole.lexically_normal().string();
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos)
    return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Result<> make_dirs(const std::string& path, unsigned mode) {
  if (mkdir(path.c_str(), mode) == 0 || errno == EEXIST)
    return {};
  for (size_t at = 1; at != path.npos;) {
    at = path.find('/', at);
    std::string prefix = path.substr(0, at);
    if (mkdir(prefix.c_str(), mode) < 0 && errno != EEXIST)
      return fail_sys("mkdir", prefix);
    if (at != path.npos)
      ++at;
  }
  return {};
}

}  // namespace tenure
