// SPDX-License-Identifier: Apache-2.0
// Interfaces: the host's side (user networking, or fds that the daemon opened) and the guest's.
#include "qemu/command_line_parts.h"

namespace tenure::qemu {
namespace {

using domain::Interface;
using domain::InterfaceKind;

Result<Json> netdev(Builder& b, const Interface& nic, const std::string& id) {
  if (nic.kind == InterfaceKind::User)
    return Json("type", "user").text("id", id);
  const auto found = b.wiring().interfaces.find(nic.info.alias);
  const InterfaceWiring fds =
      found == b.wiring().interfaces.end() ? InterfaceWiring{} : found->second;
  const bool several = nic.queues.value_or(1) > 1;
  TRY(const std::string taps, b.fd(fds.tap_fds, "<interface> " + nic.info.alias));
  Json json("type", "tap");
  json.text("id", id).text(several ? "fds" : "fd", taps);
  if (nic.backend == "qemu")
    return json;
  if (nic.backend == "vhost" || !fds.vhost_fds.empty()) {
    TRY(const std::string vhosts,
        b.fd(fds.vhost_fds, "<driver name='vhost'> of " + nic.info.alias));
    json.flag("vhost", true).text(several ? "vhostfds" : "vhostfd", vhosts);
  }
  return json;
}

void add_virtio_options(Json& json, const Interface& nic) {
  Builder::virtio(json, nic.info.virtio);
  json.maybe("ioeventfd", nic.ioeventfd)
      .maybe("event_idx", nic.event_idx)
      .maybe("rx_queue_size", nic.rx_queue_size)
      .maybe("tx_queue_size", nic.tx_queue_size)
      .maybe("host_mtu", nic.mtu);
  if (const uint32_t queues = nic.queues.value_or(1); queues > 1) {
    // An interrupt for each direction of each queue, one for control, one for configuration
    // changes.
    json.flag("mq", true).number("vectors", 2 * queues + 2);
  }
}

Result<> add_interface(Builder& b, const Interface& nic) {
  const std::string host = "host" + nic.info.alias;
  TRY(const Json backend, netdev(b, nic, host));
  b.add("-netdev", backend);
  const bool virtio = nic.model.starts_with("virtio");
  Json json("driver", virtio ? Builder::virtio_name("virtio-net", nic.model) : nic.model);
  json.text("netdev", host).text("mac", nic.mac);
  if (virtio)
    add_virtio_options(json, nic);
  if (nic.rom_bar)
    json.number("rombar", *nic.rom_bar ? 1 : 0);
  if (nic.rom_enabled == false)
    json.text("romfile", "");
  b.place(json, nic.info);
  json.maybe("bootindex", b.boot_index(nic.info, "network"));
  b.device(json);
  return {};
}

}  // namespace

Result<> add_interfaces(Builder& b) {
  for (const Interface& nic : b.domain().interfaces) TRY_OK(add_interface(b, nic));
  return {};
}

}  // namespace tenure::qemu
