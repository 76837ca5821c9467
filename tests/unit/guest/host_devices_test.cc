// SPDX-License-Identifier: Apache-2.0
// Devices of the host that are passed on, in a sysfs made for the test: which is meant, what is
// claimed of it, and when it cannot be had.
#include "guest/plan/host_devices.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "domain/change.h"
#include "guest/plan/plan.h"
#include "guest/run/host_access.h"
#include "kernel/host_bus.h"
#include "tests/unit/guest/folder.h"

namespace tenure::guest {
namespace {

namespace fs = std::filesystem;

class HostDevicesTest : public test::FolderTest {
 protected:
  void write(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(sysfs() + "/" + path).parent_path());
    std::ofstream(sysfs() + "/" + path) << text;
  }
  std::string sysfs() const { return folder + "/sys"; }

  void usb(const std::string& name, unsigned bus, unsigned device, const std::string& vendor,
           const std::string& product) {
    const std::string at = "bus/usb/devices/" + name + "/";
    write(at + "busnum", std::to_string(bus) + "\n");
    write(at + "devnum", std::to_string(device) + "\n");
    write(at + "idVendor", vendor + "\n");
    write(at + "idProduct", product + "\n");
  }

  void pci(const std::string& address, const std::string& driver, const std::string& group) {
    const std::string at = "bus/pci/devices/" + address;
    write(at + "/vendor", "0x8086\n");
    write(at + "/device", "0x100e\n");
    write(at + "/driver_override", "(null)\n");
    if (!driver.empty()) {
      write("bus/pci/drivers/" + driver + "/unbind", "");
      fs::create_symlink(sysfs() + "/bus/pci/drivers/" + driver, sysfs() + "/" + at + "/driver");
    }
    if (group.empty())
      return;
    const std::string members = sysfs() + "/kernel/iommu_groups/" + group + "/devices/";
    fs::create_directories(members);
    fs::create_symlink(sysfs() + "/kernel/iommu_groups/" + group,
                       sysfs() + "/" + at + "/iommu_group");
    fs::create_symlink(sysfs() + "/" + at, members + address);
  }

  domain::Domain guest(const std::string& devices) {
    auto d = domain::parse_complete(
        "<domain type='qemu'><name>g</name><memory>65536</memory><os><type>hvm</type></os>"
        "<devices>" +
            devices + "</devices></domain>",
        "g.xml");
    EXPECT_TRUE(d) << d.error().what();
    return d ? std::move(*d) : domain::Domain{};
  }

  Result<HostdevFacts> found(const std::string& xml) {
    const domain::Domain d = guest(xml);
    return look_up_hostdev(d.hostdevs.front(), d, sysfs());
  }
};

std::string usb_xml(const std::string& source) {
  return "<hostdev mode='subsystem' type='usb'><source>" + source + "</source></hostdev>";
}
constexpr char kPci[] =
    "<hostdev mode='subsystem' type='pci' managed='no'><source><address domain='0' bus='1' slot='0' "
    "function='0'/></source></hostdev>";
constexpr char kManaged[] =
    "<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0' bus='1' "
    "slot='0' function='1'/></source></hostdev>";

TEST_F(HostDevicesTest, AUsbDeviceIsFoundByIdAndByPlace) {
  usb("1-1", 1, 4, "1d6b", "0104");
  usb("2-1", 2, 7, "0951", "1666");
  usb("usb1", 1, 1, "1d6b", "0002");
  const std::string id = "<vendor id='0x1d6b'/><product id='0x0104'/>";
  auto facts = found(usb_xml(id));
  ASSERT_TRUE(facts) << facts.error().what();
  EXPECT_EQ(facts->node, "/dev/bus/usb/001/004");
  EXPECT_EQ(facts->address, "001.004");
  EXPECT_EQ(facts->product, "1d6b:0104");
  facts = found(usb_xml("<address bus='2' device='7'/>"));
  ASSERT_TRUE(facts);
  EXPECT_EQ(facts->product, "0951:1666");
  // A root hub is nobody's; what was given by both must be both.
  EXPECT_EQ(found(usb_xml("<address bus='1' device='1'/>")).error().code(), Errc::NotFound);
  EXPECT_EQ(found(usb_xml(id + "<address bus='2' device='7'/>")).error().code(), Errc::NotFound);
  usb("1-2", 1, 5, "1d6b", "0104");
  auto two = found(usb_xml(id));
  ASSERT_FALSE(two);
  EXPECT_EQ(two.error().code(), Errc::Invalid);
  EXPECT_NE(two.error().what().find("001.004 and 001.005"), std::string::npos);
}

TEST_F(HostDevicesTest, OneUsbDeviceIsNotPassedOnTwice) {
  usb("1-1", 1, 4, "1d6b", "0104");
  HostOptions options;
  options.sysfs = sysfs();
  const auto d = guest(usb_xml("<vendor id='0x1d6b'/><product id='0x0104'/>") +
                       usb_xml("<address bus='1' device='4'/>"));
  auto facts = look_up(d, options, Missing::Note);
  ASSERT_FALSE(facts);
  EXPECT_EQ(facts.error().code(), Errc::Invalid);
  EXPECT_NE(facts.error().what().find("001.004"), std::string::npos);
}

// Attached to a guest that has it already, by its place instead of its vendor.
TEST_F(HostDevicesTest, AHeldDeviceIsNotPassedOnAgain) {
  Facts facts;
  facts.hostdevs["hostdev1"] = {
      .node = "/dev/bus/usb/001/004", .address = "001.004", .product = "1d6b:0104", .group = {}};
  trail::Record record(trail::Kind::Hostdev);
  record.set("reason", "attach").set("bus", "usb").set("device", "001.004");
  record.set("alias", "hostdev0");
  EXPECT_TRUE(check_not_held(facts, {}));
  const std::vector<registrar::Hold> holds{
      {.grant = 7, .claim = model::claim_of(std::move(record))}};
  const Result<> checked = check_not_held(facts, holds);
  ASSERT_FALSE(checked);
  EXPECT_NE(checked.error().what().find("that of hostdev0"), std::string::npos);
}

TEST_F(HostDevicesTest, AHostWithoutUsbHasNone) {
  EXPECT_EQ(found(usb_xml("<address bus='1' device='1'/>")).error().code(), Errc::NotFound);
}

TEST_F(HostDevicesTest, APciDeviceMustBeVfiosWithItsWholeGroup) {
  EXPECT_EQ(found(kPci).error().code(), Errc::NotFound);
  pci("0000:01:00.0", "e1000e", "12");
  auto facts = found(kPci);
  ASSERT_FALSE(facts);
  EXPECT_EQ(facts.error().code(), Errc::Busy);
  EXPECT_NE(facts.error().what().find("bound to e1000e"), std::string::npos);
  fs::remove_all(sysfs());
  pci("0000:01:00.0", "vfio-pci", "");
  EXPECT_EQ(found(kPci).error().code(), Errc::Unsupported) << "no IOMMU";
  fs::remove_all(sysfs());
  pci("0000:01:00.0", "vfio-pci", "12");
  facts = found(kPci);
  ASSERT_TRUE(facts) << facts.error().what();
  EXPECT_EQ(facts->node, "/dev/vfio/12");
  EXPECT_EQ(facts->group, 12U);
  pci("0000:01:00.1", "snd_hda_intel", "12");
  facts = found(kPci);
  ASSERT_FALSE(facts);
  EXPECT_NE(facts.error().what().find("0000:01:00.1 of its IOMMU group 12"), std::string::npos);
  // Both for the guest, and the other one is ours to bind.
  const domain::Domain both = guest(std::string(kPci) + kManaged);
  EXPECT_TRUE(look_up_hostdev(both.hostdevs[0], both, sysfs()));
}

// Two functions of one group: container and group are one node each, shared; the record names both.
TEST_F(HostDevicesTest, ContainerAndGroupAreSharedByFunctions) {
  const domain::Domain d = guest(std::string(kPci) + kManaged);
  Facts facts;
  const auto node = [&](const std::string& path, uint32_t minor) {
    facts.nodes[path] = {.path = path, .rdev = DeviceNumber{DeviceType::Char, 246, minor}};
  };
  node("/dev/vfio/vfio", 1);
  node("/dev/vfio/12", 2);
  for (const auto& hostdev : d.hostdevs)
    facts.hostdevs[hostdev.info.alias] = {
        .node = "/dev/vfio/12", .address = hostdev.host, .product = "8086:100e", .group = 12};
  HostOptions options;
  options.fence = kernel::CgroupVersion::V2;
  options.cgroup_v2 = "/sys/fs/cgroup/g";
  const Plan plan = plan_devices(d, facts, options);
  std::vector<std::string> got;
  for (const model::Claim& claim : plan.claims)
    got.push_back(claim.kind + " " + claim.id + " " +
                  std::string(claim.record.get("reason").value_or("")) + " " + claim.holder);
  EXPECT_EQ(got, (std::vector<std::string>{"cgroup /dev/vfio/vfio allow hostdev:hostdev0",
                                           "cgroup /dev/vfio/12 allow hostdev:hostdev0",
                                           "cgroup /dev/vfio/vfio share hostdev:hostdev1",
                                           "cgroup /dev/vfio/12 share hostdev:hostdev1",
                                           "dev 0000:01:00.0 attach hostdev0",
                                           "dev 0000:01:00.1 attach hostdev1"}));
  const auto names = holder_names(domain::only_device(d, "hostdev0"));
  EXPECT_TRUE(names.contains("hostdev0") && names.contains("hostdev:hostdev0"));
  EXPECT_FALSE(names.contains("hostdev1"));
  EXPECT_EQ(locked_bytes(d), (65536ULL << 10U) + (1ULL << 30U));
}

// A made sysfs obeys nobody: what is read back decides, and the override is taken back.
TEST_F(HostDevicesTest, ADriverThatDoesNotComeIsAnError) {
  pci("0000:01:00.0", "e1000e", "12");
  write("bus/pci/drivers_probe", "");
  auto bound = kernel::bind_pci_driver("0000:01:00.0", "vfio-pci", sysfs());
  ASSERT_FALSE(bound);
  EXPECT_NE(bound.error().what().find("bound to e1000e instead of vfio-pci"), std::string::npos);
  // Not half done: the driver that it has kept finds it again.
  const auto wanted = [&] {
    std::string line;
    std::getline(std::ifstream(sysfs() + "/bus/pci/devices/0000:01:00.0/driver_override"), line);
    return line;
  };
  EXPECT_EQ(wanted(), "vfio-pci");
  EXPECT_EQ(kernel::give_back_pci("0000:01:00.0", "e1000e", "", sysfs()),
            kernel::Outcome::Unchanged);
  EXPECT_EQ(wanted(), "");
  // What an administrator had asked for comes back; what one asked for meanwhile stays.
  write("bus/pci/devices/0000:01:00.0/driver_override", "vfio-pci\n");
  EXPECT_TRUE(kernel::give_back_pci("0000:01:00.0", "e1000e", "e1000e", sysfs()));
  EXPECT_EQ(wanted(), "e1000e");
  write("bus/pci/devices/0000:01:00.0/driver_override", "pci-stub\n");
  EXPECT_TRUE(kernel::give_back_pci("0000:01:00.0", "e1000e", "", sysfs()));
  EXPECT_EQ(wanted(), "pci-stub");
  auto same = kernel::bind_pci_driver("0000:01:00.0", "e1000e", sysfs());
  ASSERT_TRUE(same);
  EXPECT_EQ(*same, kernel::Outcome::Unchanged);
  EXPECT_EQ(kernel::give_back_pci("0000:09:00.0", "e1000e", "", sysfs()),
            kernel::Outcome::Unchanged)
      << "what is gone is nobody's";
  EXPECT_EQ(kernel::pci_device("../../etc", sysfs()).error().code(), Errc::Invalid);
}

TEST_F(HostDevicesTest, AMediatedDeviceHasAGroup) {
  const std::string uuid = "53764d0e-85a0-42b4-af5c-2046b460b1dc";
  fs::create_directories(sysfs() + "/bus/mdev/devices/" + uuid);
  fs::create_symlink("../../../kernel/iommu_groups/7",
                     sysfs() + "/bus/mdev/devices/" + uuid + "/iommu_group");
  auto facts =
      found("<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='" +
            uuid + "'/></source></hostdev>");
  ASSERT_TRUE(facts) << facts.error().what();
  EXPECT_EQ(facts->node, "/dev/vfio/7");
}

}  // namespace
}  // namespace tenure::guest
