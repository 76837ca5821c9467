// SPDX-License-Identifier: Apache-2.0
// The few NETLINK_ROUTE requests that we need, rtnetlink(7): look a link up, make, change, delete
// one. They speak of the network namespace of the calling thread, unlike /sys/class/net, which
// shows that of whoever mounted sysfs. Each call uses a socket of its own: thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"

namespace tenure::kernel {

using MacAddress = std::array<uint8_t, 6>;

// "52:54:00:12:34:56", any case; else Invalid.
Result<MacAddress> parse_mac(const std::string& text);

struct Link {
  uint32_t index = 0;
  std::string name;
  uint32_t master = 0;  // index of the bridge or bond it belongs to, 0 for none
  uint32_t mtu = 0;     // bytes
  bool up = false;      // IFF_UP, what the administrator wants
  std::string kind;     // "bridge", "macvtap", "tun", …; "" for hardware
  MacAddress mac{};
};

// NotFound if there is no such interface; Invalid for a name that no interface can have.
Result<Link> find_link(const std::string& ifname);
// By its index; NotFound.
Result<Link> find_link(uint32_t index);
// The name of an interface; NotFound.
Result<std::string> link_name(uint32_t index);

// What to change; what is empty stays.
struct LinkChange {
  std::optional<MacAddress> mac;
  std::optional<uint32_t> mtu;
  std::optional<uint32_t> master;
  bool up = false;
};
Result<> change_link(uint32_t index, const LinkChange& change);

struct MacvtapLink {
  std::string ifname;
  uint32_t lower = 0;  // index
  uint32_t mode = 0;   // MACVLAN_MODE_…
  std::optional<MacAddress> mac;
};
// Exists if the name is taken.
Result<> create_macvtap(const MacvtapLink& link);

Result<> delete_link(uint32_t index);

}  // namespace tenure::kernel
