// SPDX-License-Identifier: Apache-2.0
// What command_line() writes is what QEMU takes: every family of devices, once at least, is started
// for real and told to quit.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "domain/domain.h"
#include "machine.h"

namespace tenure::qemu::test {
namespace {

struct Case {
  const char* name;
  const char* machine;
  const char* outside;  // beside <devices>
  const char* devices;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

std::string xml_of(const Case& c) {
  return std::string("<domain type='qemu'><name>a,b &quot;c&quot; é</name>") +
         "<uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>" +
         "<memory unit='MiB'>64</memory><os><type arch='x86_64' machine='" + c.machine +
         "'>hvm</type></os>" + c.outside + "<devices>" + c.devices + "</devices></domain>";
}

void replace(std::string& text, const std::string& what, const std::string& by) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size())) {
    text.replace(at, what.size(), by);
  }
}

// One member a disk, as read_chain() would have found it.
void wire_disks(const domain::Domain& d, Wiring& wiring) {
  for (const domain::Disk& disk : d.disks) {
    if (disk.path.empty())
      continue;
    kernel::NodeFacts facts;
    facts.type = kernel::FileType::Regular;
    ImageChain& chain = wiring.images[disk.info.alias];
    chain.push_back({.path = disk.path,
                     .format = disk.format,
                     .writable = !disk.readonly,
                     .data_file = false,
                     .node = facts});
    for (const auto& member : disk.backing.value_or(std::vector<domain::BackingStore>{})) {
      chain.push_back({.path = member.path,
                       .format = member.format,
                       .writable = false,
                       .data_file = false,
                       .node = facts});
    }
  }
}

class Starts : public ::testing::TestWithParam<Case> {};

TEST_P(Starts, AndQuits) {
  if (!has_qemu())
    GTEST_SKIP() << "qemu-system-x86_64 is not installed";
  const TempDir dir;
  for (const char* name : {"a", "b", "c", "d", "e", "f", "g"}) {
    ASSERT_FALSE(dir.file(name, 1440 * 1024).empty());
  }
  const std::string image = "qemu-img create -q -f qcow2 -o size=1M " + dir.path() +
                            "/base.qcow2 && " + "qemu-img create -q -f qcow2 -F qcow2 -b " +
                            dir.path() + "/base.qcow2 " + dir.path() + "/top.qcow2";
  ASSERT_EQ(std::system(image.c_str()), 0);
  std::string xml = xml_of(GetParam());
  replace(xml, "@DIR@", dir.path());
  auto d = domain::parse_complete(xml, GetParam().name);
  ASSERT_TRUE(d) << d.error().what();
  Wiring wiring;
  wire_disks(*d, wiring);
  EXPECT_EQ(run_qemu(*d, wiring), "");
}

#define FILE_DISK(file, target, bus) \
  "<disk type='file'><source file='@DIR@/" file "'/><target dev='" target "' bus='" bus "'/></disk>"

const Case kCases[] = {
    {"bare_pc", "pc", "", ""},
    {"bare_q35", "q35", "<features><acpi/></features>", ""},
    {"old_machines", "pc-i440fx-4.2", "", FILE_DISK("a", "vda", "virtio")},
    {"virtio_disks", "pc", "<iothreads>1</iothreads>",
     "<disk type='file'><driver name='qemu' type='qcow2' cache='none' io='threads' discard='unmap'"
     " detect_zeroes='unmap' error_policy='enospace' iothread='1' queues='2' queue_size='256'"
     " ioeventfd='on' event_idx='off' copy_on_read='on'>"
     "<metadata_cache><max_size unit='bytes'>1048576</max_size></metadata_cache></driver>"
     "<source file='@DIR@/top.qcow2'/><backingStore type='file'><format type='qcow2'/>"
     "<source file='@DIR@/base.qcow2'/><backingStore/></backingStore>"
     "<target dev='vda' bus='virtio'/><serial>S 1,2</serial>"
     "<blockio logical_block_size='512' physical_block_size='4096'/></disk>"
     "<disk type='file'><driver name='qemu' cache='writethrough'/><source file='@DIR@/a'/>"
     "<target dev='vdb' bus='virtio'/><readonly/></disk>"
     "<disk type='file'><source file='@DIR@/b'/><target dev='vdc' bus='virtio'/><shareable/></disk>"},
    {"ide_and_floppy", "pc", "",
     "<disk type='file'><source file='@DIR@/a'/><target dev='hda' bus='ide'/>"
     "<geometry cyls='10' heads='16' secs='63' trans='lba'/><wwn>5000c50015ea71ad</wwn></disk>"
     "<disk type='file' device='cdrom'><source file='@DIR@/b'/><target dev='hdc' bus='ide'/></disk>"
     "<disk type='file' device='cdrom'><target dev='hdd' bus='ide'/></disk>"
     "<disk type='file' device='floppy'><source file='@DIR@/c'/><target dev='fda' bus='fdc'/>"
     "<readonly/></disk><disk type='file' device='floppy'><target dev='fdb' bus='fdc'/></disk>"
     "<controller type='sata' index='1'/>"
     "<disk type='file'><source file='@DIR@/d'/><target dev='sda' bus='sata'/>"
     "<address type='drive' controller='1' unit='5'/></disk>"},
    {"sata_and_floppy_q35", "q35", "",
     FILE_DISK(
         "a", "sda",
         "sata") "<disk type='file' device='cdrom'><target dev='sdb' bus='sata' tray='open'/></disk>"
                 "<disk type='file' device='floppy'><source file='@DIR@/c'/><target dev='fda' bus='fdc'/></disk>"},
    {"scsi", "pc", "",
     "<controller type='scsi' index='0' model='virtio-scsi'>"
     "<driver queues='2' cmd_per_lun='10' max_sectors='512'/></controller>"
     "<controller type='scsi' index='1' model='lsilogic'/>"
     "<controller type='scsi' index='2' model='lsisas1068'/>"
     "<controller type='scsi' index='3' model='lsisas1078'/>"
     "<controller type='scsi' index='4' model='vmpvscsi'/>"
     "<disk type='file'><source file='@DIR@/a'/><target dev='sda' bus='scsi' rotation_rate='1'/>"
     "<vendor>V</vendor><product>P</product><wwn>5000c50015ea71ad</wwn>"
     "<address type='drive' controller='0' target='3' unit='2'/></disk>"
     "<disk type='file' device='cdrom'><source file='@DIR@/b'/><target dev='sdb' bus='scsi'/></disk>"
     "<disk type='file'><source file='@DIR@/c'/><target dev='sdc' bus='scsi'/>"
     "<address type='drive' controller='1' unit='3'/></disk>"
     "<disk type='file'><source file='@DIR@/d'/><target dev='sdd' bus='scsi'/>"
     "<address type='drive' controller='2' target='1'/></disk>"
     "<disk type='file'><source file='@DIR@/e'/><target dev='sde' bus='scsi'/>"
     "<address type='drive' controller='3' target='1'/></disk>"
     "<disk type='file'><source file='@DIR@/f'/><target dev='sdf' bus='scsi'/>"
     "<address type='drive' controller='4' target='1'/></disk>"},
    {"usb", "pc", "",
     "<controller type='usb' model='qemu-xhci' ports='15'/>"
     "<disk type='file'><source file='@DIR@/a'/><target dev='sda' bus='usb' removable='on'/></disk>"
     "<input type='tablet' bus='usb'/><input type='mouse' bus='usb'/>"
     "<input type='keyboard' bus='usb'/><sound model='usb'/>"
     "<serial type='null'><target type='usb-serial'/></serial>"},
    {"usb2_companions", "q35", "",
     "<controller type='usb' index='0' model='ich9-ehci1'/>"
     "<controller type='usb' index='0' model='ich9-uhci1'/>"
     "<controller type='usb' index='0' model='ich9-uhci2'/>"
     "<controller type='usb' index='0' model='ich9-uhci3'/>"
     "<controller type='usb' index='1' model='nec-xhci'/>"
     "<controller type='usb' index='2' model='pci-ohci'/><input type='tablet' bus='usb'/>"},
    {"pcie_buses", "q35", "",
     "<controller type='pci' index='1' model='pcie-root-port'><target hotplug='off'/></controller>"
     "<controller type='pci' index='2' model='pcie-root-port'><model name='ioh3420'/></controller>"
     "<controller type='pci' index='3' model='pcie-switch-upstream-port'/>"
     "<controller type='pci' index='4' model='pcie-switch-downstream-port'/>"
     "<controller type='pci' index='5' model='dmi-to-pci-bridge'/>"
     "<controller type='pci' index='6' model='pci-bridge'>"
     "<address type='pci' bus='5' slot='1'/></controller>"
     "<controller type='pci' index='7' model='pcie-expander-bus'/>"
     "<controller type='pci' index='8' model='pcie-to-pci-bridge'/>"
     "<interface type='user'><model type='e1000'/></interface>"
     "<interface type='user'><model type='virtio'/></interface>"
     "<interface type='user'><model type='virtio-transitional'/></interface>"},
    {"many_nics", "pc", "",
     "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/>"
     "<driver rx_queue_size='512' tx_queue_size='256' iommu='off' packed='on' page_per_vq='on'/>"
     "<rom enabled='no'/></interface><interface type='user'><model type='e1000'/></interface>"
     "<interface type='user'><model type='e1000e'/><rom bar='off'/></interface>"
     "<interface type='user'/><interface type='user'><model type='pcnet'/></interface>"
     "<interface type='user'><model type='ne2k_pci'/></interface>"
     "<interface type='user'><model type='vmxnet3'/></interface>"
     "<interface type='user'><model type='i82551'/></interface>"
     "<interface type='user'><model type='virtio-non-transitional'/></interface>"},
    {"characters", "pc", "",
     "<serial type='pty'/><serial type='file'><source path='@DIR@/s,1=x' append='on'/></serial>"
     "<serial type='unix'><source path='@DIR@/sock,1' mode='bind'/></serial>"
     "<serial type='null'><target type='pci-serial'/></serial>"
     "<serial type='null'><target type='isa-debug'/></serial><parallel type='null'/>"
     "<console type='pty'/><console type='pty'><target type='virtio'/></console>"
     "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
     "<channel type='null'><target type='virtio' name='x.y'/>"
     "<address type='virtio-serial' controller='1' port='9'/></channel>"},
    {"screens", "pc", "",
     "<graphics type='vnc' sharePolicy='ignore' keymap='de'/>"
     "<video><model type='qxl' ram='65536' vram='65536' vgamem='16384' heads='2'/></video>"
     "<video><model type='qxl'/></video><video><model type='virtio' heads='2'/></video>"
     "<video><model type='bochs' vram='16384'/></video>"},
    {"vga", "pc", "", "<video><model type='vga' vram='16384'/></video>"},
    {"cirrus_on_a_socket", "pc", "",
     "<graphics type='vnc'><listen type='socket' socket='@DIR@/v,1'/></graphics>"},
    {"virtio_vga", "q35", "",
     "<video><model type='virtio'><resolution x='800' y='600'/></model></video>"},
    {"ramfb", "pc", "", "<video><model type='ramfb'/></video>"},
    {"sounds", "pc", "",
     "<sound model='ich6'><codec type='micro'/><codec type='output'/></sound>"
     "<sound model='ich9'/><sound model='ac97'><audio id='2'/></sound>"
     "<sound model='es1370'/><sound model='sb16'/>"
     "<audio id='1' type='none'/><audio id='2' type='none' timerPeriod='50'>"
     "<output mixingEngine='yes' fixedSettings='yes' voices='2'>"
     "<settings frequency='44100' channels='2' format='s16'/></output></audio>"},
    {"virtio_inputs", "q35", "",
     "<input type='tablet' bus='virtio'><driver packed='on'/></input>"
     "<input type='mouse' bus='virtio'/><input type='keyboard' bus='virtio'/>"
     "<input type='mouse' bus='ps2'/>"},
    {"small_ones", "pc", "<genid/>",
     "<memballoon model='virtio' autodeflate='on' freePageReporting='on'/>"
     "<rng model='virtio'><rate bytes='1024' period='2000'/>"
     "<backend model='random'>/dev/urandom</backend></rng>"
     "<rng model='virtio-transitional'><backend model='builtin'/></rng>"
     "<watchdog model='i6300esb' action='inject-nmi'/><panic/>"},
    {"small_ones_q35", "q35", "<on_crash>preserve</on_crash><on_reboot>destroy</on_reboot>",
     "<memballoon model='none'/><watchdog model='itco' action='pause'/><panic model='pvpanic'/>"
     "<rng model='virtio-non-transitional'><backend model='builtin'/></rng>"},
    {"ib700", "pc", "", "<watchdog model='ib700'/><panic model='isa'/>"},
    {"iommu", "q35", "<features><acpi/><ioapic driver='qemu'/></features>",
     "<iommu model='intel'><driver intremap='on' caching_mode='on' iotlb='on'"
     " aw_bits='48'/></iommu><interface type='user'><model type='virtio'/>"
     "<driver iommu='on' ats='on'/></interface>"},
    {"processors", "pc",
     "<vcpu current='2'>4</vcpu><cpu mode='custom' match='exact'><model>Nehalem</model>"
     "<topology sockets='1' dies='1' cores='2' threads='2'/><feature policy='disable' name='vme'/>"
     "<cache mode='emulate' level='3'/><maxphysaddr mode='emulate' bits='40'/></cpu>"
     "<features><acpi/><apic/><pae/><pmu state='off'/><vmport state='off'/><kvm>"
     "<hidden state='on'/></kvm></features><clock offset='absolute' start='1234567890'>"
     "<timer name='rtc' tickpolicy='catchup' track='guest'/><timer name='hpet' present='no'/>"
     "<timer name='pit' tickpolicy='delay'/></clock>"
     "<pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='yes'/></pm>",
     ""},
    // What virsh dumpxml shows of a running guest: ids, aliases, names of the moment, every
    // address.
    {"dump_of_libvirt", "pc-q35-7.2",
     "<metadata><libosinfo:libosinfo xmlns:libosinfo='http://libosinfo.org/xmlns/libvirt/domain/1.0'>"
     "<libosinfo:os id='http://debian.org/debian/12'/></libosinfo:libosinfo></metadata>"
     "<currentMemory unit='KiB'>65536</currentMemory><vcpu placement='static'>2</vcpu>"
     "<features><acpi/><apic/></features><clock offset='utc'><timer name='rtc' tickpolicy='catchup'/>"
     "<timer name='pit' tickpolicy='delay'/><timer name='hpet' present='no'/></clock>"
     "<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>"
     "<pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>",
     "<emulator>/usr/bin/qemu-system-x86_64</emulator><disk type='file' device='disk'>"
     "<driver name='qemu' type='qcow2' discard='unmap'/><source file='@DIR@/base.qcow2' index='2'/>"
     "<backingStore/><target dev='vda' bus='virtio'/><alias name='virtio-disk0'/>"
     "<address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/></disk>"
     "<disk type='file' device='cdrom'><driver name='qemu'/><target dev='sda' bus='sata'/><readonly/>"
     "<alias name='sata0-0-0'/><address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>"
     "<controller type='usb' index='0' model='qemu-xhci' ports='15'><alias name='usb'/>"
     "<address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/></controller>"
     "<controller type='pci' index='0' model='pcie-root'><alias name='pcie.0'/></controller>"
     "<controller type='pci' index='1' model='pcie-root-port'><model name='pcie-root-port'/>"
     "<target chassis='1' port='0x10'/><alias name='pci.1'/><address type='pci' domain='0x0000'"
     " bus='0x00' slot='0x02' function='0x0' multifunction='on'/></controller>"
     "<controller type='pci' index='2' model='pcie-root-port'><model name='pcie-root-port'/>"
     "<target chassis='2' port='0x11'/><alias name='pci.2'/><address type='pci' domain='0x0000'"
     " bus='0x00' slot='0x02' function='0x1'/></controller>"
     "<controller type='pci' index='3' model='pcie-root-port'><model name='pcie-root-port'/>"
     "<target chassis='3' port='0x12'/><alias name='pci.3'/><address type='pci' domain='0x0000'"
     " bus='0x00' slot='0x02' function='0x2'/></controller>"
     "<controller type='pci' index='4' model='pcie-root-port'><model name='pcie-root-port'/>"
     "<target chassis='4' port='0x13'/><alias name='pci.4'/><address type='pci' domain='0x0000'"
     " bus='0x00' slot='0x02' function='0x3'/></controller>"
     "<controller type='sata' index='0'><alias name='ide'/><address type='pci' domain='0x0000'"
     " bus='0x00' slot='0x1f' function='0x2'/></controller>"
     "<controller type='virtio-serial' index='0'><alias name='virtio-serial0'/><address type='pci'"
     " domain='0x0000' bus='0x03' slot='0x00' function='0x0'/></controller>"
     "<interface type='user'><mac address='52:54:00:6b:3c:58'/><target dev='vnet3'/>"
     "<model type='virtio'/><alias name='net0'/><address type='pci' domain='0x0000' bus='0x01'"
     " slot='0x00' function='0x0'/></interface><serial type='pty'><source path='/dev/pts/4'/>"
     "<target type='isa-serial' port='0'><model name='isa-serial'/></target><alias name='serial0'/>"
     "</serial><console type='pty' tty='/dev/pts/4'><source path='/dev/pts/4'/><target type='serial'"
     " port='0'/><alias name='serial0'/></console><channel type='unix'><source mode='bind'"
     " path='@DIR@/agent'/><target type='virtio' name='org.qemu.guest_agent.0' state='disconnected'/>"
     "<alias name='channel0'/><address type='virtio-serial' controller='0' bus='0' port='1'/></channel>"
     "<input type='tablet' bus='usb'><alias name='input0'/><address type='usb' bus='0' port='1'/>"
     "</input><input type='mouse' bus='ps2'><alias name='input1'/></input><input type='keyboard'"
     " bus='ps2'><alias name='input2'/></input><graphics type='vnc' port='5900' autoport='yes'"
     " listen='127.0.0.1'><listen type='address' address='127.0.0.1'/></graphics>"
     "<audio id='1' type='none'/><video><model type='vga' vram='16384' heads='1' primary='yes'/>"
     "<alias name='video0'/><address type='pci' domain='0x0000' bus='0x00' slot='0x01'"
     " function='0x0'/></video><watchdog model='itco' action='reset'><alias name='watchdog0'/>"
     "</watchdog><memballoon model='none'/>"},
    {"maximum", "q35", "<cpu mode='maximum'/><clock offset='localtime'/>", ""},
    {"host_model", "q35", "<cpu mode='host-model'/><clock offset='variable' basis='utc'/>", ""},
    {"numa", "pc",
     "<vcpu>4</vcpu><cpu><numa><cell id='0' cpus='0,2' memory='32' unit='MiB'><distances>"
     "<sibling id='0' value='10'/><sibling id='1' value='21'/></distances></cell>"
     "<cell id='1' cpus='1,3' memory='32' unit='MiB' memAccess='shared'><distances>"
     "<sibling id='0' value='21'/><sibling id='1' value='10'/></distances></cell></numa></cpu>",
     ""},
    {"host_nodes", "pc",
     "<numatune><memory mode='strict' nodeset='0'/><memnode cellid='0' mode='preferred'"
     " nodeset='0'/></numatune><cpu><numa><cell id='0' cpus='0' memory='64' unit='MiB'/></numa></cpu>",
     ""},
    {"modules", "q35",
     "<maxMemory slots='4' unit='MiB'>512</maxMemory><vcpu>2</vcpu><memoryBacking>"
     "<access mode='shared'/></memoryBacking><features><acpi/></features><cpu><numa><cell id='0' cpus='0' memory='32' unit='MiB'/>"
     "<cell id='1' cpus='1' memory='32' unit='MiB'/></numa></cpu>",
     "<memory model='dimm' access='private'><target><size unit='MiB'>16</size><node>1</node></target>"
     "</memory><memory model='dimm'><source><nodemask>0</nodemask><pagesize unit='KiB'>4</pagesize>"
     "</source><target><size unit='MiB'>16</size></target><address type='dimm' slot='2'"
     " base='0x100000000'/></memory>"},
    {"streams", "q35", "",
     "<redirdev bus='usb' type='tcp'><source mode='bind' host='127.0.0.1' service='0'/><protocol"
     " type='raw'/></redirdev><serial type='tcp'><source mode='bind' host='127.0.0.1' service='0'/>"
     "<protocol type='telnet'/><target port='0'/></serial>"},
    {"memory", "pc",
     "<memoryBacking><nosharepages/><source type='memfd'/><access mode='shared'/>"
     "<allocation mode='immediate' threads='2'/></memoryBacking>",
     ""},
};

INSTANTIATE_TEST_SUITE_P(CommandLine, Starts, ::testing::ValuesIn(kCases),
                         [](const auto& given) { return std::string(given.param.name); });

// Direct boot, menus and boot orders: options without a JSON form.
TEST(CommandLineBoot, Starts) {
  if (!has_qemu())
    GTEST_SKIP() << "qemu-system-x86_64 is not installed";
  const TempDir dir;
  const std::string image = dir.file("a,b", 4096), medium = dir.file("c=d", 4096);
  const std::string xml =
      "<domain type='qemu'><name>boot</name><memory unit='MiB'>64</memory><os>"
      "<type machine='pc'>hvm</type><boot dev='cdrom'/><boot dev='hd'/><boot dev='network'/>"
      "<boot dev='fd'/><bootmenu enable='yes' timeout='3000'/><bios rebootTimeout='5'/></os><devices>"
      "<disk type='file'><source file='" +
      image +
      "'/><target dev='hda' bus='ide'/></disk>"
      "<disk type='file' device='cdrom'><source file='" +
      medium +
      "'/><target dev='hdc'/></disk>"
      "<disk type='file' device='floppy'><target dev='fda' bus='fdc'/></disk>"
      "<interface type='user'/></devices></domain>";
  auto d = domain::parse_complete(xml, "boot");
  ASSERT_TRUE(d) << d.error().what();
  Wiring wiring;
  wire_disks(*d, wiring);
  EXPECT_EQ(run_qemu(*d, wiring), "");
}

}  // namespace
}  // namespace tenure::qemu::test
