// SPDX-License-Identifier: Apache-2.0
#include "guest/run/wiring.h"

#include "base/unix_socket.h"
#include "guest/plan/plan.h"

namespace tenure::guest {
namespace {

bool listens(const domain::Chardev& chardev) {
  return chardev.kind == domain::ChardevKind::Unix && chardev.listen;
}

}  // namespace

Result<ChardevSockets> bind_sockets(const domain::Domain& domain, const HostOptions& options) {
  ChardevSockets sockets;
  for (const domain::Chardev& chardev : domain.chardevs) {
    if (!listens(chardev))
      continue;
    auto fd = listen_unix(socket_path(chardev, options), 0600);
    if (!fd)
      return fail(std::move(fd).error().context("chardev " + chardev.info.alias));
    sockets.emplace(chardev.info.alias, std::move(*fd));
  }
  return sockets;
}

void unlink_sockets(const domain::Domain& domain, const HostOptions& options) {
  for (const domain::Chardev& chardev : domain.chardevs)
    if (listens(chardev))
      (void)remove_socket(socket_path(chardev, options));  // what is no socket is not ours
}

qemu::Wiring wire(const domain::Domain& domain, const Facts& facts, const RunSeams& seams,
                  const HostOptions& options, const ChardevSockets& sockets, int monitor_fd) {
  qemu::Wiring wiring{.kvm = domain.kvm,
                      .monitor_fd = monitor_fd,
                      .images = facts.chains,
                      .runtime_dir = options.runtime_dir};
  for (const auto& [alias, fds] : seams.nics()) {
    qemu::InterfaceWiring& nic = wiring.interfaces[alias];
    for (const kernel::NetFd& fd : fds.tap) nic.tap_fds.push_back(std::to_string(fd.fd.get()));
    for (const kernel::NetFd& fd : fds.vhost) nic.vhost_fds.push_back(std::to_string(fd.fd.get()));
  }
  for (const auto& [alias, hostdev] : facts.hostdevs) wiring.usb_nodes[alias] = hostdev.node;
  for (const auto& [alias, fd] : sockets) wiring.socket_fds[alias] = std::to_string(fd.get());
  for (const auto& [alias, helper] : seams.helpers())
    wiring.socket_fds[alias] = std::to_string(helper.socket.get());
  return wiring;
}

std::vector<int> passed_fds(const RunSeams& seams, const ChardevSockets& sockets, int monitor_fd) {
  std::vector<int> fds{monitor_fd};
  for (const auto& [alias, nic] : seams.nics()) {
    for (const kernel::NetFd& fd : nic.tap) fds.push_back(fd.fd.get());
    for (const kernel::NetFd& fd : nic.vhost) fds.push_back(fd.fd.get());
  }
  for (const auto& [alias, fd] : sockets) fds.push_back(fd.get());
  for (const auto& [alias, helper] : seams.helpers()) fds.push_back(helper.socket.get());
  return fds;
}

}  // namespace tenure::guest
