// SPDX-License-Identifier: Apache-2.0
// <serial>, <parallel>, <console> and <channel>: one shape, four roles.
#include <algorithm>
#include <array>
#include <cctype>

#include "base/text.h"
#include "base/unix_socket.h"
#include "domain/parse.h"

namespace tenure::domain {
namespace {

struct ChardevKindName {
  std::string_view name;
  ChardevKind kind;
};
constexpr std::array<ChardevKindName, 6> kChardevKinds = {{{"pty", ChardevKind::Pty},
                                                           {"unix", ChardevKind::Unix},
                                                           {"file", ChardevKind::File},
                                                           {"null", ChardevKind::Null},
                                                           {"dev", ChardevKind::Dev},
                                                           {"tcp", ChardevKind::Tcp}}};

ChardevKind parse_chardev_kind(const Element& e) {
  const std::string type = e.required("type");
  const auto found = std::ranges::find(kChardevKinds, type, &ChardevKindName::name);
  if (found != kChardevKinds.end())
    return found->kind;
  e.unsupported("type '" + printable(type.substr(0, 64)) + "' is not implemented");
  return ChardevKind::Null;
}

// A host's name or address, a port's number or name.
bool is_plain_name(std::string_view name) {
  const auto plain = [](char c) {
    return (std::isalnum(static_cast<unsigned char>(c)) != 0) || c == '-' || c == '.' || c == ':' ||
           c == '_';
  };
  return !name.empty() && name.size() <= 255 && std::ranges::all_of(name, plain);
}

void parse_tcp(const Element& e, Chardev& dev) {
  if (auto source = e.child("source")) {
    dev.listen = source->choice("mode", {"bind", "connect"}) == "bind";
    dev.host = source->string("host");
    dev.service = source->string("service");
    if (!is_plain_name(dev.host) || !is_plain_name(dev.service))
      source->invalid("host and service must be given, of letters, digits and -._:");
    source->choice("tls", {"no"});
  } else {
    e.invalid("<source> is missing");
  }
}

// Beside <source>: how the stream speaks.
void parse_protocol(const Element& e, Chardev& dev) {
  if (auto protocol = e.child("protocol")) {
    const std::string type = protocol->choice("type", {"raw", "telnet"});
    dev.telnet = type == "telnet";
    if (dev.telnet && dev.kind != ChardevKind::Tcp)
      protocol->invalid("only tcp speaks telnet");
  }
}

void parse_source(const Element& e, Chardev& dev) {
  if (dev.kind == ChardevKind::Tcp)
    return parse_tcp(e, dev);
  auto source = e.child("source");
  if (source && dev.kind != ChardevKind::Null) {
    // The path of a pty is where it was in an earlier run; each run gets a new one.
    const std::string path = source->path("path");
    if (dev.kind != ChardevKind::Pty)
      dev.path = path;
  }
  if (source && dev.kind == ChardevKind::Unix) {
    dev.listen = source->choice("mode", {"bind", "connect"}) == "bind";
    if (dev.path.size() > kMaxSocketPath)
      source->invalid("a socket's path has 107 bytes at most");
  }
  if (source && dev.kind == ChardevKind::File)
    dev.append = source->flag("append").value_or(false);
  const bool needs_path = dev.kind == ChardevKind::File || dev.kind == ChardevKind::Dev ||
                          (dev.kind == ChardevKind::Unix && dev.role != ChardevRole::Channel);
  if (needs_path && dev.path.empty())
    e.invalid("<source path=> is missing");
  if (dev.kind == ChardevKind::Unix && dev.path.empty())
    dev.listen = true;
}

void parse_serial_target(const Element& e, Chardev& dev) {
  dev.target_type = e.choice("type", {"isa-serial", "pci-serial", "usb-serial", "isa-debug"});
  if (auto model = e.child("model")) {
    dev.target_model =
        model->choice("name", {"isa-serial", "pci-serial", "usb-serial", "isa-debugcon"});
  }
  dev.port = e.number<uint32_t>("port", 0, 63);
}

void parse_target(const Element& e, Chardev& dev) {
  if (dev.role == ChardevRole::Serial)
    parse_serial_target(e, dev);
  if (dev.role == ChardevRole::Parallel)
    dev.port = e.number<uint32_t>("port", 0, 2);
  if (dev.role == ChardevRole::Console) {
    dev.target_type = e.choice("type", {"serial", "virtio"});
    dev.port = e.number<uint32_t>("port", 0, 63);
  }
  if (dev.role == ChardevRole::Channel) {
    dev.target_type = e.choice("type", {"virtio"});
    dev.name = e.string("name");
    e.choice("state", {"connected", "disconnected"});  // of a dump of a running guest
    const auto plain = [](char c) { return c > 0x20 && c < 0x7F && c != '/' && c != ','; };
    if (dev.name.size() > 64 || !std::ranges::all_of(dev.name, plain)) {
      e.invalid("a channel's name is printable ASCII, 64 characters at most");
    }
  }
}

}  // namespace

Chardev parse_chardev(const Element& e, ChardevRole role) {
  Chardev dev{.info = parse_info(e), .role = role, .kind = parse_chardev_kind(e)};
  // virsh repeats a pty's path here for old programs.
  if (role == ChardevRole::Console)
    static_cast<void>(e.path("tty"));
  parse_source(e, dev);
  parse_protocol(e, dev);
  if (role == ChardevRole::Redir) {
    e.choice("bus", {"usb"});
    if (dev.kind != ChardevKind::Tcp && dev.kind != ChardevKind::Unix)
      e.unsupported("a redirected device comes by tcp or unix");
  }
  if (auto target = e.child("target"))
    parse_target(*target, dev);
  if (role == ChardevRole::Channel && dev.target_type.empty())
    e.invalid("<target type=> is missing");
  return dev;
}

}  // namespace tenure::domain
