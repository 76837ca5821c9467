// SPDX-License-Identifier: Apache-2.0
// What an update may say of a running guest's device, and the texts that follow from it.
#include "domain/update.h"

#include <gtest/gtest.h>

#include "domain/change.h"
#include "domain/text.h"

namespace tenure::domain {
namespace {

const std::string kXml =
    "<domain type='qemu'><name>g</name><memory>65536</memory><os><type machine='q35'>hvm</type></os>\n"
    "<devices><disk type='file' device='cdrom'><source file='/a.iso'/><target dev='sda' bus='sata'/></disk>\n"
    "<disk type='file'><source file='/vda'/><target dev='vda' bus='virtio'/></disk>\n"
    "<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/>"
    "<model type='virtio'/></interface></devices></domain>";

Domain updated_guest() {
  auto d = parse_complete(kXml, "g.xml");
  EXPECT_TRUE(d) << d.error().what();
  return d ? std::move(*d) : Domain{};
}

std::string drive(const std::string& inside, const std::string& device = "cdrom") {
  return "<disk type='file' device='" + device + "'>" + inside + "<target dev='sda'/></disk>";
}

std::string nic(const std::string& inside, const std::string& bridge = "br0") {
  return "<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='" + bridge +
         "'/>" + inside + "</interface>";
}

std::string update_refusal(const std::string& xml) {
  auto plan = plan_update(updated_guest(), xml, "u.xml");
  return plan ? "" : plan.error().what();
}

TEST(Update, TellsWhatChanges) {
  auto other = plan_update(updated_guest(), drive("<source file='/b.iso'/>"), "u.xml");
  ASSERT_TRUE(other && other->drive) << other.error().what();
  EXPECT_EQ(other->drive->path, "/b.iso");
  EXPECT_EQ(other->drive->bus, "sata");
  EXPECT_TRUE(other->drive->readonly);
  auto none = plan_update(updated_guest(), drive(""), "u.xml");
  ASSERT_TRUE(none && none->drive);
  EXPECT_TRUE(none->drive->path.empty());
  auto same = plan_update(updated_guest(), drive("<source file='/a.iso'/>"), "u.xml");
  EXPECT_TRUE(same && !same->drive && !same->nic);
  auto down = plan_update(updated_guest(), nic("<link state='down'/>"), "u.xml");
  ASSERT_TRUE(down && down->nic);
  EXPECT_EQ(down->nic->link_up, false);
  EXPECT_EQ(down->nic->bridge, "br0");
  auto moved = plan_update(updated_guest(), nic("", "br1"), "u.xml");
  EXPECT_TRUE(moved && moved->nic && moved->nic->bridge == "br1");
  auto up = plan_update(updated_guest(), nic("<link state='up'/>"), "u.xml");
  EXPECT_TRUE(up && !up->nic);
}

TEST(Update, RefusesEverythingElseWithItsPlace) {
  EXPECT_NE(update_refusal(drive("<serial>x</serial>")).find("u.xml:1:1: <serial>"),
            std::string::npos);
  EXPECT_NE(update_refusal(drive("<driver cache='none'/>")).find("<driver cache>"),
            std::string::npos);
  EXPECT_NE(update_refusal(nic("<model type='e1000'/>")).find("<model>"), std::string::npos);
  EXPECT_NE(update_refusal(nic("<mtu size='1400'/>")).find("<mtu>"), std::string::npos);
  EXPECT_NE(update_refusal("<disk type='file'><source file='/x'/><target dev='vda'/></disk>")
                .find("<source>"),
            std::string::npos);
  EXPECT_NE(
      update_refusal("<rng model='virtio'><backend model='random'>/dev/random</backend></rng>"),
      "");
  EXPECT_NE(update_refusal(drive("<nonsense/>")).find("not implemented"), std::string::npos);
}

// What a tenured that comes later reads must give what this one has.
TEST(Update, TheElementCarriesTheChange) {
  const Domain before = updated_guest();
  auto plan = plan_update(before, drive("<source file='/b &amp; c.iso'/>"), "u.xml");
  ASSERT_TRUE(plan && plan->drive);
  auto element = device_text(kXml, plan->alias);
  ASSERT_TRUE(element) << element.error().what();
  std::string changed = pinned_element(before, plan->alias, with_medium(*element, *plan->drive));
  auto whole = definition_text(kXml, {plan->alias}, {{plan->alias, changed}});
  ASSERT_TRUE(whole) << whole.error().what();
  auto after = parse_complete(*whole, "live");
  ASSERT_TRUE(after) << after.error().what();
  ASSERT_EQ(after->disks.size(), 2U);
  auto alias = find_device(*after, "sda");
  ASSERT_TRUE(alias);
  EXPECT_EQ(*alias, plan->alias);
  EXPECT_EQ(only_device(*after, *alias).disks.front().path, "/b & c.iso");
  auto found = differences(kXml, *whole);
  ASSERT_TRUE(found) << found.error().what();
  EXPECT_EQ(*found, std::vector<std::string>{plan->alias});
}

TEST(Update, DifferencesAreOfMeaning) {
  std::string other = kXml;
  other.replace(other.find("<source file='/vda'/><target dev='vda' bus='virtio'/>"), 53,
                "<target bus='virtio' dev='vda'/> <source file='/vda'/>");
  auto same = differences(kXml, other);
  ASSERT_TRUE(same) << same.error().what();
  EXPECT_EQ(*same, std::vector<std::string>{});
  other.replace(other.find("65536"), 5, "65537");
  auto memory = differences(kXml, other);
  ASSERT_TRUE(memory);
  EXPECT_EQ(*memory, std::vector<std::string>{"memory"});
}

// A disk that has another chain: the element says it all, and nothing else of the text changes.
TEST(Update, AChainStandsInItsElement) {
  const std::string text = std::string("<!-- </disk> of mine -->\n") + kXml;
  const Domain before = updated_guest();
  auto alias = find_device(before, "vda");
  ASSERT_TRUE(alias);
  Disk disk = only_device(before, *alias).disks.front();
  disk.path = "/new & top";
  disk.format = "qcow2";
  disk.backing = {{.kind = SourceKind::Block, .path = "/dev/b", .format = "qcow2"},
                  {.path = "/vda", .format = "raw"}};
  auto element = device_text(text, *alias);
  ASSERT_TRUE(element) << element.error().what();
  auto changed = with_element(text, *alias, with_chain(*element, disk));
  ASSERT_TRUE(changed) << changed.error().what();
  EXPECT_TRUE(changed->starts_with("<!-- </disk> of mine -->\n"));
  auto after = parse_complete(*changed, "changed");
  ASSERT_TRUE(after) << after.error().what();
  const Disk now = only_device(*after, *alias).disks.front();
  EXPECT_EQ(now.path, "/new & top");
  EXPECT_EQ(now.format, "qcow2");
  ASSERT_TRUE(now.backing && now.backing->size() == 2);
  EXPECT_EQ((*now.backing)[0].kind, SourceKind::Block);
  EXPECT_EQ((*now.backing)[1].path, "/vda");
  disk.backing.reset();
  auto again = device_text(*changed, *alias);
  ASSERT_TRUE(again);
  EXPECT_EQ(with_chain(*again, disk).find("backingStore"), std::string::npos);
  EXPECT_FALSE(with_element(text, "virtio-disk9", *again));
}

}  // namespace
}  // namespace tenure::domain
