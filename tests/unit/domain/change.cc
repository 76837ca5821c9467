// SPDX-License-Identifier: Apache-2.0
// add_device(), remove_device(), find_device(): what is there keeps its alias and its address.
#include "domain/change.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "domain/text.h"

namespace tenure::domain {
namespace {

Domain running(const std::string& devices = "", const std::string& machine = "pc") {
  auto d =
      parse_complete("<domain type='qemu'><name>g</name><memory>65536</memory><os><type machine='" +
                         machine + "'>hvm</type></os><devices>" + devices + "</devices></domain>",
                     "g.xml");
  EXPECT_TRUE(d) << d.error().what();
  return d ? std::move(*d) : Domain{};
}

std::string disk(const std::string& target, const std::string& more = "") {
  return "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/srv/" +
         target + "'/><target dev='" + target + "' bus='virtio'/>" + more + "</disk>";
}
constexpr char kNic[] = "<interface type='user'><model type='virtio'/></interface>";

Addition added(const Domain& d, const std::string& xml) {
  auto addition = add_device(d, xml, "device.xml");
  EXPECT_TRUE(addition) << addition.error().what();
  return addition ? std::move(*addition) : Addition{};
}

Errc change_refusal(const Domain& d, const std::string& xml, std::string* text = nullptr) {
  auto addition = add_device(d, xml, "device.xml");
  EXPECT_FALSE(addition);
  if (!addition && text != nullptr)
    *text = addition.error().what();
  return addition ? Errc::Internal : addition.error().code();
}

TEST(Change, WhatIsThereKeepsItsPlace) {
  const Domain d = running(disk("vdb") + kNic);
  const Addition a = added(d, disk("vda"));
  EXPECT_EQ(a.alias, "virtio-disk0");
  ASSERT_EQ(a.domain.disks.size(), 2U);
  const auto old = std::ranges::find(a.domain.disks, "vdb", &Disk::target);
  EXPECT_EQ(old->info.alias, d.disks[0].info.alias);
  EXPECT_EQ(old->info.address.slot, d.disks[0].info.address.slot);
  EXPECT_EQ(a.domain.interfaces[0].mac, d.interfaces[0].mac);
}

// A number that a device left is free again; the others are not renumbered.
TEST(Change, AliasesFillTheGaps) {
  Domain d = running(std::string(kNic) + kNic);
  ASSERT_TRUE(remove_device(d, "net0"));
  const Addition a = added(d, kNic);
  EXPECT_EQ(a.alias, "net0");
  EXPECT_EQ(a.domain.interfaces[0].info.alias, "net1");
  EXPECT_NE(a.domain.interfaces[0].mac, a.domain.interfaces[1].mac);
}

// What a restarted daemon reads again is the same device.
TEST(Change, ThePinnedElementIsTheSameDevice) {
  const Domain d = running(disk("vdb"));
  for (const std::string& xml :
       {disk("vda"), std::string(kNic),
        std::string("<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>")}) {
    const Addition first = added(d, xml);
    const Addition again = added(d, first.xml);
    EXPECT_EQ(again.alias, first.alias);
    EXPECT_EQ(again.xml, first.xml);
    const Domain one = only_device(first.domain, first.alias);
    const Domain two = only_device(again.domain, again.alias);
    EXPECT_EQ(one.interfaces.size(), two.interfaces.size());
    if (!one.interfaces.empty()) {
      EXPECT_EQ(one.interfaces[0].mac, two.interfaces[0].mac);
    }
  }
}

TEST(Change, BadDevicesAreRefusedAtTheirPlace) {
  const Domain d = running(disk("vda"));
  std::string text;
  EXPECT_EQ(change_refusal(d, disk("vda"), &text), Errc::Invalid);
  EXPECT_TRUE(text.starts_with("device.xml:1:1: ")) << text;
  EXPECT_EQ(change_refusal(d, "<vsock/>"), Errc::Unsupported);
  EXPECT_EQ(change_refusal(d, disk("vdb", "<unknown/>"), &text), Errc::Unsupported);
  EXPECT_NE(text.find("device.xml:1:"), std::string::npos);
  EXPECT_EQ(change_refusal(d, "<disk"), Errc::Invalid);
  EXPECT_EQ(change_refusal(d, ""), Errc::Invalid);
}

// PCI Express has a place only where a port is free; a port cannot come while the guest runs.
TEST(Change, AFullMachineIsBusy) {
  const std::string ports =
      "<controller type='pci' index='0' model='pcie-root'/>"
      "<controller type='pci' index='1' model='pcie-root-port'/>"
      "<controller type='usb' model='none'/><memballoon model='none'/>";
  const Domain d = running(ports, "q35");
  const Addition a = added(d, disk("vda"));
  std::string text;
  EXPECT_EQ(change_refusal(a.domain, disk("vdb"), &text), Errc::Busy);
  EXPECT_NE(text.find("pcie-root-port"), std::string::npos) << text;
}

TEST(Change, DevicesAreFoundByAnyOfTheirNames) {
  const Domain d = running(disk("vda") + disk("vdb") + kNic);
  for (const std::string& word :
       {std::string("vdb"), std::string("/srv/vdb"), std::string("virtio-disk1"), disk("vdb")})
    EXPECT_EQ(find_device(d, word).value_or("?"), "virtio-disk1") << word;
  EXPECT_EQ(find_device(d, d.interfaces[0].mac).value_or("?"), "net0");
  EXPECT_EQ(find_device(d, "vdc").error().code(), Errc::NotFound);
  EXPECT_EQ(find_device(d, "").error().code(), Errc::NotFound);
  EXPECT_EQ(find_device(d, "<interface type='user'/>").error().code(), Errc::Invalid);
}

TEST(Change, ADefinitionGetsItsUuid) {
  const Uuid uuid = *parse_uuid("6fe7fc2a-cc7c-4d6c-bb44-e1c7d275e875");
  const std::string text =
      "<domain type='qemu'><!-- </nam> --><name>g</name><memory>65536</memory><os><type "
      "machine='pc'>hvm</type></os></domain>";
  auto whole = with_uuid(text, uuid);
  ASSERT_TRUE(whole) << whole.error().what();
  EXPECT_EQ(parse(*whole, "g.xml")->uuid, uuid);
  const std::string trap = "<!-- </name> -->" + text;
  EXPECT_EQ(with_uuid(trap, uuid).error().code(), Errc::Invalid);
}

TEST(Change, OnlyDeviceHasNothingElse) {
  const Domain d = running(disk("vda") + disk("vdb") + kNic);
  const Domain one = only_device(d, "virtio-disk1");
  ASSERT_EQ(one.disks.size(), 1U);
  EXPECT_EQ(one.disks[0].target, "vdb");
  EXPECT_TRUE(one.interfaces.empty() && one.controllers.empty() && !one.memballoon);
  EXPECT_EQ(only_device(d, "nobody").disks.size(), 0U);
}

}  // namespace
}  // namespace tenure::domain
