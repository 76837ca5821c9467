// SPDX-License-Identifier: Apache-2.0
// tap, macvtap and vhost-net: opened by the daemon, handed to QEMU as fds.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/device_number.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "kernel/fence.h"
#include "kernel/netlink_route.h"

namespace tenure::kernel {

// One open of a network device node.
struct NetFd {
  UniqueFd fd;
  std::string path;    // "/dev/net/tun", "/dev/tap12", "/dev/vhost-net"
  DeviceNumber rdev;   // of the node that was opened (fstat)
  std::string ifname;  // "tnr0", "macvtap0"; "" for vhost-net
  uint32_t index = 0;  // of the interface; 0 for vhost-net
};

struct TapRequest {
  std::string ifname;  // "" or with "%d": the kernel chooses, e.g. "vnet%d"
  std::string mac;     // of the guest; the host side gets fe: as first byte, as libvirt does
  std::string bridge;  // "" for none
  uint32_t queues = 1;
  uint32_t mtu = 0;  // 0: the bridge's, or the kernel's default
  bool vnet_hdr = true;
};
struct Tap {
  std::vector<NetFd> queues;
  LinkChange setting;  // what set_up_tap() makes of it: MAC, MTU, bridge, up
};
// TUNSETIFF on /dev/net/tun once a queue. The bridge is looked up before, and not joined. On
// failure nothing is left behind. The interface dies with its last fd (not persistent).
Result<Tap> open_tap(const TapRequest& request);
// Sets what open_tap() found, and reads it back.
Result<> set_up_tap(const std::string& ifname, uint32_t index, const LinkChange& setting);

struct MacvtapRequest {
  std::string ifname;  // wanted name; "" gives macvtap<N>
  std::string lower;   // the host's interface
  std::string mode;    // vepa, bridge, private, passthru
  std::string mac;
  uint32_t queues = 1;
};
// Makes the link (RTM_NEWLINK), opens its /dev/tapN (made in a private place if udev is not there;
// number from /sys/class/net/X/tapN/dev), sets it up. The link does not die with its fd:
// delete_link() at release.
Result<std::vector<NetFd>> open_macvtap(const MacvtapRequest& request);

Result<NetFd> open_vhost_net();

// The interface that a tun/tap descriptor of a process is attached to (iff: of its fdinfo,
// drivers/net/tun.c); "" for any other file, or if it cannot be read.
std::string tun_name_of(pid_t pid, int fd);

// The index of an interface; NotFound.
Result<uint32_t> link_index(const std::string& ifname);

// An interface that open_tap() or open_macvtap() made, as the records tell of it. Its name alone is
// not enough: once it is gone another program, or another guest with the same MAC, may have given
// it to an interface of its own. Until the host reboots no index of a network namespace comes again
// (dev_new_index() in net/core/dev.c counts up; it would take 2^31 interfaces).
struct MadeLink {
  std::string ifname;
  std::string mac;     // of the guest; "" if it is not known
  std::string path;    // of its node; that of a macvtap, "/dev/tap12", tells its index
  uint32_t index = 0;  // then its name or its MAC may have been changed; 0: not known
};
// RTM_DELLINK; NotFound if it is gone, also if another interface has its name by now.
Result<> delete_link(const MadeLink& made);
// True if that interface exists.
Result<bool> link_exists(const MadeLink& made);
// The bridge it is a port of ("" if none), of the calling thread's network namespace.
Result<std::string> link_master(const std::string& ifname);

// Makes a tap a port of another bridge (RTM_SETLINK, IFLA_MASTER) and reads that back; where that
// fails it is again a port of what it was. The MTU stays. Unchanged: it was there already.
// NotFound: it is gone.
Result<Outcome> move_to_bridge(const MadeLink& tap, const std::string& bridge);

}  // namespace tenure::kernel
