// SPDX-License-Identifier: Apache-2.0
// <hostdev>, <shmem>, <redirdev>, <input type='evdev'>: what is read, what is refused by name, and
// where they come to sit.
#include <gtest/gtest.h>

#include "domain/change.h"
#include "domain/domain.h"

namespace tenure::domain {
namespace {

std::string xml_of(const std::string& devices, const std::string& machine = "q35") {
  return "<domain type='qemu'><name>g</name><memory>65536</memory><os><type machine='" + machine +
         "'>hvm</type></os><devices>" + devices + "</devices></domain>";
}

Domain read(const std::string& devices, const std::string& machine = "q35") {
  auto d = parse_complete(xml_of(devices, machine), "g.xml");
  EXPECT_TRUE(d) << d.error().what();
  return d ? std::move(*d) : Domain{};
}

std::string hostdev_refusal(const std::string& devices) {
  auto d = parse_complete(xml_of(devices), "g.xml");
  EXPECT_FALSE(d) << devices;
  return d ? "" : d.error().what();
}

std::string hostdev(const std::string& type, const std::string& source,
                    const std::string& more = "") {
  return "<hostdev mode='subsystem' type='" + type + "' " + more + "><source>" + source +
         "</source></hostdev>";
}

TEST(HostDevices, HaveTheirAddressOnTheHost) {
  const Domain d = read(
      hostdev("usb", "<vendor id='0x1d6b'/><product id='0x104'/>") +
      hostdev("usb", "<address bus='2' device='13'/>") +
      hostdev("pci", "<address domain='0' bus='0x0a' slot='0x1f' function='7'/>", "managed='yes'"));
  ASSERT_EQ(d.hostdevs.size(), 3U);
  EXPECT_EQ(host_address(d.hostdevs[0]), "1d6b:0104");
  EXPECT_EQ(host_address(d.hostdevs[1]), "002.013");
  EXPECT_EQ(host_address(d.hostdevs[2]), "0000:0a:1f.7");
  EXPECT_TRUE(d.hostdevs[2].managed);
  EXPECT_EQ(d.hostdevs[0].info.address.kind, AddressKind::Usb);
  EXPECT_EQ(d.hostdevs[2].info.address.kind, AddressKind::Pci);
  EXPECT_EQ(d.hostdevs[2].info.alias, "hostdev2");
  EXPECT_EQ(find_device(d, "0000:0a:1f.7"), "hostdev2");
}

TEST(HostDevices, Refusals) {
  const auto has = [](const std::string& devices, const std::string& text) {
    EXPECT_NE(hostdev_refusal(devices).find(text), std::string::npos) << hostdev_refusal(devices);
  };
  has(hostdev("scsi", ""), "type 'scsi' is not implemented");
  has("<hostdev mode='capabilities' type='storage'/>", "mode 'capabilities'");
  has(hostdev("usb", ""), "<vendor> and <product>, or <address>");
  has(hostdev("usb", "<vendor id='1'/>"), "both");
  has(hostdev("usb", "<address bus='1'/>"), "bus and device");
  has(hostdev("pci", "<address bus='1'/>"), "bus and slot");
  has(hostdev("pci", "<address bus='256' slot='0'/>"), "bus");
  has(hostdev("mdev", "<address uuid='x'/>", "model='vfio-pci'"), "no uuid");
  has(hostdev("mdev", "<address uuid='53764d0e-85a0-42b4-af5c-2046b460b1dc'/>",
              "model='vfio-pci' display='on'"),
      "display 'on'");
  const std::string one = hostdev("pci", "<address bus='1' slot='0'/>");
  has(one + one, "a second one of 0000:01:00.0");
  has("<shmem name='../x'/>", "file name");
  has("<shmem name='x'><size unit='KiB'>3000</size></shmem>", "power of two");
  has("<shmem name='x'><server path='/s'/></shmem>", "only ivshmem-doorbell has a server");
  has("<shmem name='x'><model type='ivshmem-doorbell'/></shmem>", "needs a <server>");
  has("<shmem name='x'/><shmem name='x'/>", "a second one of this name");
  has("<redirdev bus='usb' type='spicevmc'/>", "type 'spicevmc' is not implemented");
  has("<redirdev bus='usb' type='pty'/>", "by tcp or unix");
  has("<redirdev bus='usb' type='tcp'><source host='a,b' service='1'/></redirdev>", "letters");
  const std::string fs = "<filesystem type='mount'><driver type='virtiofs'/>";
  has(fs + "<source socket='/s'/><target dir='t'/></filesystem>", "<memoryBacking>");
  const std::string served = fs + "<source dir='/d'/><target dir='t'/>";
  has(served + "</filesystem>", "<memoryBacking>");
  has(fs + "<source dir='d'/><target dir='t'/></filesystem>", "dir");
  has(fs + "<target dir='t'/></filesystem>", "either dir= or socket=");
  has(fs + "<source dir='/d' socket='/s'/><target dir='t'/></filesystem>", "either");
  has(fs + "<source socket='/s'/><target dir='t'/><readonly/></filesystem>", "<readonly/>");
  has(fs + "<source socket='/s'/><target dir='t'/><binary path='/v'/></filesystem>",
      "run by somebody else");
  has(served + "<binary path='v'/></filesystem>", "path");
  has(served + "<binary><cache mode='auto'/></binary></filesystem>", "'auto' is not implemented");
  has(served + "<binary><sandbox mode='none'/></binary></filesystem>", "'none'");
  has(served + "<binary><lock posix='maybe'/></binary></filesystem>", "posix");
  has(served + "<binary><thread_pool size='-1'/></binary></filesystem>", "size");
  has(served + "<binary><openfiles max='1'/></binary></filesystem>", "max");
  has(served + "<binary xattr='on' debug='1'/></filesystem>", "debug");
  has(served + "<idmap><uid start='0' target='1' count='1'/></idmap></filesystem>", "idmap");
  has(fs + "<source socket='/s'/></filesystem>", "<target dir=>");
  has("<filesystem type='mount'><source dir='/d'/><target dir='t'/></filesystem>",
      "other than 'virtiofs'");
  has("<input type='evdev'/>", "<source dev=>");
  has("<input type='evdev'><source dev='/dev/input/event0' grab='some'/></input>", "'some'");
}

TEST(HostDevices, SharedMemoryAndStreams) {
  const Domain d = read(
      "<shmem name='a'/><shmem name='b'><model type='ivshmem-doorbell'/><server path='/run/b'/>"
      "<msi vectors='8' ioeventfd='on'/></shmem>"
      "<redirdev bus='usb' type='tcp'><source mode='connect' host='::1' service='4000'/>"
      "<protocol type='raw'/></redirdev>"
      "<input type='evdev'><source dev='/dev/input/event1' grab='all' repeat='on' "
      "grabToggle='ctrl-ctrl'/></input>");
  EXPECT_EQ(d.shmems[0].size_kib, 4096U);
  EXPECT_EQ(d.shmems[1].vectors, 8U);
  EXPECT_EQ(find_device(d, "/run/b"), "shmem1");
  ASSERT_EQ(d.chardevs.size(), 1U);
  EXPECT_EQ(d.chardevs[0].info.alias, "redir0");
  EXPECT_EQ(d.chardevs[0].info.address.kind, AddressKind::Usb);
  EXPECT_EQ(d.chardevs[0].host, "::1");
  EXPECT_EQ(d.inputs[0].info.address.kind, AddressKind::None);
  EXPECT_TRUE(d.inputs[0].grab_all);
}

TEST(HostDevices, AServedFolderNeedsSharedMemory) {
  auto d = parse_complete(
      "<domain type='qemu'><name>g</name><memory>65536</memory><memoryBacking><access "
      "mode='shared'/></memoryBacking><os><type machine='q35'>hvm</type></os><devices>"
      "<filesystem type='mount'><driver type='virtiofs' queue='512'/><source socket='/run/s'/>"
      "<target dir='share'/></filesystem></devices></domain>",
      "g.xml");
  ASSERT_TRUE(d) << d.error().what();
  EXPECT_EQ(d->filesystems[0].info.alias, "fs0");
  EXPECT_EQ(d->filesystems[0].queue, 512U);
  EXPECT_EQ(find_device(*d, "share"), "fs0");
  EXPECT_NE(d->filesystems[0].info.address.controller, 0U) << "on a port of its own";
}

TEST(HostDevices, AFolderSaysHowItIsServed) {
  auto d = parse_complete(
      "<domain type='qemu'><name>g</name><memory>65536</memory><memoryBacking><access "
      "mode='shared'/></memoryBacking><os><type machine='q35'>hvm</type></os><devices>"
      "<filesystem type='mount' accessmode='passthrough'><driver type='virtiofs'/>"
      "<source dir='/srv/a'/><target dir='a'/><readonly/>"
      "<binary path='/opt/virtiofsd' xattr='on'><cache mode='always'/><sandbox mode='chroot'/>"
      "<lock posix='on' flock='off'/><thread_pool size='16'/><openfiles max='4096'/></binary>"
      "</filesystem><filesystem type='mount'><driver type='virtiofs'/><source dir='/srv/b'/>"
      "<target dir='b'/></filesystem></devices></domain>",
      "g.xml");
  ASSERT_TRUE(d) << d.error().what();
  const Filesystem& fs = d->filesystems[0];
  EXPECT_EQ(fs.dir, "/srv/a");
  EXPECT_TRUE(fs.readonly);
  EXPECT_EQ(fs.binary, "/opt/virtiofsd");
  EXPECT_EQ(fs.cache, "always");
  EXPECT_EQ(fs.sandbox, "chroot");
  EXPECT_EQ(fs.xattr, true);
  EXPECT_EQ(fs.posix_lock, true);
  EXPECT_EQ(fs.flock, false);
  EXPECT_EQ(fs.threads, 16U);
  EXPECT_EQ(fs.open_files, 4096U);
  EXPECT_FALSE(d->filesystems[1].readonly);
  EXPECT_EQ(find_device(*d, "/srv/b"), "fs1");
}

}  // namespace
}  // namespace tenure::domain
