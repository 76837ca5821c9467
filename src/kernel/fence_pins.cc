// SPDX-License-Identifier: Apache-2.0
// Loading the device program, and its life on bpffs. All pins appear at once, by the rename of
// their folder: a daemon that dies while it pins leaves nothing that looks whole.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/bpf.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <memory>
#include <span>

#include "base/file.h"
#include "base/text.h"
#include "bpf/fence.skel.h"
#include "kernel/bpf_handles.h"
#include "kernel/fence_maps.h"

namespace tenure::kernel {
namespace {

constexpr const char* kBpffs = "/sys/fs/bpf";
constexpr size_t kMaxMessages = 2000;  // bytes of libbpf's own words in an error
constexpr const char* kProgramName = "tenure_fence";

// What is pinned, and how it must look to be taken over. map_type 0 is the program.
struct Pin {
  const char* name;
  UniqueFd FenceObjects::* fd;
  uint32_t map_type, key_size, value_size, max_entries;
};
constexpr Pin kCounters{"counters",       &FenceObjects::counters, BPF_MAP_TYPE_ARRAY,
                        sizeof(uint32_t), sizeof(uint64_t),        TENURE_COUNTERS};
constexpr Pin kPins[] = {
    kCounters,
    {"guests", &FenceObjects::guests, BPF_MAP_TYPE_CGROUP_STORAGE, sizeof(bpf_cgroup_storage_key),
     sizeof(tenure_guest), 0},
    {"rules", &FenceObjects::rules, BPF_MAP_TYPE_HASH, sizeof(tenure_rule), sizeof(uint32_t),
     TENURE_MAX_RULES},
    {"denials", &FenceObjects::denials, BPF_MAP_TYPE_RINGBUF, 0, 0, TENURE_RING_BYTES},
    {"refusals_a", &FenceObjects::refusals_a, BPF_MAP_TYPE_HASH, sizeof(tenure_refusal_key),
     sizeof(tenure_refusal), TENURE_MAX_REFUSALS},
    {"refusals_b", &FenceObjects::refusals_b, BPF_MAP_TYPE_HASH, sizeof(tenure_refusal_key),
     sizeof(tenure_refusal), TENURE_MAX_REFUSALS},
    {"program", &FenceObjects::program, 0, 0, 0, 0},
};

// libbpf prints to stderr unless told otherwise. Its warnings during the life of a LibbpfMessages
// go into that object (of the same thread), all others nowhere.
thread_local std::string* captured = nullptr;

[[gnu::format(printf, 2, 0)]] int capture(libbpf_print_level level, const char* format,
                                          va_list args) {
  if (captured == nullptr || level != LIBBPF_WARN || captured->size() >= kMaxMessages)
    return 0;
  char line[512];
  int length = vsnprintf(line, sizeof line, format, args);
  if (length > 0)
    captured->append(captured->empty() ? "" : "; ").append(trim(line));
  return length;
}

class LibbpfMessages {
 public:
  LibbpfMessages() {
    libbpf_set_print(capture);
    captured = &text_;
  }
  ~LibbpfMessages() { captured = nullptr; }
  LibbpfMessages(const LibbpfMessages&) = delete;
  LibbpfMessages& operator=(const LibbpfMessages&) = delete;
  std::string in_brackets() const { return text_.empty() ? "" : " (" + printable(text_) + ")"; }

 private:
  std::string text_;
};

Result<UniqueFd> duplicate(int fd) {
  UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!copy)
    return fail_sys("duplicate", "a BPF descriptor");
  return copy;
}

Result<bpf_prog_info> program_info(int fd, std::span<uint32_t> map_ids) {
  bpf_prog_info info{};
  info.nr_map_ids = static_cast<uint32_t>(map_ids.size());
  info.map_ids = reinterpret_cast<uintptr_t>(map_ids.data());
  uint32_t size = sizeof info;
  int err = bpf_obj_get_info_by_fd(fd, &info, &size);
  if (err < 0)
    return fail_sys("get info of", "the device program", -err);
  return info;
}

Result<bpf_map_info> map_info(int fd, const char* name) {
  bpf_map_info info{};
  uint32_t size = sizeof info;
  int err = bpf_obj_get_info_by_fd(fd, &info, &size);
  if (err < 0)
    return fail_sys("get info of map", name, -err);
  return info;
}

bool looks_like(const bpf_map_info& info, const Pin& pin) {
  return info.type == pin.map_type && info.key_size == pin.key_size &&
         info.value_size == pin.value_size && info.max_entries == pin.max_entries;
}

std::string parent_of(const std::string& path) {
  size_t slash = path.find_last_of('/');
  return slash == 0 || slash == path.npos ? "/" : path.substr(0, slash);
}

// Of the nearest folder that exists at or above `path`.
Result<bool> on_bpffs(std::string path) {
  struct statfs facts{};
  while (statfs(path.c_str(), &facts) < 0) {
    if (errno != ENOENT || path == "/")
      return fail_sys("statfs", path);
    path = parent_of(path);
  }
  return facts.f_type == BPF_FS_MAGIC;
}

Result<> mount_bpffs() {
  if (mount("bpf", kBpffs, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
    return fail_sys("mount bpffs at", kBpffs);
  return {};
}

Result<> need_bpffs(const std::string& pin_dir) {
  TRY(bool ready, on_bpffs(pin_dir));
  if (ready)
    return {};
  if (pin_dir.starts_with(std::string(kBpffs) + "/"))
    return mount_bpffs();
  return fail(Errc::Unsupported,
              pin_dir +
                  " is not on bpffs: mount one there (mount -t bpf bpf FOLDER) or choose a "
                  "folder below /sys/fs/bpf");
}

// bpffs is world-writable by default (mode 1777), so a folder by our name may be somebody's trap.
Result<> check_owner(const std::string& pin_dir) {
  struct stat facts{};
  if (lstat(pin_dir.c_str(), &facts) < 0)
    return fail_sys("stat", pin_dir);
  if (!S_ISDIR(facts.st_mode) || facts.st_uid != geteuid() || (facts.st_mode & 0022) != 0)
    return fail(Errc::Denied, pin_dir +
                                  " is not a folder of ours that nobody else can write: "
                                  "remove it, or choose another one");
  return {};
}

Result<> check_layout(int counters_fd, const std::string& pin_dir) {
  uint32_t key = TENURE_COUNTER_LAYOUT;
  uint64_t layout = 0;
  int err = bpf_map_lookup_elem(counters_fd, &key, &layout);
  if (err < 0)
    return fail_sys("read the layout of", pin_dir, -err);
  if (layout == TENURE_FENCE_LAYOUT)
    return {};
  return fail(
      Errc::Invalid,
      fmt::format("the pins in {} have layout {}, this tenured knows {}: stop the guests with "
                  "the tenured that made them, then remove the pins",
                  pin_dir, layout, TENURE_FENCE_LAYOUT));
}

Result<> check_pins(FenceObjects& objects, const std::string& pin_dir) {
  uint32_t used[std::size(kPins) * 2] = {};
  TRY(bpf_prog_info program, program_info(objects.program.get(), used));
  std::span<uint32_t> used_ids(used, std::min<size_t>(program.nr_map_ids, std::size(used)));
  bool ours =
      program.type == BPF_PROG_TYPE_CGROUP_DEVICE && std::string_view(program.name) == kProgramName;
  for (const Pin& pin : kPins) {
    if (pin.map_type == 0)
      continue;
    TRY(bpf_map_info map, map_info((objects.*pin.fd).get(), pin.name));
    ours = ours && looks_like(map, pin) && std::ranges::find(used_ids, map.id) != used_ids.end();
  }
  if (!ours)
    return fail(Errc::Corrupt, "the pins in " + pin_dir +
                                   " are not a fence's program with its maps: remove them once no "
                                   "guest runs");
  objects.program_id = program.id;
  return {};
}

Result<UniqueFd> open_pin(const std::string& pin_dir, const Pin& pin) {
  std::string path = pin_dir + "/" + pin.name;
  int fd = bpf_obj_get(path.c_str());
  if (fd == -ENOENT)
    return fail(Errc::Corrupt,
                "pin " + path + " is missing: remove the other pins once no guest runs");
  if (fd < 0)
    return fail_sys("open pin", path, -fd);
  return UniqueFd(fd);
}

Result<FenceObjects> take_over(const std::string& pin_dir) {
  TRY_OK(check_owner(pin_dir));
  FenceObjects objects;
  // The layout comes first: what it says decides whether the rest can be understood.
  TRY(objects.counters, open_pin(pin_dir, kCounters));
  TRY(bpf_map_info counters, map_info(objects.counters.get(), kCounters.name));
  if (counters.type != kCounters.map_type || counters.key_size != kCounters.key_size ||
      counters.value_size != kCounters.value_size)
    return fail(Errc::Corrupt, pin_dir + "/counters is not a fence's map");
  TRY_OK(check_layout(objects.counters.get(), pin_dir));
  for (const Pin& pin : kPins) {
    if (!(objects.*pin.fd)) {
      TRY(objects.*pin.fd, open_pin(pin_dir, pin));
    }
  }
  TRY_OK(check_pins(objects, pin_dir));
  return objects;
}

// Unlinks the pins that we make and removes the folder; what else is in it makes that fail.
Result<> remove_folder(const std::string& folder) {
  for (const Pin& pin : kPins) {
    std::string path = folder + "/" + pin.name;
    if (unlink(path.c_str()) < 0 && errno != ENOENT && errno != ENOTDIR)
      return fail_sys("remove pin", path);
  }
  if (rmdir(folder.c_str()) < 0)
    return fail_sys("remove the pins' folder", folder);
  return {};
}

Result<> pin_all(const FenceObjects& objects, const std::string& pin_dir) {
  std::string fresh = pin_dir + "-new";
  auto removed = remove_folder(fresh);
  if (!removed && removed.error().code() != Errc::NotFound)
    return removed;
  TRY_OK(make_dirs(parent_of(pin_dir), 0700));
  if (mkdir(fresh.c_str(), 0700) < 0)
    return fail_sys("make the pins' folder", fresh);
  for (const Pin& pin : kPins) {
    std::string path = fresh + "/" + pin.name;
    int err = bpf_obj_pin((objects.*pin.fd).get(), path.c_str());
    if (err < 0)
      return fail_sys("pin", path, -err);
  }
  if (rename(fresh.c_str(), pin_dir.c_str()) < 0)
    return fail_sys("rename the pins to", pin_dir);
  return {};
}

bool exists(const std::string& pin_dir) {
  struct stat facts{};
  return lstat(pin_dir.c_str(), &facts) == 0;
}

Result<> check_pin_folder(const std::string& pin_dir) {
  std::string_view last = std::string_view(pin_dir).substr(pin_dir.rfind('/') + 1);
  if (pin_dir.starts_with('/') && !last.empty() && last.find('.') == last.npos)
    return {};
  return fail(Errc::Invalid, "pin folder \"" + printable(pin_dir) +
                                 "\" must be an absolute path whose last name has no dot");
}

}  // namespace

Result<FenceObjects> load_fence_objects() {
  LibbpfMessages messages;
  std::unique_ptr<tenure_fence, DestroySkeleton<tenure_fence>> skeleton(tenure_fence::open());
  if (!skeleton)
    return fail_sys("open", "the device program" + messages.in_brackets());
  if (int err = tenure_fence::load(skeleton.get()); err < 0)
    return fail_sys("load", "the device program" + messages.in_brackets(), -err);
  FenceObjects objects;
  TRY(objects.program, duplicate(bpf_program__fd(skeleton->progs.tenure_fence)));
  TRY(objects.guests, duplicate(bpf_map__fd(skeleton->maps.guests)));
  TRY(objects.rules, duplicate(bpf_map__fd(skeleton->maps.rules)));
  TRY(objects.denials, duplicate(bpf_map__fd(skeleton->maps.denials)));
  TRY(objects.refusals_a, duplicate(bpf_map__fd(skeleton->maps.refusals_a)));
  TRY(objects.refusals_b, duplicate(bpf_map__fd(skeleton->maps.refusals_b)));
  TRY(objects.counters, duplicate(bpf_map__fd(skeleton->maps.counters)));
  uint32_t key = TENURE_COUNTER_LAYOUT;
  uint64_t layout = TENURE_FENCE_LAYOUT;
  int err = bpf_map_update_elem(objects.counters.get(), &key, &layout, BPF_ANY);
  if (err < 0)
    return fail_sys("write", "the fence's layout", -err);
  TRY(bpf_prog_info info, program_info(objects.program.get(), {}));
  objects.program_id = info.id;
  return objects;
}

Result<FenceObjects> open_fence_objects(const std::string& pin_dir) {
  TRY_OK(check_pin_folder(pin_dir));
  TRY_OK(need_bpffs(pin_dir));
  // An empty folder is as good as none; one with pins in it is not removed by this.
  if (rmdir(pin_dir.c_str()) < 0 && errno != ENOENT)
    return take_over(pin_dir);
  TRY(FenceObjects objects, load_fence_objects());
  TRY_OK(pin_all(objects, pin_dir));
  return objects;
}

Result<> remove_fence_pins(const std::string& pin_dir) {
  TRY(bool ready, on_bpffs(pin_dir));
  if (!ready || !exists(pin_dir))
    return fail(Errc::NotFound, "there are no pins at " + printable(pin_dir));
  return remove_folder(pin_dir);
}

}  // namespace tenure::kernel
