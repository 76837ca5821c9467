// SPDX-License-Identifier: Apache-2.0
// <interface> of the kinds user, bridge, ethernet and direct (macvtap).
#include <algorithm>
#include <array>

#include "base/text.h"
#include "domain/parse.h"

namespace tenure::domain {
namespace {

struct InterfaceKindName {
  std::string_view name;
  InterfaceKind kind;
};
constexpr std::array<InterfaceKindName, 4> kInterfaceKinds = {
    {{"user", InterfaceKind::User},
     {"bridge", InterfaceKind::Bridge},
     {"ethernet", InterfaceKind::Ethernet},
     {"direct", InterfaceKind::Direct}}};

InterfaceKind parse_interface_kind(const Element& e) {
  const std::string type = e.required("type");
  const auto found = std::ranges::find(kInterfaceKinds, type, &InterfaceKindName::name);
  if (found != kInterfaceKinds.end())
    return found->kind;
  e.unsupported("type '" + printable(type.substr(0, 64)) + "' is not implemented");
  return InterfaceKind::User;
}

// Name of a network device: IFNAMSIZ is 16 with the NUL, dev_valid_name() forbids '/' and blanks.
std::string parse_ifname(const Element& e, const char* attribute) {
  std::string name = e.string(attribute);
  const auto plain = [](char c) {
    return c > 0x20 && c < 0x7F && c != '/' && c != ':' && c != '%';
  };
  if (!name.empty() &&
      (name.size() > 15 || name == "." || name == ".." || !std::ranges::all_of(name, plain))) {
    e.invalid("'" + printable(name.substr(0, 64)) + "' is not an interface's name");
  }
  return name;
}

std::string parse_mac(const Element& e) {
  std::string mac = e.required("address");
  std::ranges::transform(mac, mac.begin(), [](char c) {
    return static_cast<char>(c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
  });
  const auto bytes = split(mac, ':');
  const auto is_byte = [](std::string_view b) {
    return b.size() == 2 && parse_int<uint8_t>(b, 16).has_value();
  };
  if (bytes.size() != 6 || !std::ranges::all_of(bytes, is_byte)) {
    e.invalid("'" + printable(mac.substr(0, 64)) + "' is not a MAC address");
  } else if ((parse_int<uint8_t>(bytes.front(), 16).value_or(0) & 1U) != 0) {
    e.invalid("a guest's MAC address is not a multicast one");
  }
  return mac;
}

void parse_driver(const Element& e, Interface& nic) {
  nic.backend = e.choice("name", {"vhost", "qemu"});
  nic.queues = e.number<uint32_t>("queues", 1, 256);
  nic.rx_queue_size = e.number<uint32_t>("rx_queue_size", 256, 1024);
  nic.tx_queue_size = e.number<uint32_t>("tx_queue_size", 256, 1024);
  nic.ioeventfd = e.flag("ioeventfd");
  nic.event_idx = e.flag("event_idx");
  nic.info.virtio = parse_virtio(e);
  const VirtioOptions& v = nic.info.virtio;
  const bool any = nic.queues || nic.rx_queue_size || nic.tx_queue_size || nic.ioeventfd ||
                   nic.event_idx || v.iommu || v.ats || v.packed || v.page_per_vq;
  if (any && !nic.model.starts_with("virtio"))
    e.invalid("options of virtio on another model");
  if (nic.kind == InterfaceKind::User && nic.backend == "vhost") {
    e.invalid("user networking has no vhost");
  }
  if (nic.kind == InterfaceKind::User && nic.queues.value_or(1) > 1) {
    e.invalid("user networking has one queue");
  }
}

void parse_source(const Element& e, Interface& nic) {
  auto source = e.child("source");
  if (nic.kind == InterfaceKind::Bridge && source) {
    nic.bridge = parse_ifname(*source, "bridge");
  }
  if (nic.kind == InterfaceKind::Direct && source) {
    nic.lower = parse_ifname(*source, "dev");
    nic.mode = source->choice("mode", {"vepa", "bridge", "private", "passthrough"});
  }
  if (nic.kind == InterfaceKind::Direct && nic.mode.empty())
    nic.mode = "vepa";
  if ((nic.kind == InterfaceKind::Bridge && nic.bridge.empty()) ||
      (nic.kind == InterfaceKind::Direct && nic.lower.empty())) {
    e.invalid("<source> is missing");
  }
}

void parse_target(const Element& e, Interface& nic) {
  nic.target = parse_ifname(e, "dev");
  if (nic.kind == InterfaceKind::Ethernet)
    nic.target_managed = e.flag("managed").value_or(true);
  // A dump of a running guest carries names that were made up for that run; libvirt drops them too.
  const bool made_up = nic.target.starts_with("vnet") || nic.target.starts_with("macvtap");
  if (made_up && nic.target_managed)
    nic.target.clear();
}

}  // namespace

Interface parse_interface(const Element& e) {
  Interface nic{.info = parse_info(e), .kind = parse_interface_kind(e)};
  if (auto mac = e.child("mac"))
    nic.mac = parse_mac(*mac);
  if (auto model = e.child("model")) {
    nic.model = model->choice(
        "type", {"virtio", "virtio-transitional", "virtio-non-transitional", "e1000", "e1000e",
                 "rtl8139", "ne2k_pci", "pcnet", "i82551", "i82557b", "i82559er", "vmxnet3"});
  }
  parse_source(e, nic);
  if (auto target = e.child("target"))
    parse_target(*target, nic);
  if (auto driver = e.child("driver"))
    parse_driver(*driver, nic);
  if (auto link = e.child("link")) {
    const std::string state = link->choice("state", {"up", "down"});
    if (state.empty())
      link->invalid("attribute 'state' is missing");
    nic.link_up = state != "down";
  }
  if (auto mtu = e.child("mtu"))
    nic.mtu = mtu->number<uint32_t>("size", 68, 65535);
  if (nic.mtu && nic.kind == InterfaceKind::User)
    e.unsupported("mtu of user networking");
  if (auto rom = e.child("rom")) {
    nic.rom_enabled = rom->flag("enabled");
    nic.rom_bar = rom->flag("bar");
    if (nic.rom_enabled == false && nic.rom_bar)
      rom->invalid("a bar of a ROM that is not enabled");
  }
  return nic;
}

}  // namespace tenure::domain
