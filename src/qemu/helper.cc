// SPDX-License-Identifier: Apache-2.0
// virtiofsd's options are those of docs/tools/virtiofsd.rst of QEMU 7.2 and of the Rust daemon's
// README, which takes the former's -o as well.
#include "qemu/helper.h"

#include <linux/capability.h>

#include <array>
#include <optional>

namespace tenure::qemu {
namespace {

constexpr uint64_t mask(std::initializer_list<unsigned> capabilities) {
  uint64_t bits = 0;
  for (unsigned one : capabilities) bits |= uint64_t{1} << one;
  return bits;
}

constexpr std::array kVirtiofsdPaths{"/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd",
                                     "/usr/lib/virtiofsd"};

// What virtiofsd documents that it keeps (docs/tools/virtiofsd.rst, setup_capabilities() in
// passthrough_ll.c), but for CAP_MKNOD: a device node in the folder would be one of the host's.
constexpr uint64_t kServe = mask(
    {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_SETGID, CAP_SETUID, CAP_SETFCAP});
// Its sandbox: namespaces, mounts and pivot_root, or chroot; and the bounding set, which it
// empties.
constexpr uint64_t kSandbox = mask({CAP_SYS_ADMIN, CAP_SYS_CHROOT, CAP_SETPCAP});

void option(std::string& list, std::string_view name, std::optional<bool> on) {
  if (on)
    list.append(*on ? "," : ",no_").append(name);
}

}  // namespace

const HelperKind kVirtiofsd{.name = "virtiofsd",
                            .paths = kVirtiofsdPaths,
                            .start_capabilities = kServe | kSandbox,
                            .serve_capabilities = kServe};

std::vector<std::string> virtiofsd_command(const domain::Filesystem& fs, const std::string& binary,
                                           int listen_fd, const std::string& folder) {
  std::string options = "source=" + folder + ",modcaps=-mknod";
  if (!fs.cache.empty())
    options += ",cache=" + fs.cache;
  if (!fs.sandbox.empty())
    options += ",sandbox=" + fs.sandbox;
  option(options, "xattr", fs.xattr);
  option(options, "posix_lock", fs.posix_lock);
  option(options, "flock", fs.flock);
  // Its limit is set where it is started, without CAP_SYS_RESOURCE.
  std::vector<std::string> argv{binary, "--fd=" + std::to_string(listen_fd), "-o",
                                std::move(options), "--rlimit-nofile=0"};
  if (fs.threads)
    argv.push_back("--thread-pool-size=" + std::to_string(*fs.threads));
  return argv;
}

}  // namespace tenure::qemu
