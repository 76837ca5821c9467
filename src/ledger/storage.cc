// SPDX-License-Identifier: Apache-2.0
// The seam on a real folder: everything by openat(2) from one folder descriptor, so that a renamed
// or replaced parent cannot lead the ledger elsewhere.
#include "ledger/storage.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "base/file.h"

namespace tenure::ledger {
namespace {

class DiskFile final : public File {
 public:
  DiskFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  Result<std::string> read_at(uint64_t offset, size_t size) const override {
    std::string bytes(size, '\0');
    size_t have = 0;
    while (have < size) {
      ssize_t n =
          pread(fd_.get(), bytes.data() + have, size - have, static_cast<off_t>(offset + have));
      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0)
        return fail_sys("read", path_);
      if (n == 0)
        break;
      have += static_cast<size_t>(n);
    }
    bytes.resize(have);
    return bytes;
  }

  Result<> write_at(uint64_t offset, std::string_view bytes) override {
    while (!bytes.empty()) {
      ssize_t n = pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0)
        return fail_sys("write", path_);
      bytes.remove_prefix(static_cast<size_t>(n));
      offset += static_cast<uint64_t>(n);
    }
    return {};
  }

  Result<> truncate(uint64_t size) override {
    if (ftruncate(fd_.get(), static_cast<off_t>(size)) < 0)
      return fail_sys("truncate", path_);
    return {};
  }

  Result<> sync() override {
    if (fdatasync(fd_.get()) < 0)
      return fail_sys("fdatasync", path_);
    return {};
  }

  Result<uint64_t> size() const override {
    struct stat st{};
    if (fstat(fd_.get(), &st) < 0)
      return fail_sys("stat", path_);
    return static_cast<uint64_t>(st.st_size);
  }

 private:
  UniqueFd fd_;
  std::string path_;
};

class DiskStorage final : public Storage {
 public:
  DiskStorage(UniqueFd dir, std::string name) : dir_(std::move(dir)), name_(std::move(name)) {}

  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) const override {
    static constexpr int kFlags[] = {O_RDONLY, O_RDWR | O_CREAT, O_RDWR | O_CREAT | O_TRUNC};
    int flags = kFlags[static_cast<size_t>(mode)] | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
    UniqueFd fd(openat(dir_.get(), path.c_str(), flags, 0600));
    if (!fd)
      return fail_sys("open", full(path));
    struct stat st{};
    if (fstat(fd.get(), &st) < 0)
      return fail_sys("stat", full(path));
    if (!S_ISREG(st.st_mode))
      return fail(Errc::Corrupt, full(path) + ": not a regular file");
    return std::make_unique<DiskFile>(std::move(fd), full(path));
  }

  Result<> rename(const std::string& from, const std::string& to) override {
    if (renameat(dir_.get(), from.c_str(), dir_.get(), to.c_str()) < 0)
      return fail_sys("rename to", full(to));
    return {};
  }

  Result<> remove(const std::string& path) override {
    if (unlinkat(dir_.get(), path.c_str(), 0) == 0)
      return {};
    if (errno == EISDIR && unlinkat(dir_.get(), path.c_str(), AT_REMOVEDIR) == 0)
      return {};
    return fail_sys("remove", full(path));
  }

  Result<> make_dir(const std::string& path) override {
    if (mkdirat(dir_.get(), path.c_str(), 0700) < 0 && errno != EEXIST)
      return fail_sys("mkdir", full(path));
    return {};
  }

  Result<> sync_dir(const std::string& path) override {
    TRY(UniqueFd fd, open_dir(path));
    if (fsync(fd.get()) < 0)
      return fail_sys("fsync", full(path));
    return {};
  }

  Result<std::vector<DirEntry>> list(const std::string& path) const override {
    TRY(UniqueFd fd, open_dir(path));
    DIR* raw = fdopendir(fd.get());
    if (raw == nullptr)
      return fail_sys("read folder", full(path));
    fd.release();  // now the DIR's
    std::unique_ptr<DIR, int (*)(DIR*)> dir(raw, closedir);
    std::vector<DirEntry> entries;
    errno = 0;
    while (const dirent* entry = readdir(dir.get())) {
      std::string name = entry->d_name;
      if (name == "." || name == "..")
        continue;
      TRY(bool is_dir, entry_is_dir(dirfd(dir.get()), *entry));
      entries.push_back({std::move(name), is_dir});
      errno = 0;
    }
    if (errno != 0)
      return fail_sys("read folder", full(path));
    return entries;
  }

 private:
  std::string full(const std::string& path) const {
    return path.empty() ? name_ : name_ + "/" + path;
  }

  Result<UniqueFd> open_dir(const std::string& path) const {
    return open_at(dir_.get(), path.empty() ? "." : path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  }

  // Some file systems leave d_type unknown (readdir(3)).
  static Result<bool> entry_is_dir(int dir, const dirent& entry) {
    if (entry.d_type != DT_UNKNOWN)
      return entry.d_type == DT_DIR;
    struct stat st{};
    if (fstatat(dir, entry.d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
      if (errno == ENOENT)
        return false;
      return fail_sys("stat", entry.d_name);
    }
    return S_ISDIR(st.st_mode);
  }

  UniqueFd dir_;
  std::string name_;
};

}  // namespace

Result<std::unique_ptr<Storage>> open_storage(const std::string& dir) {
  TRY(UniqueFd fd, open_file(dir, O_RDONLY | O_DIRECTORY));
  return std::make_unique<DiskStorage>(std::move(fd), dir);
}

Result<std::string> read_whole(const Storage& storage, const std::string& path, size_t max_bytes) {
  TRY(std::unique_ptr<File> file, storage.open(path, OpenMode::Read));
  TRY(uint64_t size, file->size());
  if (size > max_bytes)
    return fail(Errc::Corrupt,
                fmt::format("{}: {} bytes, at most {} expected", path, size, max_bytes));
  return file->read_at(0, size);
}

Result<> write_whole(Storage& storage, const std::string& path, std::string_view bytes) {
  std::string temporary = path + ".tmp";
  TRY(std::unique_ptr<File> file, storage.open(temporary, OpenMode::Create));
  TRY_OK(file->write_at(0, bytes));
  TRY_OK(file->sync());
  return storage.rename(temporary, path);
}

}  // namespace tenure::ledger
