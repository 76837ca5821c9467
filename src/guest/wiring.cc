// SPDX-License-Identifier: Apache-2.0
#include "guest/wiring.h"

#include "base/unix_socket.h"
#include "guest/plan.h"

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
    for (const kernel::NetFd& fd : fds.tap) nic.tap_fds.push_back(fd.fd.get());
    for (const kernel::NetFd& fd : fds.vhost) nic.vhost_fds.push_back(fd.fd.get());
  }
  for (const auto& [alias, fd] : sockets) wiring.socket_fds[alias] = fd.get();
  return wiring;
}

std::vector<int> passed_fds(const qemu::Wiring& wiring) {
  std::vector<int> fds;
  if (wiring.monitor_fd >= 0)
    fds.push_back(wiring.monitor_fd);
  for (const auto& [alias, nic] : wiring.interfaces) {
    fds.insert(fds.end(), nic.tap_fds.begin(), nic.tap_fds.end());
    fds.insert(fds.end(), nic.vhost_fds.begin(), nic.vhost_fds.end());
  }
  for (const auto& [alias, fd] : wiring.socket_fds) fds.push_back(fd);
  return fds;
}

}  // namespace tenure::guest
