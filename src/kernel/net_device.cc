// SPDX-License-Identifier: Apache-2.0
// Opens network device nodes on a guest's behalf. A step that fails takes back what the steps
// before it made: a tap dies with its fds, a macvtap is deleted.
#include "kernel/net_device.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/file.h"
#include "base/text.h"

namespace tenure::kernel {
namespace {

constexpr uint32_t kMaxQueues = 256;  // MAX_TAP_QUEUES of linux/if_tap.h and drivers/net/tun.c
constexpr int kMaxNames = 4096;       // macvtap0 … tried for a free name

struct ModeName {
  const char* name;
  uint32_t mode;
};
constexpr ModeName kModes[] = {{"vepa", MACVLAN_MODE_VEPA},
                               {"bridge", MACVLAN_MODE_BRIDGE},
                               {"private", MACVLAN_MODE_PRIVATE},
                               {"passthru", MACVLAN_MODE_PASSTHRU}};

Result<> check_queues(uint32_t queues) {
  if (queues < 1 || queues > kMaxQueues)
    return fail(Errc::Invalid, fmt::format("{} queues: 1 to {}", queues, kMaxQueues));
  return {};
}

// The number of the node behind an fd.
Result<DeviceNumber> number_of(int fd, const std::string& path) {
  struct stat facts{};
  if (fstat(fd, &facts) < 0)
    return fail_sys("stat", path);
  std::optional<DeviceNumber> dev = device_of(facts.st_mode, facts.st_rdev);
  if (!dev || dev->type != DeviceType::Char)
    return fail(Errc::Invalid, path + ": not a character device");
  return *dev;
}

Result<NetFd> open_node(const std::string& path) {
  NetFd node;
  TRY(node.fd, open_file(path, O_RDWR));
  TRY(node.rdev, number_of(node.fd.get(), path));
  node.path = path;
  return node;
}

// TUNSETIFF; returns the name that the interface has.
Result<std::string> set_interface(int fd, const std::string& ifname, int flags) {
  ifreq request{};
  if (ifname.size() >= sizeof request.ifr_name)
    return fail(Errc::Invalid, fmt::format("interface name '{}': at most {} bytes",
                                           printable(ifname), sizeof request.ifr_name - 1));
  memcpy(request.ifr_name, ifname.data(), ifname.size());
  request.ifr_flags = static_cast<short>(flags);
  if (ioctl(fd, TUNSETIFF, &request) < 0) {
    const int err = errno;
    if (err == EBUSY && (flags & IFF_TUN_EXCL) != 0)
      return fail(
          Error(Errc::Exists, fmt::format("interface {} exists already", printable(ifname)), err));
    return fail_sys("make interface", printable(ifname), err);
  }
  return std::string(request.ifr_name, strnlen(request.ifr_name, sizeof request.ifr_name));
}

int tap_flags(bool vnet_hdr, uint32_t queues) {
  return IFF_TAP | IFF_NO_PI | (vnet_hdr ? IFF_VNET_HDR : 0) | (queues > 1 ? IFF_MULTI_QUEUE : 0);
}

// The host's side of a tap: a bridge takes the lowest MAC of its ports as its own, which must not
// be a guest's. Never equal to the guest's.
MacAddress host_side(MacAddress guest) {
  constexpr uint8_t kHigh = 0xFE, kOther = 0xFA;
  guest[0] = guest[0] == kHigh ? kOther : kHigh;
  return guest;
}

Result<Link> find_bridge(const std::string& ifname) {
  TRY(Link bridge, find_link(ifname));
  if (bridge.kind != "bridge")
    return fail(Errc::Invalid, fmt::format("interface {} is not a bridge", ifname));
  return bridge;
}

// What the request makes of the interface, with the bridge looked up.
Result<LinkChange> plan_tap(const TapRequest& request) {
  LinkChange change;
  change.up = true;
  if (!request.mac.empty()) {
    TRY(MacAddress mac, parse_mac(request.mac));
    change.mac = host_side(mac);
  }
  if (request.mtu != 0)
    change.mtu = request.mtu;
  if (request.bridge.empty())
    return change;
  TRY(Link bridge, find_bridge(request.bridge));
  change.master = bridge.index;
  // Before it joins: a bridge takes the smallest MTU of its ports.
  if (!change.mtu)
    change.mtu = bridge.mtu;
  return change;
}

Result<> check_applied(uint32_t index, const std::string& ifname, const LinkChange& change) {
  TRY(Link now, find_link(index));
  const bool as_asked = now.up == change.up && now.mac == change.mac.value_or(now.mac) &&
                        now.mtu == change.mtu.value_or(now.mtu) &&
                        now.master == change.master.value_or(now.master);
  if (!as_asked)
    return fail(Errc::Io, fmt::format("interface {}: the kernel took the settings but they do not "
                                      "stand: changed by someone else",
                                      ifname));
  return {};
}

// Deletes the link unless it is kept.
class LinkGuard {
 public:
  explicit LinkGuard(uint32_t index) : index_(index) {}
  ~LinkGuard() {
    // Whatever keeps it from going, the first error is the one to report.
    if (index_ != 0)
      static_cast<void>(delete_link(index_));
  }
  LinkGuard(const LinkGuard&) = delete;
  LinkGuard& operator=(const LinkGuard&) = delete;
  void keep() { index_ = 0; }

 private:
  uint32_t index_;
};

Result<Link> make_macvtap(const MacvtapRequest& request, MacvtapLink link) {
  link.ifname = request.ifname;
  Result<> made;
  for (int i = 0; i < kMaxNames; ++i) {
    if (request.ifname.empty())
      link.ifname = fmt::format("macvtap{}", i);
    made = create_macvtap(link);
    const bool next_name = request.ifname.empty() && !made && made.error().code() == Errc::Exists;
    if (!next_name)
      break;
  }
  TRY_OK(made);
  Result<Link> found = find_link(link.ifname);
  if (found)
    return found;
  // It was made a moment ago under a name that was free, and nobody else takes it away.
  if (auto left = find_link(link.ifname))
    static_cast<void>(delete_link(left->index));
  return found;
}

// "macvtapN" has a device "tapM" of its own, M being its ifindex, with the number of the node.
Result<DeviceNumber> tap_number(const std::string& ifname, uint32_t index) {
  std::string path = fmt::format("/sys/class/net/{}/tap{}/dev", ifname, index);
  TRY(std::string text, read_file(path, 64));
  std::vector<std::string_view> parts = split(trim(text), ':');
  std::optional<uint32_t> major = parse_int<uint32_t>(parts[0]);
  std::optional<uint32_t> minor = parse_int<uint32_t>(parts.back());
  if (parts.size() != 2 || !major || !minor)
    return fail(Errc::Io, path + ": not a device number");
  return DeviceNumber{DeviceType::Char, *major, *minor};
}

// /dev/tapN is named by an ifindex, which two network namespaces can have in common: only the node
// of the right number is opened, through the O_PATH fd that was looked at.
Result<UniqueFd> open_if_same(const std::string& path, const DeviceNumber& dev) {
  TRY(UniqueFd seen, open_file(path, O_PATH | O_NOFOLLOW));
  TRY(DeviceNumber found, number_of(seen.get(), path));
  if (found != dev)
    return fail(Errc::NotFound,
                fmt::format("{} is {}, not {}", path, to_string(found), to_string(dev)));
  return open_file(fmt::format("/proc/self/fd/{}", seen.get()), O_RDWR);
}

// A node of our own, for as long as the open takes.
Result<UniqueFd> open_private_node(const DeviceNumber& dev) {
  std::string folder = "/run/tenure-tap-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr)
    return fail_sys("make folder", folder);
  std::string path = folder + "/tap";
  Result<UniqueFd> fd = fail(Errc::Io, "");
  if (mknod(path.c_str(), S_IFCHR | 0600, to_dev_t(dev)) < 0) {
    fd = fail_sys("make node " + to_string(dev), path);
  } else {
    fd = open_file(path, O_RDWR);
  }
  unlink(path.c_str());
  rmdir(folder.c_str());
  return fd;
}

Result<UniqueFd> open_tap_node(const std::string& path, const DeviceNumber& dev) {
  if (Result<UniqueFd> fd = open_if_same(path, dev))
    return fd;
  return open_private_node(dev);
}

// That the fd leads to this interface, whatever sysfs and /dev said.
Result<> check_same_interface(int fd, const std::string& ifname, const Link& link) {
  ifreq request{};
  if (ioctl(fd, TUNGETIFF, &request) < 0)
    return fail_sys("ask for the interface of", ifname);
  const bool same_name =
      ifname == std::string_view(request.ifr_name, strnlen(request.ifr_name, IFNAMSIZ));
  ifreq address{};
  if (ioctl(fd, SIOCGIFHWADDR, &address) < 0)
    return fail_sys("ask for the MAC of", ifname);
  const bool same_mac = memcmp(address.ifr_hwaddr.sa_data, link.mac.data(), link.mac.size()) == 0;
  if (same_name && same_mac)
    return {};
  return fail(Errc::Io,
              fmt::format("{}: its node leads to another interface, {}: /sys is not of this "
                          "network namespace",
                          ifname, printable(request.ifr_name)));
}

Result<NetFd> open_macvtap_queue(const std::string& ifname, const Link& link, uint32_t queues) {
  NetFd node;
  node.ifname = ifname;
  node.index = link.index;
  node.path = fmt::format("/dev/tap{}", link.index);
  TRY(DeviceNumber dev, tap_number(ifname, link.index));
  TRY(node.fd, open_tap_node(node.path, dev));
  TRY(node.rdev, number_of(node.fd.get(), node.path));
  TRY_OK(check_same_interface(node.fd.get(), ifname, link));
  TRY_OK(set_interface(node.fd.get(), ifname, tap_flags(true, queues)));
  return node;
}

constexpr std::string_view kTunNode = "/dev/net/tun", kMacvtapNode = "/dev/tap";

// That of a macvtap its node is named by; 0 if it is not known.
uint32_t index_of(const MadeLink& made) {
  if (made.index != 0 || !made.path.starts_with(kMacvtapNode))
    return made.index;
  return parse_int<uint32_t>(made.path.substr(kMacvtapNode.size())).value_or(0);
}

bool is_of_node(const Link& link, const std::string& path) {
  return path == kTunNode                 ? link.kind == "tun"
         : path.starts_with(kMacvtapNode) ? link.kind == "macvtap"
                                          : true;
}

bool is_made(const Link& link, const MadeLink& made) {
  Result<MacAddress> mac = parse_mac(made.mac);
  const bool same_mac = mac && ((link.kind == "tun" && link.mac == host_side(*mac)) ||
                                (link.kind == "macvtap" && link.mac == *mac));
  const uint32_t index = index_of(made);
  if (index == 0)
    return !mac || same_mac;
  // After a reboot the kernel counts anew: an index alone is no more than a name.
  return link.index == index && is_of_node(link, made.path) &&
         (link.name == made.ifname || same_mac);
}

Result<Link> find_made(const MadeLink& made) {
  const uint32_t index = index_of(made);
  TRY(Link link, index != 0 ? find_link(index) : find_link(made.ifname));
  if (!is_made(link, made))
    return fail(Errc::NotFound, printable(made.ifname) + " is gone, and another interface came");
  return link;
}

}  // namespace

Result<Tap> open_tap(const TapRequest& request) {
  TRY_OK(check_queues(request.queues));
  Tap tap;
  TRY(tap.setting, plan_tap(request));
  const int flags = tap_flags(request.vnet_hdr, request.queues);
  std::string ifname = request.ifname;
  std::vector<NetFd>& nodes = tap.queues;
  for (uint32_t queue = 0; queue < request.queues; ++queue) {
    TRY(NetFd node, open_node("/dev/net/tun"));
    // The first makes it, and must not take over one that is there; the others join it.
    TRY(ifname, set_interface(node.fd.get(), ifname, flags | (queue == 0 ? IFF_TUN_EXCL : 0)));
    node.ifname = ifname;
    nodes.push_back(std::move(node));
  }
  TRY(Link link, find_link(ifname));
  for (NetFd& node : nodes) node.index = link.index;
  return tap;
}

Result<> set_up_tap(const std::string& ifname, uint32_t index, const LinkChange& setting) {
  Result<> changed = change_link(index, setting);
  if (!changed)
    return fail(std::move(changed).error().context("tap " + ifname));
  return check_applied(index, ifname, setting);
}

Result<std::vector<NetFd>> open_macvtap(const MacvtapRequest& request) {
  TRY_OK(check_queues(request.queues));
  const auto* mode = std::ranges::find(kModes, request.mode, &ModeName::name);
  if (mode == std::end(kModes))
    return fail(Errc::Invalid, fmt::format("macvtap mode '{}': vepa, bridge, private or passthru",
                                           printable(request.mode)));
  MacvtapLink wanted;
  wanted.mode = mode->mode;
  if (!request.mac.empty()) {
    TRY(wanted.mac, parse_mac(request.mac));
  }
  TRY(Link lower, find_link(request.lower));
  wanted.lower = lower.index;
  TRY(Link link, make_macvtap(request, wanted));
  LinkGuard guard(link.index);
  TRY(std::string ifname, link_name(link.index));
  std::vector<NetFd> nodes;
  for (uint32_t queue = 0; queue < request.queues; ++queue) {
    TRY(NetFd node, open_macvtap_queue(ifname, link, request.queues));
    nodes.push_back(std::move(node));
  }
  LinkChange change;
  change.up = true;
  Result<> changed = change_link(link.index, change);
  if (!changed)
    return fail(std::move(changed).error().context("macvtap " + ifname));
  TRY_OK(check_applied(link.index, ifname, change));
  guard.keep();
  return nodes;
}

Result<NetFd> open_vhost_net() {
  Result<NetFd> node = open_node("/dev/vhost-net");
  if (!node && node.error().code() == Errc::NotFound)
    return fail(Error(Errc::NotFound, node.error().what() + " (modprobe vhost_net makes it)",
                      node.error().sys_errno()));
  return node;
}

Result<uint32_t> link_index(const std::string& ifname) {
  TRY(const Link link, find_link(ifname));
  return link.index;
}

Result<> delete_link(const MadeLink& made) {
  TRY(Link link, find_made(made));
  return delete_link(link.index);
}

Result<bool> link_exists(const MadeLink& made) {
  Result<Link> link = find_made(made);
  if (!link && link.error().code() != Errc::NotFound)
    return fail(link.error());
  return link.has_value();
}

Result<std::string> link_master(const std::string& ifname) {
  TRY(Link link, find_link(ifname));
  if (link.master == 0)
    return std::string();
  return link_name(link.master);
}

Result<Outcome> move_to_bridge(const MadeLink& tap, const std::string& bridge) {
  const std::string& ifname = tap.ifname;
  TRY(const Link to, find_bridge(bridge));
  TRY(const Link link, find_made(tap));
  if (link.master == to.index)
    return Outcome::Unchanged;
  LinkChange change;
  change.up = link.up;
  change.master = to.index;
  Result<> moved = change_link(link.index, change);
  if (moved)
    moved = check_applied(link.index, ifname, change);
  if (moved)
    return Outcome::Changed;
  change.master = link.master;
  // The first error is the one to report.
  static_cast<void>(change_link(link.index, change));
  return fail(std::move(moved).error().context("move " + ifname + " to " + bridge));
}

std::string tun_name_of(pid_t pid, int fd) {
  constexpr size_t kMaxFdinfo = 4096;  // bytes
  auto text =
      read_file("/proc/" + std::to_string(pid) + "/fdinfo/" + std::to_string(fd), kMaxFdinfo);
  if (!text)
    return "";
  constexpr std::string_view kKey = "iff:";
  for (std::string_view line : split(*text, '\n'))
    if (line.starts_with(kKey))
      return std::string(trim(line.substr(kKey.size())));
  return "";
}

}  // namespace tenure::kernel
