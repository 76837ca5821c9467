// SPDX-License-Identifier: Apache-2.0
// complete(): what a definition leaves open, and conflicts of what it gives.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "domain/domain.h"

namespace tenure::domain {
namespace {

std::string xml_with(const std::string& machine, const std::string& devices,
                     const std::string& os = "") {
  return "<domain type='qemu'><name>g</name><memory>65536</memory><os><type machine='" + machine +
         "'>hvm</type>" + os + "</os><devices>" + devices + "</devices></domain>";
}

Domain completed(const std::string& xml) {
  auto d = parse_complete(xml, "g.xml");
  EXPECT_TRUE(d) << d.error().what();
  return d ? std::move(*d) : Domain{};
}

std::string complete_refusal(const std::string& xml) {
  auto d = parse_complete(xml, "g.xml");
  return d ? "" : d.error().what();
}

std::string disk_on(const std::string& target, const std::string& bus,
                    const std::string& inside = "") {
  return "<disk type='file'><source file='/" + target + "'/><target dev='" + target + "' bus='" +
         bus + "'/>" + inside + "</disk>";
}

size_t count(const Domain& d, const std::string& type, const std::string& model) {
  return static_cast<size_t>(std::ranges::count_if(
      d.controllers, [&](const Controller& c) { return c.type == type && c.model == model; }));
}

std::string slot(const DeviceInfo& info) {
  const Address& a = info.address;
  return std::to_string(a.controller) + ":" + std::to_string(a.slot) + "." +
         std::to_string(a.function);
}

TEST(Complete, GivesAPcItsOwnControllers) {
  const Domain d = completed(xml_with("pc", ""));
  EXPECT_EQ(count(d, "pci", "pci-root"), 1U);
  EXPECT_EQ(count(d, "usb", "piix3-uhci"), 1U);
  ASSERT_TRUE(d.memballoon);
  EXPECT_EQ(d.memballoon->model, "virtio");
  EXPECT_EQ(d.memballoon->info.alias, "balloon0");
  EXPECT_EQ(slot(d.memballoon->info), "0:2.0");
  EXPECT_EQ(d.emulator, "/usr/bin/qemu-system-x86_64");
}

TEST(Complete, GivesQ35APortEachAndOneToSpare) {
  const Domain d = completed(xml_with("q35", disk_on("vda", "virtio")));
  EXPECT_EQ(count(d, "pci", "pcie-root-port"), 4U);  // xhci, disk, balloon, spare
  EXPECT_EQ(count(d, "usb", "qemu-xhci"), 1U);
  std::set<std::string> slots;
  for (const Controller& c : d.controllers) {
    if (c.model == "pcie-root-port") {
      EXPECT_TRUE(slots.insert(slot(c.info)).second);
    }
  }
  EXPECT_EQ(slots, (std::set<std::string>{"0:1.0", "0:1.1", "0:1.2", "0:1.3"}));
}

TEST(Complete, NamesDevicesAsLibvirtDoes) {
  const Domain d = completed(
      xml_with("pc", disk_on("vdb", "virtio") + disk_on("vda", "virtio") + disk_on("hda", "ide") +
                         disk_on("sda", "scsi") +
                         "<interface type='user'/><interface type='user'/><serial type='pty'/>"
                         "<rng model='virtio'><backend model='builtin'/></rng>"
                         "<channel type='unix'><target type='virtio' name='a'/></channel>"));
  ASSERT_EQ(d.disks.size(), 4U);
  EXPECT_EQ(d.disks[0].info.alias, "virtio-disk0");
  EXPECT_EQ(d.disks[0].path, "/vda");
  EXPECT_EQ(d.disks[1].info.alias, "virtio-disk1");
  EXPECT_EQ(d.disks[2].info.alias, "ide0-0-0");
  EXPECT_EQ(d.disks[3].info.alias, "scsi0-0-0");
  EXPECT_EQ(d.interfaces[1].info.alias, "net1");
  EXPECT_EQ(d.chardevs[0].info.alias, "serial0");
  EXPECT_EQ(d.chardevs[1].info.alias, "channel0");
  EXPECT_EQ(d.chardevs[1].info.address.port, 1U);
  EXPECT_EQ(d.rngs[0].info.alias, "rng0");
  EXPECT_EQ(count(d, "scsi", "lsilogic"), 1U);
  EXPECT_EQ(count(d, "virtio-serial", ""), 1U);
}

TEST(Complete, KeepsAliasesOfTheUser) {
  const Domain d = completed(xml_with("pc", disk_on("vda", "virtio", "<alias name='ua-root'/>")));
  EXPECT_EQ(d.disks[0].info.alias, "ua-root");
  EXPECT_NE(complete_refusal(xml_with("pc", disk_on("vda", "virtio", "<alias name='ua-x'/>") +
                                                disk_on("vdb", "virtio", "<alias name='ua-x'/>"))),
            "");
  EXPECT_NE(complete_refusal(xml_with("pc", disk_on("vda", "virtio", "<alias name='ua-a,b=c'/>"))),
            "");
}

TEST(Complete, TakesTheFirstConsoleForTheFirstSerialPort) {
  const Domain both = completed(xml_with("pc",
                                         "<serial type='pty'/><console type='pty'>"
                                         "<target type='serial'/></console>"));
  EXPECT_EQ(both.chardevs.size(), 1U);
  const Domain alone = completed(xml_with("pc", "<console type='pty'/>"));
  ASSERT_EQ(alone.chardevs.size(), 1U);
  EXPECT_EQ(alone.chardevs[0].role, ChardevRole::Serial);
  EXPECT_EQ(alone.chardevs[0].target_model, "isa-serial");
  EXPECT_NE(
      complete_refusal(xml_with("pc", "<serial type='pty'/><console type='null'/>")).find("differ"),
      std::string::npos);
}

TEST(Complete, MakesTheSameMacEachTime) {
  const std::string xml = xml_with("pc", "<interface type='user'/><interface type='user'/>");
  const Domain one = completed(xml), two = completed(xml);
  EXPECT_EQ(one.interfaces[0].mac, two.interfaces[0].mac);
  EXPECT_NE(one.interfaces[0].mac, one.interfaces[1].mac);
  EXPECT_TRUE(one.interfaces[0].mac.starts_with("52:54:00:"));
}

TEST(Complete, HonoursGivenAddresses) {
  const Domain d = completed(xml_with(
      "pc", disk_on("vda", "virtio", "<address type='pci' bus='0' slot='9' function='1'/>") +
                disk_on("vdb", "virtio", "<address type='pci' bus='0' slot='9'/>") +
                disk_on("vdc", "virtio")));
  EXPECT_EQ(slot(d.disks[0].info), "0:9.1");
  EXPECT_EQ(slot(d.disks[1].info), "0:9.0");
  EXPECT_EQ(d.disks[1].info.address.multifunction, true);
  EXPECT_EQ(slot(d.disks[2].info), "0:2.0");
}

TEST(Complete, RefusesConflicts) {
  const std::string at9 = "<address type='pci' bus='0' slot='9'/>";
  EXPECT_NE(complete_refusal(
                xml_with("pc", disk_on("vda", "virtio", at9) + disk_on("vdb", "virtio", at9)))
                .find("<disk>: its PCI address is taken"),
            std::string::npos);
  EXPECT_NE(complete_refusal(xml_with("pc", disk_on("vda", "virtio") + disk_on("vda", "virtio")))
                .find("vda is taken"),
            std::string::npos);
  EXPECT_NE(complete_refusal(
                xml_with("pc", disk_on("vda", "virtio", "<address type='pci' bus='3' slot='1'/>"))),
            "");
  EXPECT_NE(
      complete_refusal(xml_with("pc", disk_on("vda", "virtio", "<address type='pci' slot='0'/>"))),
      "");
  EXPECT_NE(complete_refusal(
                xml_with("pc", disk_on("vda", "virtio", "<address type='drive' unit='0'/>"))),
            "");
  EXPECT_NE(
      complete_refusal(xml_with("pc", disk_on("hda", "ide", "<address type='drive' unit='2'/>"))),
      "");
  EXPECT_NE(complete_refusal(xml_with(
                "pc", "<input type='mouse' bus='ps2'><address type='usb' bus='0'/></input>")),
            "");
  EXPECT_NE(complete_refusal(xml_with("q35", disk_on("hda", "ide"))).find("q35 has no ide"),
            std::string::npos);
  EXPECT_NE(
      complete_refusal(xml_with("pc", "<controller type='pci' index='1' model='pcie-root-port'/>")),
      "");
  EXPECT_NE(complete_refusal(xml_with("pc", "<controller type='usb'/><controller type='usb'/>")),
            "");
}

TEST(Complete, RefusesBootOrdersOfBothKinds) {
  EXPECT_NE(complete_refusal(
                xml_with("pc", disk_on("vda", "virtio", "<boot order='1'/>"), "<boot dev='hd'/>")),
            "");
  EXPECT_NE(complete_refusal(xml_with("pc", disk_on("vda", "virtio", "<boot order='1'/>") +
                                                disk_on("vdb", "virtio", "<boot order='1'/>"))),
            "");
  EXPECT_EQ(complete_refusal(xml_with("pc", disk_on("vda", "virtio", "<boot order='1'/>"))), "");
}

TEST(Complete, AddsABridgeBeforeTheRootIsFull) {
  std::string nics;
  for (int i = 0; i < 40; ++i) nics += "<interface type='user'><model type='e1000'/></interface>";
  const Domain d = completed(xml_with("pc", nics));
  EXPECT_EQ(count(d, "pci", "pci-bridge"), 1U);
  const Domain q = completed(xml_with("q35", nics));
  EXPECT_EQ(count(q, "pci", "pcie-to-pci-bridge"), 2U);
  std::set<std::string> slots;
  for (const Interface& nic : q.interfaces) EXPECT_TRUE(slots.insert(slot(nic.info)).second);
}

TEST(Complete, FillsTheGapBelowAHighBus) {
  const Domain d =
      completed(xml_with("pc", "<controller type='pci' index='3' model='pci-bridge'/>"));
  EXPECT_EQ(count(d, "pci", "pci-bridge"), 3U);
}

TEST(Complete, CountsUsbPorts) {
  const std::string tablet = "<input type='tablet' bus='usb'/>";
  const Domain d = completed(xml_with("pc", tablet + tablet));
  EXPECT_EQ(d.inputs[0].info.address.usb_port, "1");
  EXPECT_EQ(d.inputs[1].info.address.usb_port, "2");
  EXPECT_NE(complete_refusal(xml_with("pc", tablet + tablet + tablet)).find("no free USB port"),
            std::string::npos);
  EXPECT_NE(complete_refusal(xml_with("pc", "<controller type='usb' model='none'/>" + tablet)), "");
}

TEST(Complete, RestartsNobodyWhoCanSayThatHeCrashed) {
  const std::string crash =
      "<domain type='qemu'><name>g</name><memory>65536</memory><os><type>hvm</type>"
      "</os><on_crash>restart</on_crash><devices>";
  EXPECT_EQ(complete_refusal(crash + "</devices></domain>"), "");
  EXPECT_NE(complete_refusal(crash + "<panic/></devices></domain>"), "");
}

}  // namespace
}  // namespace tenure::domain
