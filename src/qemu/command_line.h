// SPDX-License-Identifier: Apache-2.0
// A completed Domain as QEMU's arguments. Pure: what only the running daemon knows comes in as
// Wiring. Everything that can be JSON (-blockdev, -device, -netdev, -object, -audiodev) is JSON, so
// that no comma, quote or '=' in a path or name can start an option of its own; the few options
// without a JSON form double their commas (QemuOpts).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "domain/domain.h"
#include "qemu/image.h"

namespace tenure::qemu {

// What an interface gets, a queue each: numbers of fds that QEMU inherits, or names of those that a
// running one was given (getfd).
struct InterfaceWiring {
  std::vector<std::string> tap_fds;    // tun or macvtap
  std::vector<std::string> vhost_fds;  // as many, or none: no vhost
};

struct Wiring {
  bool kvm = false;                          // -accel kvm; a definition of type kvm needs it
  int monitor_fd = -1;                       // a listening AF_UNIX socket; -1: no monitor
  std::map<std::string, ImageChain> images;  // by alias of the disk, top first
  std::map<std::string, InterfaceWiring> interfaces;  // by alias of the interface
  std::map<std::string, std::string>
      socket_fds;  // by alias: of a listening unix chardev its socket, of a folder that a helper
                   // serves the connection to it
  std::map<std::string, std::string> usb_nodes;  // by alias of a USB hostdev: /dev/bus/usb/…
  // By alias of a plain shmem: where QEMU opens its file; /dev/shm/NAME for those that are not
  // here.
  std::map<std::string, std::string> shared_files;
  std::string runtime_dir;  // for sockets of channels without a path, "<runtime_dir>/<name>"
  std::string log_name;     // what -name says; "" for the guest's name
  bool sandbox = true;      // seccomp: no obsolete calls, no new privileges, no exec, no priorities
  bool start_paused = true;  // -S: the daemon says `cont` once everything is read back
  bool incoming = false;     // -incoming defer: its state comes by migrate-incoming
  // A dry run: fds that are not there yet are written as "?", and a disk without a chain is shown
  // as its definition has it. Otherwise both are errors.
  bool preview = false;
};

// argv, with the emulator's path first. `domain` must have gone through domain::complete(). Errors:
// Unsupported (names the element, line and column), Invalid (wiring for something is missing).
// Thread-safe.
Result<std::vector<std::string>> command_line(const domain::Domain& domain, const Wiring& wiring);

// Name of a node of a disk's chain in QEMU: `layer` 0 is the top. The format node is what a device
// or a higher layer uses, the storage node below it has the file open. Of a raw image they are one,
// the format node: QEMU's driver raw would only pass on what it is asked.
// What all of them begin with: "virtio-disk0.".
bool has_format_layer(std::string_view format);
std::string node_stem(const domain::Disk& disk);
std::string format_node(const domain::Disk& disk, size_t layer);
std::string storage_node(const domain::Disk& disk, size_t layer);

}  // namespace tenure::qemu
