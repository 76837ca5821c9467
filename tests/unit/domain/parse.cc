// SPDX-License-Identifier: Apache-2.0
// parse(): what is read, and above all what is refused and where.
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "domain/domain.h"

namespace tenure::domain {
namespace {

std::string guest(const std::string& inside, const std::string& devices = "") {
  return "<domain type='qemu'>\n<name>web1</name>\n<memory unit='MiB'>64</memory>\n"
         "<os><type arch='x86_64' machine='pc'>hvm</type></os>\n" +
         inside + "<devices>\n" + devices + "</devices>\n</domain>\n";
}

std::string named(const std::string& name) {
  return "<domain type='qemu'><name>" + name +
         "</name><memory>65536</memory><os><type>hvm</type></os></domain>";
}

// The error's text; "" if there was none.
std::string refusal(const std::string& xml) {
  auto domain = parse(xml, "web1.xml");
  return domain ? "" : domain.error().what();
}

Errc code(const std::string& xml) {
  auto domain = parse(xml, "web1.xml");
  return domain ? Errc::Internal : domain.error().code();
}

const std::string kDisk =
    "<disk type='file'>\n<source file='/a'/>\n<target dev='vda' bus='virtio'/>\n";

TEST(Parse, ReadsTheUsualThings) {
  auto d = parse(guest("<title>T</title><description>D</description><!-- c -->"
                       "<metadata><x:y xmlns:x='urn:x' a='1'>z</x:y></metadata>"
                       "<uuid>C7A5FDBD-edaf-9455-926a-d65c16db1809</uuid>",
                       kDisk + "<driver name='qemu' type='qcow2' cache='none'/></disk>"),
                 "web1.xml");
  ASSERT_TRUE(d) << d.error().what();
  EXPECT_EQ(d->name, "web1");
  EXPECT_EQ(d->title, "T");
  EXPECT_EQ(d->metadata, "<metadata><x:y xmlns:x=\"urn:x\" a=\"1\">z</x:y></metadata>");
  EXPECT_EQ(d->memory_kib, 65536U);
  EXPECT_EQ(d->current_memory_kib, 65536U);
  EXPECT_TRUE(d->has_uuid);
  EXPECT_EQ(to_string(d->uuid), "c7a5fdbd-edaf-9455-926a-d65c16db1809");
  ASSERT_EQ(d->disks.size(), 1U);
  EXPECT_EQ(d->disks[0].format, "qcow2");
  EXPECT_EQ(d->disks[0].info.place.line, 6U);
  EXPECT_EQ(d->disks[0].info.place.column, 1U);
}

TEST(Parse, KeepsTheTextAsGiven) {
  const std::string xml = guest("<!-- kept -->");
  auto d = parse(xml, "web1.xml");
  ASSERT_TRUE(d);
  EXPECT_EQ(d->source_xml, xml);
}

TEST(Parse, NeverGuessesAFormat) {
  auto d = parse(guest("", kDisk + "</disk>"), "web1.xml");
  ASSERT_TRUE(d);
  EXPECT_EQ(d->disks[0].format, "raw");
  EXPECT_FALSE(d->disks[0].backing.has_value());
  EXPECT_EQ(refusal(guest("", kDisk + "<backingStore type='file'><source file='/b'/></backingStore>"
                                      "</disk>")),
            "web1.xml:9:1: <backingStore>: <format> is missing: a format is never guessed");
}

TEST(Parse, RefusesAnUnknownElementWithItsPlace) {
  EXPECT_EQ(refusal(guest("", "  <vsock model='virtio'/>\n")),
            "web1.xml:6:3: <vsock>: not implemented");
  EXPECT_EQ(code(guest("", "<vsock/>")), Errc::Unsupported);
  EXPECT_EQ(refusal(guest("", kDisk + "<iotune/>\n</disk>")),
            "web1.xml:9:1: <iotune>: not implemented");
}

TEST(Parse, RefusesAnUnknownAttribute) {
  EXPECT_EQ(refusal(guest("",
                          "<disk type='file' rawio='yes'><source file='/a'/>"
                          "<target dev='vda'/></disk>")),
            "web1.xml:6:1: <disk>: attribute 'rawio' is not implemented");
  EXPECT_EQ(refusal(guest("<clock offset='utc' x='1'/>")),
            "web1.xml:5:1: <clock>: attribute 'x' is not implemented");
}

TEST(Parse, RefusesAnUnknownValue) {
  EXPECT_EQ(refusal(guest("", "<disk type='network'/>")),
            "web1.xml:6:1: <disk>: type 'network' is not implemented");
  EXPECT_EQ(refusal(guest("<on_poweroff>restart</on_poweroff>")),
            "web1.xml:5:1: <on_poweroff>: 'restart' is not implemented");
}

TEST(Parse, RefusesWhatIsGivenTwice) {
  EXPECT_EQ(refusal(guest("<name>web2</name>")), "web1.xml:5:1: <name>: given twice");
  EXPECT_EQ(refusal(guest("",
                          "<disk type='file' type='file'><source file='/a'/>"
                          "<target dev='vda'/></disk>")),
            "web1.xml:6:1: <disk>: attribute 'type' given twice");
  EXPECT_EQ(refusal(guest("", "<memballoon model='none'/><memballoon model='none'/>")),
            "web1.xml:6:27: <memballoon>: given twice");
}

TEST(Parse, RefusesStrayText) {
  EXPECT_EQ(refusal(guest("", kDisk + "junk</disk>")),
            "web1.xml:6:1: <disk>: text 'junk' means nothing here");
}

TEST(Parse, RefusesOtherMachines) {
  EXPECT_NE(refusal("<domain type='qemu'><name>a</name><memory>65536</memory><os>"
                    "<type arch='aarch64' machine='virt'>hvm</type></os></domain>")
                .find("<type>: arch 'aarch64' is not implemented"),
            std::string::npos);
  EXPECT_NE(refusal(named("a").replace(14, 4, "lxc")).find("type"), std::string::npos);
}

TEST(Parse, RefusesDocumentTypesAndEntities) {
  const std::string bomb =
      "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>"
      "<!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;'>]>\n";
  EXPECT_EQ(refusal(bomb + named("&c;")), "web1.xml:1:1: document type declarations are refused");
  EXPECT_EQ(refusal("<!DOCTYPE d SYSTEM 'file:///etc/passwd'>" + named("a")),
            "web1.xml:1:1: document type declarations are refused");
  EXPECT_EQ(refusal(named("&xxe;")),
            "web1.xml:1:27: entities other than lt, gt, amp, quot, apos are refused");
  EXPECT_EQ(refusal(named("a&#0;b")).substr(0, 14), "web1.xml:1:28:");
  EXPECT_EQ(refusal("<?xml-stylesheet href='x'?>" + named("a")),
            "web1.xml:1:1: processing instructions are refused");
  EXPECT_EQ(refusal("<?xml version='1.0' encoding='UTF-8'?>\n" + named("a")), "");
}

TEST(Parse, BoundsTheTextBeforeItLooksAtIt) {
  const std::string huge(200U << 20U, ' ');
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(refusal(huge), "web1.xml: 209715200 bytes; a definition has at most 4194304");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(200));
}

TEST(Parse, BoundsTheDepth) {
  std::string deep = named("a");
  std::string open, close;
  for (size_t i = 0; i < kMaxDepth + 10; ++i) {
    open += "<metadata>";
    close += "</metadata>";
  }
  deep.insert(deep.find("<os>"), open + close);
  EXPECT_NE(refusal(deep).find("nested too deeply"), std::string::npos);
  std::string unclosed;
  while (unclosed.size() + 3 < kMaxXml) unclosed += "<a>";
  EXPECT_NE(refusal(unclosed), "");
  std::string wide = "<domain type='qemu'>";
  while (wide.size() + 20 < kMaxXml) wide += "<a/>";
  EXPECT_NE(refusal(wide + "</domain>").find("too many elements"), std::string::npos);
}

TEST(Parse, RefusesBrokenText) {
  EXPECT_NE(refusal("").find("web1.xml:1:1: "), std::string::npos);
  EXPECT_NE(refusal("hello"), "");
  EXPECT_NE(refusal(named("a") + named("b")).find("a second root element"), std::string::npos);
  EXPECT_NE(refusal(named("a\xff")).find("not UTF-8"), std::string::npos);
  EXPECT_NE(refusal(named("a\xc0\xaf")).find("not UTF-8"), std::string::npos);
  EXPECT_NE(refusal(named("a\xed\xa0\x80")).find("not UTF-8"), std::string::npos);
  EXPECT_NE(refusal(named(std::string("a\0b", 3))).find("control characters"), std::string::npos);
  EXPECT_NE(refusal("<domain type='a<b'/>").find("'<' in an attribute's value"), std::string::npos);
  EXPECT_NE(refusal("<guest/>").find("a definition is a <domain>"), std::string::npos);
}

TEST(Parse, IsCutOffAnywhereWithoutHarm) {
  const std::string xml = guest("<clock offset='utc'/>", kDisk + "</disk>");
  for (size_t length = 0; length <= xml.rfind("</domain>"); ++length) {
    EXPECT_NE(refusal(xml.substr(0, length)), "") << length;
  }
}

struct Name {
  std::string text;
  bool fine;
};

TEST(Parse, TakesAnyNameThatIsOneLineAndOnePathComponent) {
  const Name names[] = {{"web 1", true},
                        {"q&quot;q'q", true},
                        {"x res=success", true},
                        {"-rf", true},
                        {"ünï,cödé=1", true},
                        {std::string(255, 'x'), true},
                        {std::string(256, 'x'), false},
                        {"a/b", false},
                        {".", false},
                        {"..", false},
                        {"", false},
                        {"a\nb", false},
                        {"a&#10;b", false},
                        {"a&#127;b", false},
                        {"...", true}};
  for (const Name& name : names)
    EXPECT_EQ(refusal(named(name.text)).empty(), name.fine) << name.text;
  auto d = parse(named("x&quot; res=success &#x41;"), "n");
  ASSERT_TRUE(d);
  EXPECT_EQ(d->name, "x\" res=success A");
}

TEST(Parse, ReadsAmountsOfMemory) {
  const auto kib = [](const std::string& memory) {
    auto d = parse(
        "<domain type='qemu'><name>a</name>" + memory + "<os><type>hvm</type></os></domain>", "m");
    return d ? d->memory_kib : 0;
  };
  EXPECT_EQ(kib("<memory>1048576</memory>"), 1048576U);
  EXPECT_EQ(kib("<memory unit='GiB'>2</memory>"), 2097152U);
  EXPECT_EQ(kib("<memory unit='GB'>1</memory>"), 976563U);
  EXPECT_EQ(kib("<memory unit='bytes'>1073741825</memory>"), 1048577U);
  EXPECT_EQ(kib("<memory unit='TiB'>99999999999999999</memory>"), 0U);
  EXPECT_EQ(kib("<memory>-1</memory>"), 0U);
  EXPECT_EQ(kib("<memory>1x</memory>"), 0U);
  EXPECT_EQ(kib("<memory unit='potato'>1048576</memory>"), 0U);
  EXPECT_EQ(kib("<memory>0</memory>"), 0U);
}

TEST(Parse, ChecksNumbersAndPaths) {
  EXPECT_NE(refusal(guest("<vcpu>0</vcpu>")).find("out of range"), std::string::npos);
  EXPECT_NE(refusal(guest("<vcpu>99999999999999999999</vcpu>")).find("not a number"),
            std::string::npos);
  EXPECT_NE(refusal(guest("<vcpu current='3'>2</vcpu>")).find("current is more"),
            std::string::npos);
  EXPECT_NE(refusal(guest("", "<disk type='file'><source file='a'/><target dev='vda'/></disk>"))
                .find("not an absolute path"),
            std::string::npos);
  EXPECT_NE(
      refusal(guest("", "<interface type='user'><mac address='01:00:00:00:00:01'/></interface>"))
          .find("multicast"),
      std::string::npos);
  EXPECT_NE(refusal(guest("", "<interface type='bridge'><source bridge='a/b'/></interface>"))
                .find("not an interface's name"),
            std::string::npos);
}

TEST(Parse, RefusesOptionsThatTheDeviceWouldNotHave) {
  const auto disk = [](const std::string& bus, const std::string& inside) {
    const std::string dev = bus == "virtio" ? "vda" : bus == "ide" ? "hda" : "sda";
    return refusal(guest("", "<disk type='file'><source file='/a'/><target dev='" + dev +
                                 "' bus='" + bus + "'/>" + inside + "</disk>"));
  };
  EXPECT_NE(disk("ide", "<driver queues='2'/>"), "");
  EXPECT_EQ(disk("virtio", "<driver queues='2'/>"), "");
  EXPECT_NE(disk("ide", "<readonly/>"), "");
  EXPECT_NE(disk("virtio", "<vendor>x</vendor>"), "");
  EXPECT_NE(disk("virtio", "<driver type='qcow2'/><shareable/>"), "");
  EXPECT_NE(disk("virtio", "<driver io='native'/>"), "");
  EXPECT_EQ(disk("virtio", "<driver io='native' cache='none'/>"), "");
}

}  // namespace
}  // namespace tenure::domain
