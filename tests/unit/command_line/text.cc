// SPDX-License-Identifier: Apache-2.0
// What stands in the arguments: escapes, wiring, and what must not be there.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base/file.h"
#include "domain/domain.h"
#include "qemu/command_line.h"

namespace tenure::qemu {
namespace {

using Argv = std::vector<std::string>;

domain::Domain guest(const std::string& devices, const std::string& outside = "",
                     const std::string& type = "qemu") {
  auto d =
      domain::parse_complete("<domain type='" + type +
                                 "'><name>a,id=x</name><memory>65536</memory><os><type>hvm</type>"
                                 "</os>" +
                                 outside + "<devices>" + devices + "</devices></domain>",
                             "g.xml");
  EXPECT_TRUE(d) << d.error().what();
  return d ? std::move(*d) : domain::Domain{};
}

const std::string kQcow2 =
    "<disk type='file'><driver type='qcow2'/><source file='/i/\"top\",readonly=on'/>"
    "<target dev='vda' bus='virtio'/></disk>";

Image image(const std::string& path, const std::string& format, bool writable) {
  Image i{.path = path, .format = format, .writable = writable, .data_file = false, .node = {}};
  i.node.type = kernel::FileType::Regular;
  return i;
}

bool has(const Argv& argv, const std::string& option, const std::string& value) {
  for (size_t i = 0; i + 1 < argv.size(); ++i) {
    if (argv[i] == option && argv[i + 1] == value)
      return true;
  }
  return false;
}

bool contains(const Argv& argv, const std::string& part) {
  return std::ranges::any_of(argv,
                             [&](const auto& w) { return w.find(part) != std::string::npos; });
}

Argv argv_of(const domain::Domain& d, const Wiring& wiring) {
  auto argv = command_line(d, wiring);
  EXPECT_TRUE(argv) << argv.error().what();
  return argv.value_or(Argv{});
}

TEST(CommandLine, DoublesCommasOfNames) {
  const Argv argv = argv_of(guest(""), {});
  EXPECT_TRUE(has(argv, "-name", "guest=a,,id=x,debug-threads=on"));
  EXPECT_EQ(argv.front(), "/usr/bin/qemu-system-x86_64");
  EXPECT_NE(std::ranges::find(argv, "-S"), argv.end());
  EXPECT_NE(std::ranges::find(argv, "-nodefaults"), argv.end());
  EXPECT_TRUE(contains(argv, "spawn=deny"));
  EXPECT_FALSE(contains(argv, "chardev=charmonitor"));
}

TEST(CommandLine, OpensEachMemberOfAChainExplicitly) {
  const domain::Domain d = guest(kQcow2);
  Wiring wiring;
  wiring.images["virtio-disk0"] = {image("/i/\"top\",readonly=on", "qcow2", true),
                                   image("/i/base", "raw", false)};
  const Argv argv = argv_of(d, wiring);
  EXPECT_TRUE(has(argv, "-blockdev",
                  R"({"driver":"file","filename":"/i/\"top\",readonly=on",)"
                  R"("node-name":"virtio-disk0.0.storage"})"));
  EXPECT_TRUE(has(argv, "-blockdev",
                  R"({"driver":"qcow2","node-name":"virtio-disk0.0",)"
                  R"("file":"virtio-disk0.0.storage","backing":"virtio-disk0.1"})"));
  EXPECT_TRUE(has(argv, "-blockdev",
                  R"({"driver":"file","filename":"/i/base","read-only":true,)"
                  R"("node-name":"virtio-disk0.1"})"))
      << "a raw image is the node of its file";
  wiring.images["virtio-disk0"].pop_back();
  EXPECT_TRUE(contains(argv_of(d, wiring), R"("backing":null)"));
}

TEST(CommandLine, OpensADataFileWithItsImage) {
  const domain::Domain d = guest(kQcow2);
  Wiring wiring;
  Image data = image("/i/data", "raw", true);
  data.data_file = true;
  wiring.images["virtio-disk0"] = {image("/i/top", "qcow2", true), data,
                                   image("/i/base", "qcow2", false)};
  const Argv argv = argv_of(d, wiring);
  EXPECT_TRUE(contains(argv, R"("data-file":"virtio-disk0.0d","backing":"virtio-disk0.1")"));
  EXPECT_TRUE(contains(argv, R"("filename":"/i/data","node-name":"virtio-disk0.0d")"));
}

TEST(CommandLine, RefusesADiskOfWhichNothingIsKnown) {
  const domain::Domain d = guest(kQcow2);
  auto argv = command_line(d, {});
  ASSERT_FALSE(argv);
  EXPECT_EQ(argv.error().code(), Errc::Invalid);
  EXPECT_TRUE(command_line(d, {.preview = true}));
}

TEST(CommandLine, RefusesAChainThatIsNotAsStated) {
  const std::string xml =
      "<disk type='file'><driver type='qcow2'/><source file='/t'/><backingStore/>"
      "<target dev='vda' bus='virtio'/></disk>";
  const domain::Domain d = guest(xml);
  Wiring wiring;
  wiring.images["virtio-disk0"] = {image("/t", "qcow2", true)};
  EXPECT_TRUE(command_line(d, wiring));
  wiring.images["virtio-disk0"].push_back(image("/secret", "raw", false));
  EXPECT_FALSE(command_line(d, wiring));
}

TEST(CommandLine, UsesTheDriverThatTheNodeNeeds) {
  const domain::Domain d = guest(
      "<disk type='block' device='cdrom'><source dev='/dev/x'/>"
      "<target dev='hdc' bus='ide'/></disk>");
  Wiring wiring;
  Image cd = image("/dev/x", "raw", false);
  cd.node.type = kernel::FileType::Block;
  cd.node.rdev = DeviceNumber{.type = DeviceType::Block, .major = 11, .minor = 0};
  wiring.images["ide0-1-0"] = {cd};
  EXPECT_TRUE(contains(argv_of(d, wiring), R"({"driver":"host_cdrom","filename":"/dev/x")"));
  wiring.images["ide0-1-0"][0].node.rdev->major = 7;
  EXPECT_TRUE(contains(argv_of(d, wiring), R"({"driver":"host_device","filename":"/dev/x")"));
}

TEST(CommandLine, PassesFdsOfInterfaces) {
  const domain::Domain d = guest(
      "<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/>"
      "<model type='virtio'/><driver name='vhost' queues='2'/></interface>");
  EXPECT_FALSE(command_line(d, {}));
  Wiring wiring;
  wiring.interfaces["net0"].tap_fds = {"30", "31"};
  EXPECT_FALSE(command_line(d, wiring)) << "vhost is asked for, but there is none";
  wiring.interfaces["net0"].vhost_fds = {"32", "33"};
  EXPECT_TRUE(
      has(argv_of(d, wiring), "-netdev",
          R"({"type":"tap","id":"hostnet0","fds":"30:31","vhost":true,"vhostfds":"32:33"})"));
  EXPECT_TRUE(has(argv_of(d, {.preview = true}), "-netdev",
                  R"({"type":"tap","id":"hostnet0","fds":"?","vhost":true,"vhostfds":"?"})"));
}

TEST(CommandLine, UsesGivenSocketsOfChannels) {
  const domain::Domain d =
      guest("<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>");
  EXPECT_TRUE(
      has(argv_of(d, {.runtime_dir = "/run/a,b"}), "-chardev",
          "socket,id=charchannel0,path=/run/a,,b/org.qemu.guest_agent.0,server=on,wait=off"));
  EXPECT_TRUE(has(argv_of(d, {.socket_fds = {{"channel0", "9"}}}), "-chardev",
                  "socket,id=charchannel0,fd=9,server=on,wait=off"));
  EXPECT_FALSE(command_line(d, {}));
}

TEST(CommandLine, NeedsKvmForKvm) {
  const domain::Domain d = guest("", "<cpu mode='host-passthrough'/>", "kvm");
  auto argv = command_line(d, {});
  ASSERT_FALSE(argv);
  EXPECT_EQ(argv.error().code(), Errc::Unsupported);
  EXPECT_TRUE(has(argv_of(d, {.kvm = true}), "-accel", "kvm"));
  EXPECT_TRUE(has(argv_of(d, {.kvm = true}), "-cpu", "host,migratable=on"));
  EXPECT_FALSE(command_line(guest("", "<cpu mode='host-passthrough'/>"), {.kvm = true}));
}

TEST(CommandLine, PlaysSoundToNobodyUnlessTold) {
  EXPECT_TRUE(has(argv_of(guest("<sound model='ich6'/>"), {}), "-audiodev",
                  R"({"id":"audio1","driver":"none"})"));
  const Argv argv = argv_of(guest("<sound model='ich6'/><audio id='3' type='alsa'/>"), {});
  EXPECT_TRUE(has(argv, "-audiodev", R"({"id":"audio3","driver":"alsa"})"));
  EXPECT_TRUE(contains(argv, R"("cad":0,"audiodev":"audio3")"));
}

TEST(CommandLine, GivesHugePagesFromMemfd) {
  const Argv argv = argv_of(
      guest("", "<memoryBacking><hugepages><page size='2' unit='M'/></hugepages></memoryBacking>"),
      {});
  EXPECT_TRUE(has(argv, "-object",
                  R"({"qom-type":"memory-backend-memfd","id":"pc.ram","hugetlb":true,)"
                  R"("hugetlbsize":2097152,"share":false,"size":67108864})"));
}

TEST(CommandLine, KeepsNodeNamesShort) {
  const domain::Domain d = guest("<disk type='file'><alias name='ua-" + std::string(50, 'x') +
                                 "'/><source file='/a'/><target dev='vda' bus='virtio'/></disk>");
  EXPECT_EQ(storage_node(d.disks[0], 199), "target-vda.199.storage");
  EXPECT_LE(storage_node(d.disks[0], 199).size(), 31U);
}

// The definitions that we hand out are ones that we take.
TEST(CommandLine, TakesOurExamples) {
  for (const char* name : {"demo.xml", "server.xml", "desktop.xml"}) {
    auto text = read_file(std::string(TENURE_SOURCE_DIR) + "/examples/" + name, domain::kMaxXml);
    ASSERT_TRUE(text) << text.error().what();
    std::string xml = *text;
    for (const auto& [mark, value] : {std::pair("@DIR@", "/d"), std::pair("@LOOP@", "/dev/loop0"),
                                      std::pair("@BRIDGE@", "br0"), std::pair("@TYPE@", "qemu")}) {
      for (size_t at = xml.find(mark); at != std::string::npos; at = xml.find(mark)) {
        xml.replace(at, std::string_view(mark).size(), value);
      }
    }
    auto d = domain::parse_complete(xml, name);
    ASSERT_TRUE(d) << d.error().what();
    EXPECT_TRUE(command_line(*d, {.kvm = true, .preview = true}));
  }
}

}  // namespace
}  // namespace tenure::qemu
