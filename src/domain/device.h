// SPDX-License-Identifier: Apache-2.0
// The devices of a guest as its definition describes them: plain values, no behaviour. Words and
// spellings of the values (model names, cache modes …) are libvirt's; a field that is "" or nullopt
// was not given and has no default of its own.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tenure::domain {

// Where an element starts in the definition's text; both count from 1, columns in bytes.
struct Place {
  uint32_t line = 0;
  uint32_t column = 0;
};

enum class AddressKind { None, Pci, Drive, VirtioSerial, Usb, Isa, Dimm };

// Where a device sits in the guest. `controller` is the index of the controller: a PCI bus number
// is the index of the pci controller that makes it.
struct Address {
  AddressKind kind = AddressKind::None;
  uint32_t controller = 0;
  uint32_t bus = 0;                     // Drive, VirtioSerial
  uint32_t target = 0;                  // Drive
  uint32_t unit = 0;                    // Drive
  uint32_t slot = 0, function = 0;      // Pci; slot of Dimm
  std::optional<bool> multifunction;    // Pci
  uint32_t port = 0;                    // VirtioSerial
  std::string usb_port;                 // Usb: "1.2"; "" if only the bus is given
  std::optional<uint32_t> iobase, irq;  // Isa
  std::optional<uint64_t> base;         // Dimm: guest address of its first byte

  bool operator==(const Address&) const = default;
};

// <driver iommu= ats= packed= page_per_vq=/> of any virtio device.
struct VirtioOptions {
  std::optional<bool> iommu, ats, packed, page_per_vq;

  bool operator==(const VirtioOptions&) const = default;
};

// What every device has. complete() fills alias and address.
struct DeviceInfo {
  std::string alias;  // libvirt's: "virtio-disk0", "net0", "serial0"; or a given one, "ua-…"
  Place place;
  Address address;
  std::optional<uint32_t> boot_order;  // from 1
  VirtioOptions virtio;
};

enum class SourceKind { File, Block };

// A member below the top of a disk's chain, as the definition states it (images say it themselves
// too).
struct BackingStore {
  SourceKind kind = SourceKind::File;
  std::string path;
  std::string format;
  std::optional<uint64_t> metadata_cache_bytes;
  Place place;
};

struct DiskGeometry {
  uint32_t cylinders = 0, heads = 0, sectors = 0;
  std::string translation;  // none, lba, auto; "" if not given

  bool operator==(const DiskGeometry&) const = default;
};

struct Disk {
  DeviceInfo info;
  SourceKind kind = SourceKind::File;
  std::string path;             // "" for an empty cdrom or floppy drive
  std::string device = "disk";  // disk, cdrom, floppy
  std::string bus;              // virtio, scsi, sata, ide, usb, fdc
  std::string target;           // vda, sdb, hdc, fda …
  std::string format = "raw";   // driver type; a missing one is raw, never guessed
  std::string model;            // virtio: virtio, virtio-transitional, virtio-non-transitional
  bool readonly = false;        // also set for every cdrom
  bool shareable = false;
  bool tray_open = false;
  std::string serial, wwn, vendor, product;
  std::string cache;          // none, writeback, writethrough, directsync, unsafe
  std::string io;             // threads, native, io_uring
  std::string discard;        // unmap, ignore
  std::string detect_zeroes;  // off, on, unmap
  std::string error_policy;   // stop, report, ignore, enospace
  std::string rerror_policy;
  std::optional<bool> copy_on_read, ioeventfd, event_idx;
  std::optional<uint32_t> queues, queue_size, iothread;
  std::optional<uint64_t> metadata_cache_bytes;  // qcow2 cache of the top
  std::optional<bool> removable;                 // usb
  std::optional<uint32_t> rotation_rate;         // rpm; 1 is an SSD
  std::optional<uint32_t> logical_block_bytes, physical_block_bytes;
  std::optional<DiskGeometry> geometry;
  // Below the top, outermost first. nullopt: not stated; empty: stated that there is none.
  std::optional<std::vector<BackingStore>> backing;
};

// Controllers that QEMU's machine brings along (pci-root, the PIIX IDE …) are listed too, as
// libvirt does.
struct Controller {
  DeviceInfo info;
  std::string type;  // pci, usb, sata, ide, scsi, virtio-serial, fdc
  uint32_t index = 0;
  std::string model;           // "pcie-root-port", "qemu-xhci", "virtio-scsi" …
  std::string pci_model_name;  // <model name=/>: the QEMU device, e.g. "ioh3420"
  std::optional<uint32_t> chassis, port, chassis_nr, bus_nr, numa_node;  // <target/> of pci
  std::optional<bool> hotplug;
  std::optional<uint32_t> ports;    // usb, virtio-serial
  std::optional<uint32_t> vectors;  // virtio-serial
  std::optional<uint32_t>
      master_port;  // <master startport=/>: companion of the ehci with this index
  std::optional<uint32_t> queues, cmd_per_lun, max_sectors, iothread;  // virtio-scsi
  std::optional<bool> ioeventfd;
  std::optional<uint64_t> pcihole64_kib;
};

enum class InterfaceKind { User, Bridge, Ethernet, Direct };

struct Interface {
  DeviceInfo info;
  InterfaceKind kind = InterfaceKind::User;
  std::string mac;     // lower case; complete() makes one up from the guest's uuid if there is none
  std::string model;   // virtio, e1000, rtl8139 …
  std::string bridge;  // Bridge: source bridge
  std::string lower;   // Direct: source dev
  std::string mode;    // Direct: vepa, bridge, private, passthrough
  std::string
      target;  // wanted name on the host; "" or vnetN/macvtapN of an earlier run: ours to choose
  bool target_managed = true;  // Ethernet: managed='no' means the device exists already
  std::string backend;         // <driver name=>: vhost, qemu; "" as available
  std::optional<uint32_t> queues, rx_queue_size, tx_queue_size, mtu;
  std::optional<bool> ioeventfd, event_idx;
  std::optional<bool> rom_bar;
  std::optional<bool> rom_enabled;
  std::optional<bool> link_up;  // <link state=/>; a link is up if it is not given
};

enum class ChardevRole { Serial, Parallel, Console, Channel, Redir };
enum class ChardevKind { Pty, Unix, File, Null, Dev, Tcp };

// <serial>, <parallel>, <console>, <channel> and <redirdev> (USB devices from afar). The first
// serial console is the serial port itself and is not listed.
struct Chardev {
  DeviceInfo info;
  ChardevRole role = ChardevRole::Serial;
  ChardevKind kind = ChardevKind::Pty;
  std::string path;           // Unix, File, Dev. A channel's missing Unix path is made at run time
  bool listen = false;        // Unix, Tcp: mode='bind'
  std::string host, service;  // Tcp
  bool telnet = false;        // Tcp
  bool append = false;        // File
  std::string target_type;    // serial: isa-serial, pci-serial, usb-serial, isa-debug; console,
                              // channel: virtio
  std::string target_model;   // isa-serial, pci-serial, isa-debugcon …
  std::optional<uint32_t> port;
  std::string name;  // channel: "org.qemu.guest_agent.0"
};

struct Input {
  DeviceInfo info;
  std::string type;   // mouse, keyboard, tablet, passthrough, evdev
  std::string bus;    // ps2, usb, virtio; "" of evdev, which has none
  std::string evdev;  // passthrough, evdev: the host's /dev/input/eventN
  std::string model;
  std::optional<bool> repeat;  // evdev
  bool grab_all = false;       // evdev: what it grabs, all others grab with it
  std::string grab_toggle;     // evdev: "ctrl-ctrl", "alt-alt" …
};

struct Sound {
  DeviceInfo info;
  std::string model;                // ich6, ich9, ac97, es1370, sb16, usb, pcspk
  std::vector<std::string> codecs;  // duplex, micro, output
  std::optional<uint32_t> audio;    // id of the backend
};

// One direction of an audio backend.
struct AudioStream {
  std::optional<bool> mixing_engine, fixed_settings;
  std::optional<uint32_t> voices, buffer_length_us, frequency_hz, channels;
  std::string format;  // s16, f32 …
  std::string dev;     // of alsa and oss
};

// Where sound goes on the host. alsa and oss open character devices of the sound major.
struct Audio {
  Place place;
  uint32_t id = 0;
  std::string type;  // none, alsa, oss
  std::optional<uint32_t> timer_period_us;
  AudioStream input, output;
};

struct Graphics {
  Place place;
  std::string type;     // vnc
  std::string address;  // of listen type='address'; "" is 127.0.0.1
  std::string socket;   // of listen type='socket'
  bool listen_none = false;
  bool autoport = true;
  std::optional<uint32_t> port, websocket;  // TCP ports; -1 in the definition is "not given"
  std::string share_policy, keymap;
  std::optional<uint32_t> audio;
};

struct Video {
  DeviceInfo info;
  std::string model;  // vga, cirrus, qxl, virtio, bochs, ramfb, none
  bool primary = false;
  std::optional<uint32_t> ram_kib, vram_kib, vram64_kib, vgamem_kib, heads;
  std::optional<uint32_t> width, height;
  std::optional<bool> blob;
};

struct Memballoon {
  DeviceInfo info;
  std::string model;  // virtio, virtio-transitional, virtio-non-transitional, none
  std::optional<bool> autodeflate, free_page_reporting;
  std::optional<uint32_t> stats_period_s;
};

struct Rng {
  DeviceInfo info;
  std::string model;
  std::string backend;  // random, builtin
  std::string path;     // random: "/dev/urandom"
  std::optional<uint32_t> rate_bytes, rate_period_ms;
};

struct Watchdog {
  DeviceInfo info;
  std::string model;   // i6300esb, ib700, itco, diag288
  std::string action;  // reset, shutdown, poweroff, pause, none, dump, inject-nmi
};

struct Panic {
  DeviceInfo info;
  std::string model;  // isa, pvpanic, hyperv
};

struct Iommu {
  DeviceInfo info;
  std::string model;  // intel
  std::optional<bool> intremap, caching_mode, eim, iotlb;
  std::optional<uint32_t> aw_bits;
};

}  // namespace tenure::domain
