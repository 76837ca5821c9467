// SPDX-License-Identifier: Apache-2.0
// What both kinds of fence need, and the choice between them. A kind of fence is chosen only after
// it has really fenced something: a host can offer the interface and refuse its use (containers
// do).
#include "kernel/fence.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/text.h"
#include "kernel/fence_common.h"

namespace tenure::kernel {
namespace {

// Major 1 minor 3 is /dev/null on every Linux (Documentation/admin-guide/devices.txt).
constexpr AclRule kProbeRule{.type = DeviceType::Char, .major = 1, .minor = 3, .access = kReadOnly};

constexpr std::string_view kProbe = "tenure-probe-";

// Groups of processes that died while they probed; rmdir takes none that has anybody in it.
void sweep_probes(const std::string& mount) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(mount, error)) {
    std::string name = entry.path().filename();
    if (!name.starts_with(kProbe))
      continue;
    auto pid = parse_int<pid_t>(name.substr(kProbe.size()));
    if (pid && kill(*pid, 0) < 0 && errno == ESRCH)
      rmdir(entry.path().c_str());
  }
}

Result<Cgroup> make_probe_cgroup(CgroupVersion version, const std::string& mount) {
  std::string name = fmt::format("{}{}", kProbe, getpid());
  sweep_probes(mount);
  auto made = Cgroup::create(version, mount, "", name);
  if (made || made.error().code() != Errc::Exists)
    return made;
  // Of a process that had our pid and died while it probed.
  TRY(Cgroup stale, Cgroup::open(version, mount + "/" + name));
  TRY_OK(stale.remove());
  return Cgroup::create(version, mount, "", name);
}

Result<> fence_once(FenceControl& control, const Cgroup& cgroup) {
  TRY(auto fence, control.create(cgroup));
  TRY_OK(fence->deny_all());
  TRY_OK(fence->set(kProbeRule));
  TRY(auto rules, fence->list());
  TRY_OK(fence->dissolve());
  if (rules != std::vector{kProbeRule})
    return fail(Errc::Internal, "the device ACL that was read back is not the one that was set");
  return {};
}

Result<std::unique_ptr<FenceControl>> open_tried(CgroupVersion version, const CgroupMounts& mounts,
                                                 const std::string& pin_dir) {
  bool is_v2 = version == CgroupVersion::V2;
  const std::string& mount = is_v2 ? mounts.v2 : mounts.v1_devices;
  if (mount.empty())
    return fail(Errc::Unsupported, is_v2 ? "cgroup v2 is not mounted"
                                         : "the devices controller of cgroup v1 is not mounted");
  TRY(auto control, is_v2 ? open_fence_v2(pin_dir) : open_fence_v1());
  TRY_OK(try_out(*control, mount));
  return control;
}

}  // namespace

std::string to_string(const AclRule& rule) {
  return fmt::format("{} {}:{} {}", static_cast<char>(rule.type), rule.major,
                     rule.minor ? std::to_string(*rule.minor) : "*",
                     rule.access.none() ? "-" : to_string(rule.access));
}

Result<> check_numbers(const AclRule& rule) {
  if (rule.major <= kMaxMajor && rule.minor.value_or(0) <= kMaxMinor)
    return {};
  return fail(Errc::Invalid, fmt::format("{}: the kernel has majors up to {} and minors up to {}",
                                         to_string(rule), kMaxMajor, kMaxMinor));
}

Result<CgroupHandle> keep(const Cgroup& cgroup) {
  UniqueFd dir(fcntl(cgroup.dir_fd(), F_DUPFD_CLOEXEC, 3));
  if (!dir)
    return fail_sys("keep open", cgroup.path());
  return CgroupHandle{.dir = std::move(dir), .inode = cgroup.inode(), .path = cgroup.path()};
}

Result<> try_out(FenceControl& control, const std::string& mount) {
  TRY(Cgroup cgroup, make_probe_cgroup(control.version(), mount));
  auto tried = fence_once(control, cgroup);
  auto removed = cgroup.remove();
  return tried ? removed : tried;
}

std::vector<Result<std::vector<AclRule>>> list_each(const std::vector<const Fence*>& fences) {
  std::vector<Result<std::vector<AclRule>>> lists;
  lists.reserve(fences.size());
  for (const Fence* fence : fences) lists.push_back(fence->list());
  return lists;
}

Result<> probe_fence_v1(const CgroupMounts& mounts) {
  TRY_OK(open_tried(CgroupVersion::V1, mounts, ""));
  return {};
}

Result<FenceChoice> choose_fence(const CgroupMounts& mounts, const std::string& pin_dir,
                                 std::optional<CgroupVersion> wanted) {
  if (wanted) {
    TRY(auto control, open_tried(*wanted, mounts, pin_dir));
    return FenceChoice{.control = std::move(control), .why_not_v2 = ""};
  }
  auto v2 = open_tried(CgroupVersion::V2, mounts, pin_dir);
  if (v2)
    return FenceChoice{.control = std::move(*v2), .why_not_v2 = ""};
  auto v1 = open_tried(CgroupVersion::V1, mounts, pin_dir);
  if (v1)
    return FenceChoice{.control = std::move(*v1), .why_not_v2 = v2.error().what()};
  return fail(Errc::Unsupported, fmt::format("no device fence can be had here: v2: {}; v1: {}",
                                             v2.error().what(), v1.error().what()));
}

}  // namespace tenure::kernel
