// SPDX-License-Identifier: Apache-2.0
// What guests need of this host: a fence and KVM; and what libvirt, if it is here, records.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <filesystem>

#include "base/file.h"
#include "base/text.h"
#include "doctor/checks.h"
#include "kernel/fence.h"

namespace tenure::doctor {
namespace {

constexpr size_t kMaxConfig = 1U << 20U;
constexpr char kBpfFs[] = "/sys/fs/bpf";

// A value of libvirt's "key = value" files; "" if it is not set.
std::string setting(const std::string& text, std::string_view key) {
  std::string value;
  for (std::string_view line : split(text, '\n')) {
    line = trim(line);
    size_t equals = line.find('=');
    if (line.starts_with('#') || equals == line.npos || trim(line.substr(0, equals)) != key)
      continue;
    value = std::string(trim(line.substr(equals + 1)));
  }
  return value;
}

void check_libvirt_file(const std::string& path, const std::string& text, Report& report) {
  const std::string level = setting(text, "audit_level");
  const std::string logging = setting(text, "audit_logging");
  if (level == "0")
    report.fail(path + ": audit_level = 0, libvirt records nothing of its guests",
                "audit_level = 2");
  else if (level != "2")
    report.warn(
        fmt::format("{}: audit_level = {}: libvirt goes on without audit where there is none", path,
                    level.empty() ? "1 (default)" : level),
        "audit_level = 2 makes it refuse to start");
  else
    report.pass(path + ": audit_level = 2");
  if (logging == "1")
    report.pass(path + ": audit_logging = 1, records also go to libvirt's own log");
}

}  // namespace

void check_fence(const Scope& scope, Report& report) {
  if (scope.daemon) {
    if (scope.daemon->fence == "none")
      return report.fail("tenured has no fence: " + scope.daemon->no_fence_reason,
                         "mount cgroup2, or cgroup v1 with the devices controller");
    return report.pass(fmt::format("tenured fences guests by cgroup {}", scope.daemon->fence));
  }
  if (scope.mounts.v2.empty() && scope.mounts.v1_devices.empty())
    return report.fail(
        "neither cgroup v2 nor v1 with the devices controller is mounted: no guest "
        "starts without --require-fence no",
        "mount -t cgroup2 none /sys/fs/cgroup");
  std::string found =
      fmt::format("{}{}{}", scope.mounts.v2.empty() ? "" : "v2 at " + scope.mounts.v2,
                  scope.mounts.v2.empty() || scope.mounts.v1_devices.empty() ? "" : ", ",
                  scope.mounts.v1_devices.empty() ? "" : "v1 at " + scope.mounts.v1_devices);
  if (!scope.root)
    return report.unseen(fmt::format("{}; whether it fences can only root try", found));
  Result<> v2 = kernel::probe_fence_v2(scope.mounts);
  Result<> v1 = kernel::probe_fence_v1(scope.mounts);
  if (v2)
    return report.pass("cgroup v2: the BPF program loads and attaches");
  if (v1)
    return report.warn(
        fmt::format("cgroup v1 only, denials are not counted; v2: {}", v2.error().what()), "");
  report.fail(fmt::format("no fence works; v2: {}; v1: {}", v2.error().what(), v1.error().what()),
              "");
}

void check_pins(const Scope& scope, Report& report) {
  std::error_code error;
  std::filesystem::directory_iterator folders(kBpfFs, error);
  if (error)
    return report.add(scope.root ? Level::Pass : Level::Unseen,
                      scope.root ? "no BPF file system is mounted, so nothing is pinned"
                                 : fmt::format("pins below {}: {}", kBpfFs, error.message()));
  int count = 0;
  for (const auto& folder : folders) {
    const std::string name = folder.path().filename().string();
    if (name != "tenure" && !name.starts_with("tenure-"))
      continue;
    ++count;
    const bool whole = std::filesystem::exists(folder.path() / "program", error);
    if (!whole && !error)
      report.warn(fmt::format("{} is pinned in part", printable(folder.path().string())),
                  "tenured refuses incomplete pins; remove the folder if no guest runs");
  }
  if (count == 0)
    return report.pass("no fence is pinned; the next tenured loads its own");
  report.pass(fmt::format(
      "{} pinned fence{}: {}", count, count == 1 ? "" : "s",
      scope.daemon ? "tenured has taken its own over" : "the next tenured takes its own over"));
}

void check_kvm(const Scope& scope, Report& report) {
  const std::string path = scope.sys_root + "/dev/kvm";
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (fd) {
    const int version = ioctl(fd.get(), KVM_GET_API_VERSION, 0);
    if (version == KVM_API_VERSION)
      return report.pass("KVM is usable");
    return report.fail(
        fmt::format("{}: API version {}, {} expected", path, version, KVM_API_VERSION), "");
  }
  if (errno == EACCES || errno == EPERM)
    return report.unseen(path + ": " + sys_error("open", path).what());
  report.warn("no KVM here: guests of type kvm do not start, those of type qemu are slow",
              "load kvm_intel or kvm_amd; switch virtualization on in the firmware");
}

void check_libvirt(const Scope& scope, Report& report) {
  bool any = false;
  for (const char* name : {"libvirtd.conf", "virtqemud.conf"}) {
    const std::string path = fmt::format("{}/etc/libvirt/{}", scope.sys_root, name);
    auto text = read_file(path, kMaxConfig);
    if (!text && text.error().code() == Errc::NotFound)
      continue;
    any = true;
    if (text)
      check_libvirt_file(path, *text, report);
    else
      report.unseen(text.error().what());
  }
  if (!any)
    report.pass("libvirt is not configured here");
}

}  // namespace tenure::doctor
