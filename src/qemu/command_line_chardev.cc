// SPDX-License-Identifier: Apache-2.0
// Character devices: the host's side (-chardev, which has no JSON form in QEMU 7.2) and the
// guest's.
#include "qemu/command_line_parts.h"

namespace tenure::qemu {
namespace {

using domain::Chardev;
using domain::ChardevKind;
using domain::ChardevRole;

std::string socket_path(const Builder& b, const Chardev& dev) {
  if (!dev.path.empty())
    return dev.path;
  const std::string& name = dev.name.empty() ? dev.info.alias : dev.name;
  return b.wiring().runtime_dir + "/" + name;
}

std::string socket(const Builder& b, const Chardev& dev) {
  const auto fd = b.wiring().socket_fds.find(dev.info.alias);
  if (dev.listen && fd != b.wiring().socket_fds.end()) {
    return ",fd=" + fd->second + ",server=on,wait=off";
  }
  const std::string path = ",path=" + doubled_commas(socket_path(b, dev));
  return dev.listen ? path + ",server=on,wait=off" : path;
}

Result<std::string> backend(Builder& b, const Chardev& dev, const std::string& id) {
  const std::string path = ",path=" + doubled_commas(dev.path);
  switch (dev.kind) {
    case ChardevKind::Pty:
      return "pty,id=" + id;
    case ChardevKind::Null:
      return "null,id=" + id;
    case ChardevKind::File:
      return "file,id=" + id + path + (dev.append ? ",append=on" : ",append=off");
    case ChardevKind::Dev:
      return (dev.role == ChardevRole::Parallel ? "parallel,id=" : "serial,id=") + id + path;
    case ChardevKind::Unix:
      if (dev.path.empty() && !b.wiring().socket_fds.contains(dev.info.alias) &&
          b.wiring().runtime_dir.empty() && !b.wiring().preview) {
        return fail(b.invalid(dev.info.place, "<channel>: no folder for its socket"));
      }
      return "socket,id=" + id + socket(b, dev);
    case ChardevKind::Tcp:
      return "socket,id=" + id + ",host=" + dev.host + ",port=" + dev.service +
             (dev.telnet ? ",telnet=on" : "") + (dev.listen ? ",server=on,wait=off" : "");
  }
  return fail(b.unsupported(dev.info.place, "this kind of character device"));
}

std::string device_name(const Chardev& dev) {
  switch (dev.role) {
    case ChardevRole::Serial:
      return dev.target_model;
    case ChardevRole::Parallel:
      return "isa-parallel";
    case ChardevRole::Console:
      return "virtconsole";
    case ChardevRole::Channel:
      return "virtserialport";
    case ChardevRole::Redir:
      return "usb-redir";
  }
  return "";
}

Result<> add_chardev(Builder& b, const Chardev& dev) {
  const std::string id = "char" + dev.info.alias;
  TRY(const std::string host, backend(b, dev, id));
  b.add("-chardev", host);
  Json options("driver", device_name(dev));
  options.text("chardev", id);
  const bool has_index = dev.target_model == "isa-serial" || dev.role == ChardevRole::Parallel;
  if (has_index)
    options.maybe("index", dev.port);
  options.maybe("name", dev.name);
  b.place(options, dev.info);
  b.device(options);
  return {};
}

}  // namespace

Result<> add_chardevs(Builder& b) {
  for (const Chardev& dev : b.domain().chardevs) TRY_OK(add_chardev(b, dev));
  return {};
}

}  // namespace tenure::qemu
