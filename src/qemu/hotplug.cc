// SPDX-License-Identifier: Apache-2.0
#include "qemu/hotplug.h"

#include <algorithm>
#include <array>

#include "qemu/command_line_parts.h"

namespace tenure::qemu {
namespace {

using domain::Chardev;
using domain::ChardevKind;
using nlohmann::json;

// A QMP command, the option whose value are its arguments, the member that names what it makes, and
// what takes that away.
struct Pair {
  std::string_view option;
  std::string_view add;
  std::string_view remove;
  const char* id;
};
constexpr std::array<Pair, 6> kPairs = {{
    {"-blockdev", "blockdev-add", "blockdev-del", "node-name"},
    {"-netdev", "netdev_add", "netdev_del", "id"},
    {"-object", "object-add", "object-del", "id"},
    {"-chardev", "chardev-add", "chardev-remove", "id"},
    {"-device", "device_add", "device_del", "id"},
    {"", "getfd", "closefd", "fdname"},
}};

json socket_backend(const Chardev& dev, const Wiring& wiring) {
  json address;
  if (auto fd = wiring.socket_fds.find(dev.info.alias); fd != wiring.socket_fds.end())
    address = {{"type", "fd"}, {"data", {{"str", fd->second}}}};
  else if (dev.kind == ChardevKind::Tcp)
    address = {{"type", "inet"}, {"data", {{"host", dev.host}, {"port", dev.service}}}};
  else
    address = {{"type", "unix"}, {"data", {{"path", dev.path}}}};
  json data = {{"addr", std::move(address)}, {"server", dev.listen}};
  if (dev.listen)
    data["wait"] = false;
  if (dev.telnet)
    data["telnet"] = true;
  return {{"type", "socket"}, {"data", std::move(data)}};
}

// -chardev has no JSON form in QEMU 7.2; chardev-add has (qapi/char.json).
json backend(const Chardev& dev, const Wiring& wiring) {
  switch (dev.kind) {
    case ChardevKind::Pty:
      return {{"type", "pty"}, {"data", json::object()}};
    case ChardevKind::Null:
      return {{"type", "null"}, {"data", json::object()}};
    case ChardevKind::File:
      return {{"type", "file"}, {"data", {{"out", dev.path}, {"append", dev.append}}}};
    case ChardevKind::Dev: {
      const bool parallel = dev.role == domain::ChardevRole::Parallel;
      return {{"type", parallel ? "parallel" : "serial"}, {"data", {{"device", dev.path}}}};
    }
    case ChardevKind::Unix:
    case ChardevKind::Tcp:
      return socket_backend(dev, wiring);
  }
  return {};
}

// Of a chardev, or to the server of another device.
Chardev stream_of(const domain::Domain& device) {
  if (!device.chardevs.empty())
    return device.chardevs.front();
  Chardev server{.kind = ChardevKind::Unix};
  for (const domain::Shmem& shmem : device.shmems) {
    server.info.alias = shmem.info.alias;
    server.path = shmem.server;
  }
  for (const domain::Filesystem& fs : device.filesystems) {
    server.info.alias = fs.info.alias;
    server.path = fs.socket;
  }
  return server;
}

Result<Command> command_of(const domain::Domain& device, const Wiring& wiring,
                           const std::string& option, const std::string& value) {
  const auto pair = std::ranges::find(kPairs, option, &Pair::option);
  if (pair == kPairs.end())
    return fail(Errc::Unsupported, option + ": QEMU takes this only at its start");
  if (option == "-chardev") {
    const Chardev dev = stream_of(device);
    return Command{"chardev-add",
                   {{"id", "char" + dev.info.alias}, {"backend", backend(dev, wiring)}}};
  }
  json arguments = json::parse(value, nullptr, false);
  if (!arguments.is_object())
    return fail(Errc::Internal, option + ": its value is no JSON object");
  return Command{std::string(pair->add), std::move(arguments)};
}

std::vector<std::string> chain_nodes(const domain::Disk& disk,
                                     const std::vector<std::string>& nodes) {
  const std::string stem = node_stem(disk);
  std::vector<std::string> chain;
  std::ranges::copy_if(nodes, std::back_inserter(chain),
                       [&](const std::string& node) { return node.starts_with(stem); });
  return chain;
}

}  // namespace

Result<std::vector<Command>> plug_commands(const domain::Domain& device,
                                           const domain::Domain& whole, const Wiring& wiring) {
  Builder b(device, whole, wiring);
  if (!device.controllers.empty())
    TRY_OK(add_controllers(b));
  TRY_OK(add_disks(b));
  TRY_OK(add_interfaces(b));
  TRY_OK(add_chardevs(b));
  TRY_OK(add_inputs(b));
  TRY_OK(add_sounds(b));
  add_rngs(b);
  add_watchdogs(b);
  add_memory_devices(b);
  TRY_OK(add_hostdevs(b));
  TRY_OK(add_shmems(b));
  TRY_OK(add_filesystems(b));
  const std::vector<std::string> words = b.take();
  std::vector<Command> commands;
  for (size_t i = 0; i + 1 < words.size(); i += 2) {
    TRY(Command command, command_of(device, wiring, words[i], words[i + 1]));
    commands.push_back(std::move(command));
  }
  if (commands.empty())
    return fail(Errc::Unsupported, "this device is part of the machine: it cannot come or go");
  return commands;
}

Command undo_of(const Command& command) {
  const auto pair = std::ranges::find(kPairs, command.name, &Pair::add);
  return {std::string(pair->remove), {{pair->id, command.arguments.at(pair->id)}}};
}

Result<std::vector<Command>> unplug_commands(const domain::Domain& device,
                                             const domain::Domain& whole,
                                             const std::vector<std::string>& nodes) {
  const Wiring names{.preview = true};
  TRY(const std::vector<Command> plugged, plug_commands(device, whole, names));
  std::vector<Command> commands;
  for (const domain::Disk& disk : device.disks)
    for (const std::string& node : chain_nodes(disk, nodes))
      commands.push_back({"blockdev-del", {{"node-name", node}}});
  // usb-redir takes its chardev along (usbredir_unrealize, hw/usb/redirect.c of QEMU).
  const bool takes_chardev =
      !device.chardevs.empty() && device.chardevs.front().role == domain::ChardevRole::Redir;
  for (size_t i = plugged.size(); i-- > 0;)
    if (plugged[i].name != "device_add" && plugged[i].name != "blockdev-add" &&
        !(takes_chardev && plugged[i].name == "chardev-add"))
      commands.push_back(undo_of(plugged[i]));
  return commands;
}

Result<std::vector<Command>> medium_commands(const domain::Domain& device,
                                             const domain::Domain& whole, const Wiring& wiring) {
  domain::Domain bare = device;
  bare.disks.front().info.boot_order.reset();  // for a floppy an option of its own
  TRY(std::vector<Command> commands, plug_commands(bare, whole, wiring));
  // The last is the drive itself, which is there already; it names the node that it would use.
  const json drive = std::move(commands.back().arguments);
  commands.back() = {"blockdev-insert-medium",
                     {{"id", drive.at("id")}, {"node-name", drive.at("drive")}}};
  return commands;
}

std::vector<Command> link_commands(const domain::Domain& device) {
  std::vector<Command> commands;
  for (const domain::Interface& nic : device.interfaces)
    if (nic.link_up)
      commands.push_back({"set_link", {{"name", nic.info.alias}, {"up", *nic.link_up}}});
  return commands;
}

std::vector<Command> finish_commands(const domain::Domain& device) {
  std::vector<Command> commands = link_commands(device);
  for (const domain::Watchdog& watchdog : device.watchdogs)
    commands.push_back({"watchdog-set-action", {{"action", watchdog.action}}});
  return commands;
}

Result<DriveState> drive_state(const json& blocks, const std::string& alias) {
  try {
    for (const json& block : blocks) {
      if (block.value("qdev", "") != alias)
        continue;
      DriveState state{.has_tray = block.contains("tray_open"), .locked = block.at("locked")};
      state.tray_open = state.has_tray && block.at("tray_open").get<bool>();
      if (auto medium = block.find("inserted"); medium != block.end())
        state.node = medium->value("node-name", "");
      return state;
    }
  } catch (const json::exception& error) {
    return fail(Errc::Corrupt, std::string("query-block: ") + error.what());
  }
  return fail(Errc::NotFound, "query-block: QEMU has no drive " + alias);
}

}  // namespace tenure::qemu
