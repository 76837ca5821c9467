// SPDX-License-Identifier: Apache-2.0
// The commands that plug a device are the arguments of a start; their undo takes back each.
#include "qemu/hotplug.h"

#include <gtest/gtest.h>

#include "domain/change.h"

namespace tenure::qemu {
namespace {

using nlohmann::json;

domain::Domain whole_guest(const std::string& devices) {
  auto d = domain::parse_complete(
      "<domain type='qemu'><name>g</name><memory>65536</memory><os><type machine='pc'>hvm</type>"
      "</os><devices>" +
          devices + "</devices></domain>",
      "g.xml");
  EXPECT_TRUE(d) << d.error().what();
  return d ? std::move(*d) : domain::Domain{};
}

std::vector<std::string> names(const std::vector<Command>& commands) {
  std::vector<std::string> all;
  for (const Command& command : commands) all.push_back(command.name);
  return all;
}

constexpr char kDisk[] =
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/srv/a'/>"
    "<target dev='vda' bus='virtio'/></disk>";
constexpr char kNic[] =
    "<interface type='bridge'><source bridge='br0'/><model type='virtio'/></interface>";

TEST(Hotplug, ADiskIsItsNodesThenTheDevice) {
  const domain::Domain whole = whole_guest(kDisk);
  const domain::Domain device = domain::only_device(whole, "virtio-disk0");
  auto commands = plug_commands(device, whole, Wiring{.preview = true});
  ASSERT_TRUE(commands) << commands.error().what();
  EXPECT_EQ(names(*commands),
            (std::vector<std::string>{"blockdev-add", "blockdev-add", "device_add"}));
  EXPECT_EQ(commands->back().arguments.at("id"), "virtio-disk0");
  EXPECT_EQ(commands->back().arguments.at("bus"), "pci.0") << "the bus is one of the whole guest";
  Command undo = undo_of(commands->front());
  EXPECT_EQ(undo.name, "blockdev-del");
  EXPECT_EQ(undo.arguments, (json{{"node-name", "virtio-disk0.0.storage"}}));
}

TEST(Hotplug, FdsGoByName) {
  const domain::Domain whole = whole_guest(kNic);
  Wiring wiring;
  wiring.interfaces["net0"] = {.tap_fds = {"tap-net0-0"}, .vhost_fds = {"vhost-net0-0"}};
  auto commands = plug_commands(domain::only_device(whole, "net0"), whole, wiring);
  ASSERT_TRUE(commands);
  EXPECT_EQ(names(*commands), (std::vector<std::string>{"netdev_add", "device_add"}));
  EXPECT_EQ(commands->front().arguments.at("fd"), "tap-net0-0");
  EXPECT_EQ(commands->front().arguments.at("vhostfd"), "vhost-net0-0");
}

// QEMU is asked which nodes there are, and in what order they can go.
TEST(Hotplug, BackendsAreTheDisksOwn) {
  const domain::Domain whole = whole_guest(kDisk);
  const std::vector<std::string> nodes = {"virtio-disk0.10", "virtio-disk0.1.storage",
                                          "virtio-disk00.0", "virtio-disk0.0"};
  auto commands = unplug_commands(domain::only_device(whole, "virtio-disk0"), whole, nodes);
  ASSERT_TRUE(commands);
  std::vector<std::string> order;
  for (const Command& command : *commands) order.push_back(command.arguments.at("node-name"));
  EXPECT_EQ(order, (std::vector<std::string>{"virtio-disk0.10", "virtio-disk0.1.storage",
                                             "virtio-disk0.0"}));
  auto nic =
      unplug_commands(domain::only_device(whole_guest(kNic), "net0"), whole_guest(kNic), nodes);
  ASSERT_TRUE(nic);
  EXPECT_EQ(names(*nic), (std::vector<std::string>{"netdev_del"}));
}

TEST(Hotplug, ChardevsHaveTheFormOfTheSchema) {
  const domain::Domain whole = whole_guest(
      "<channel type='unix'><source mode='bind' path='/run/a,b'/>"
      "<target type='virtio' name='org.x'/></channel>"
      "<channel type='file'><source path='/var/log/x'/><target type='virtio' name='y'/></channel>");
  Wiring wiring;
  wiring.socket_fds["channel0"] = "socket-channel0-0";
  auto socket = plug_commands(domain::only_device(whole, "channel0"), whole, wiring);
  ASSERT_TRUE(socket) << socket.error().what();
  const json& backend = socket->front().arguments.at("backend");
  EXPECT_EQ(backend.at("type"), "socket");
  EXPECT_EQ(backend.at("data").at("addr").at("data").at("str"), "socket-channel0-0");
  EXPECT_EQ(backend.at("data").at("wait"), false);
  auto file = plug_commands(domain::only_device(whole, "channel1"), whole, wiring);
  ASSERT_TRUE(file);
  EXPECT_EQ(file->front().arguments.at("backend").at("data").at("out"), "/var/log/x");
}

TEST(Hotplug, WhatIsPartOfTheMachineStays) {
  const domain::Domain whole = whole_guest("<input type='mouse' bus='ps2'/>");
  auto commands = plug_commands(domain::only_device(whole, "input0"), whole, Wiring{});
  ASSERT_FALSE(commands);
  EXPECT_EQ(commands.error().code(), Errc::Unsupported);
}

TEST(Hotplug, SharedMemoryIsWhereItWasLent) {
  const domain::Domain whole = whole_guest("<shmem name='m'/>");
  const domain::Domain device = domain::only_device(whole, "shmem0");
  Wiring wiring;
  wiring.shared_files["shmem0"] = "/proc/self/fd/27";
  auto commands = plug_commands(device, whole, wiring);
  ASSERT_TRUE(commands) << commands.error().what();
  EXPECT_EQ(names(*commands), (std::vector<std::string>{"object-add", "device_add"}));
  EXPECT_EQ(commands->front().arguments.at("mem-path"), "/proc/self/fd/27");
  EXPECT_EQ(commands->front().arguments.at("share"), true);
  auto gone = unplug_commands(device, whole, {});
  ASSERT_TRUE(gone);
  EXPECT_EQ(names(*gone), std::vector<std::string>{"object-del"});
}

TEST(Hotplug, StreamsOfDoorbellsAndRedirectedDevices) {
  const domain::Domain whole = whole_guest(
      "<shmem name='m'><model type='ivshmem-doorbell'/><server path='/run/m'/></shmem>"
      "<redirdev bus='usb' type='tcp'><source mode='bind' host='::1' service='7'/></redirdev>");
  for (const char* alias : {"shmem0", "redir0"}) {
    auto commands = plug_commands(domain::only_device(whole, alias), whole, Wiring{});
    ASSERT_TRUE(commands) << commands.error().what();
    EXPECT_EQ(names(*commands), (std::vector<std::string>{"chardev-add", "device_add"}));
    const json& address = commands->front().arguments.at("backend").at("data").at("addr");
    auto gone = unplug_commands(domain::only_device(whole, alias), whole, {});
    ASSERT_TRUE(gone);
    EXPECT_EQ(gone->empty(), alias == std::string("redir0")) << "usb-redir takes its own along";
    EXPECT_EQ(address.at("type"), alias == std::string("redir0") ? "inet" : "unix");
  }
}

TEST(Hotplug, HostDevicesNeedTheirNode) {
  const domain::Domain whole = whole_guest(
      "<hostdev mode='subsystem' type='usb'><source><vendor id='1'/><product id='2'/></source>"
      "</hostdev><watchdog model='i6300esb' action='pause'/>");
  const domain::Domain usb = domain::only_device(whole, "hostdev0");
  EXPECT_FALSE(plug_commands(usb, whole, Wiring{}));
  Wiring wiring;
  wiring.usb_nodes["hostdev0"] = "/dev/bus/usb/001/004";
  auto commands = plug_commands(usb, whole, wiring);
  ASSERT_TRUE(commands) << commands.error().what();
  EXPECT_EQ(commands->back().arguments.at("hostdevice"), "/dev/bus/usb/001/004");
  const auto last = finish_commands(domain::only_device(whole, "watchdog0"));
  ASSERT_EQ(last.size(), 1U);
  EXPECT_EQ(last.front().arguments, (json{{"action", "pause"}}));
}

}  // namespace
}  // namespace tenure::qemu
