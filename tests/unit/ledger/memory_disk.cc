// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/ledger/memory_disk.h"

#include <algorithm>
#include <set>

namespace tenure::ledger {
namespace {

std::string folder_of(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == path.npos ? "" : path.substr(0, slash);
}

bool has_folders(const std::map<std::string, bool>& dirs, const std::string& path) {
  std::string folder = folder_of(path);
  return folder.empty() || (dirs.contains(folder) && has_folders(dirs, folder));
}

}  // namespace

class MemoryFile final : public File {
 public:
  MemoryFile(MemoryDisk& disk, uint64_t inode, std::string path)
      : disk_(disk), inode_(inode), path_(std::move(path)) {}

  Result<std::string> read_at(uint64_t offset, size_t size) const override {
    std::lock_guard lock(disk_.mutex_);
    const std::string& content = disk_.state_.content.at(inode_);
    if (offset >= content.size())
      return std::string();
    return content.substr(offset, size);
  }
  Result<> write_at(uint64_t offset, std::string_view bytes) override {
    return done("write", {OpKind::Write, path_, inode_, offset, std::string(bytes)});
  }
  Result<> truncate(uint64_t size) override {
    return done("truncate", {OpKind::Truncate, path_, inode_, size, {}});
  }
  Result<> sync() override { return done("fdatasync", {OpKind::SyncFile, path_, inode_, 0, {}}); }
  Result<uint64_t> size() const override {
    std::lock_guard lock(disk_.mutex_);
    return disk_.state_.content.at(inode_).size();
  }

 private:
  Result<> done(const char* what, Op op) {
    int err = disk_.run(std::move(op));
    if (err != 0)
      return fail_sys(what, path_, err);
    return {};
  }
  MemoryDisk& disk_;
  uint64_t inode_;
  std::string path_;
};

class MemoryStorage final : public Storage {
 public:
  explicit MemoryStorage(MemoryDisk& disk) : disk_(disk) {}

  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) const override {
    uint64_t inode = 0;
    {
      std::lock_guard lock(disk_.mutex_);
      auto found = disk_.state_.names.find(path);
      if (found != disk_.state_.names.end())
        inode = found->second;
      if (inode == 0 && mode == OpenMode::Read)
        return fail_sys("open", path, ENOENT);
    }
    bool fresh = inode == 0;
    if (fresh) {
      inode = disk_.next_inode_++;
      if (int err = disk_.run({OpKind::Link, path, inode, 0, {}}))
        return fail_sys("open", path, err);
    }
    if (!fresh && mode == OpenMode::Create) {
      if (int err = disk_.run({OpKind::Truncate, path, inode, 0, {}}))
        return fail_sys("open", path, err);
    }
    return std::make_unique<MemoryFile>(disk_, inode, path);
  }
  Result<> rename(const std::string& from, const std::string& to) override {
    return done("rename", {OpKind::Rename, from, 0, 0, to});
  }
  Result<> remove(const std::string& path) override {
    return done("remove", {OpKind::Remove, path, 0, 0, {}});
  }
  Result<> make_dir(const std::string& path) override {
    return done("mkdir", {OpKind::MakeDir, path, 0, 0, {}});
  }
  Result<> sync_dir(const std::string& path) override {
    return done("fsync", {OpKind::SyncDir, path, 0, 0, {}});
  }
  Result<std::vector<DirEntry>> list(const std::string& path) const override {
    std::lock_guard lock(disk_.mutex_);
    if (!path.empty() && !disk_.state_.dirs.contains(path))
      return fail_sys("read folder", path, ENOENT);
    std::vector<DirEntry> entries;
    auto add = [&](const std::string& name, bool is_dir) {
      if (folder_of(name) != path || name == path)
        return;
      entries.push_back({path.empty() ? name : name.substr(path.size() + 1), is_dir});
    };
    for (const auto& [name, inode] : disk_.state_.names) add(name, false);
    for (const auto& [name, made] : disk_.state_.dirs) add(name, true);
    return entries;
  }

 private:
  Result<> done(const char* what, Op op) {
    std::string path = op.path;
    if (int err = disk_.run(std::move(op)))
      return fail_sys(what, path, err);
    return {};
  }
  MemoryDisk& disk_;
};

MemoryDisk::MemoryDisk(const Image& image) {
  state_.dirs = image.dirs;
  for (const auto& [path, bytes] : image.files) {
    state_.names[path] = next_inode_;
    state_.content[next_inode_++] = bytes;
  }
}

std::unique_ptr<Storage> MemoryDisk::storage() {
  return std::make_unique<MemoryStorage>(*this);
}

Image MemoryDisk::image() const {
  std::lock_guard lock(mutex_);
  Image image{.dirs = state_.dirs};
  for (const auto& [path, inode] : state_.names) image.files[path] = state_.content.at(inode);
  return image;
}

uint64_t MemoryDisk::count(OpKind kind) const {
  return static_cast<uint64_t>(
      std::count_if(ops_.begin(), ops_.end(), [&](const Op& op) { return op.kind == kind; }));
}

int MemoryDisk::run(Op op) {
  std::lock_guard lock(mutex_);
  uint64_t number = number_++;
  if (op.kind == OpKind::Remove && state_.dirs.contains(op.path)) {
    auto inside = [&](const auto& item) { return item.first.starts_with(op.path + "/"); };
    if (std::any_of(state_.names.begin(), state_.names.end(), inside))
      return ENOTEMPTY;
  }
  if (op.kind == OpKind::Rename && !state_.names.contains(op.path))
    return ENOENT;
  int err = fault ? fault(number, op) : 0;
  if (err != 0 && op.kind == OpKind::Write)
    op.bytes.resize(op.bytes.size() / 2);  // as write(2) may
  if (err != 0 && op.kind != OpKind::Write)
    return err;
  apply(state_, op);
  if (record)
    ops_.push_back(std::move(op));
  return err;
}

void MemoryDisk::apply(State& state, const Op& op) {
  switch (op.kind) {
    case OpKind::Write: {
      std::string& content = state.content[op.inode];
      if (content.size() < op.offset + op.bytes.size())
        content.resize(op.offset + op.bytes.size());
      content.replace(op.offset, op.bytes.size(), op.bytes);
      return;
    }
    case OpKind::Truncate:
      state.content[op.inode].resize(op.offset);
      return;
    case OpKind::Link:
      state.names[op.path] = op.inode;
      state.content[op.inode];
      return;
    case OpKind::Rename:
      if (!state.names.contains(op.path))
        return;
      state.names[op.bytes] = state.names[op.path];
      state.names.erase(op.path);
      return;
    case OpKind::Remove:
      state.names.erase(op.path);
      state.dirs.erase(op.path);
      return;
    case OpKind::MakeDir:
      state.dirs[op.path] = true;
      return;
    case OpKind::SyncFile:
    case OpKind::SyncDir:
      return;
  }
}

// Content and names persist independently, as POSIX allows: content by fdatasync of the file, a
// name by fsync of its folder. Unsynced name changes of one folder persist up to an arbitrary
// point; an unsynced write or truncation persists, does not, or in part, in any order.
Image MemoryDisk::after_power_cut(const Image& start, const std::vector<Op>& ops,
                                  std::mt19937& random) {
  MemoryDisk disk(start);
  State& state = disk.state_;
  std::map<uint64_t, std::vector<Op>> data;      // unsynced, by inode
  std::map<std::string, std::vector<Op>> names;  // unsynced, by folder
  auto flip = [&] { return (random() & 1) != 0; };
  for (const Op& op : ops) {
    switch (op.kind) {
      case OpKind::Write:
      case OpKind::Truncate:
        data[op.inode].push_back(op);
        break;
      case OpKind::SyncFile:
        for (const Op& late : data[op.inode]) apply(state, late);
        data.erase(op.inode);
        break;
      case OpKind::SyncDir:
        for (const Op& late : names[op.path]) apply(state, late);
        names.erase(op.path);
        break;
      case OpKind::Link:
      case OpKind::Rename:
      case OpKind::Remove:
      case OpKind::MakeDir:
        names[folder_of(op.path)].push_back(op);
        break;
    }
  }
  int mood = static_cast<int>(random() % 4);  // all lost, all kept, or a mixture
  for (auto& [folder, late] : names) {
    size_t keep = mood == 0 ? 0 : mood == 1 ? late.size() : random() % (late.size() + 1);
    for (size_t i = 0; i < keep; ++i) apply(state, late[i]);
  }
  for (auto& [inode, late] : data) {
    for (Op& op : late) {
      if (mood == 0 || (mood > 1 && flip()))
        continue;
      if (mood > 1 && op.kind == OpKind::Write && flip()) {
        size_t from = random() % (op.bytes.size() + 1);
        size_t to = from + random() % (op.bytes.size() - from + 1);
        if (flip())
          from = 0;
        op.bytes = op.bytes.substr(from, to - from);
        op.offset += from;
      }
      if (!(op.kind == OpKind::Write && op.bytes.empty()))
        apply(state, op);
    }
  }
  auto lost = [&](const auto& item) { return !has_folders(state.dirs, item.first); };
  std::erase_if(state.names, lost);
  for (const auto& [path, inode] : state.names) state.content[inode];
  return disk.image();
}

}  // namespace tenure::ledger
