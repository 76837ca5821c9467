// SPDX-License-Identifier: Apache-2.0
// Devices that bring something of the host into the guest beside disks and networks: memory that is
// plugged, memory that is shared, USB and PCI devices. Plain values, as in device.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "domain/device.h"

namespace tenure::domain {

// <maxMemory slots=>: how far memory can grow by devices, and how many there can be.
struct MaxMemory {
  Place place;
  uint64_t kib = 0;
  uint32_t slots = 0;
};

// <memory model='dimm'>: a module of memory, from the start or plugged while the guest runs.
struct MemoryDevice {
  DeviceInfo info;                   // its address is AddressKind::Dimm
  uint64_t size_kib = 0;             // whole MiB after complete()
  std::optional<uint32_t> node;      // of the guest; complete() takes 0
  std::string access;                // shared, private; "" as memoryBacking says
  std::optional<uint64_t> page_kib;  // pages of the host; nullopt: as memoryBacking says
  std::string nodeset;               // nodes of the host: "0,2-3"; "" for any
};

enum class ShmemKind { Plain, Doorbell };

// <shmem>: a file of /dev/shm, or what a server of ivshmem hands out.
struct Shmem {
  DeviceInfo info;
  std::string name;
  ShmemKind kind = ShmemKind::Plain;
  uint64_t size_kib = 0;  // Plain
  std::string server;     // Doorbell: the server's socket
  std::optional<uint32_t> vectors;
  std::optional<bool> ioeventfd;
};

enum class HostdevKind { Usb, Pci, Mdev };

// <hostdev mode='subsystem'>: a device of the host, by vendor and product or by its place.
struct Hostdev {
  DeviceInfo info;
  HostdevKind kind = HostdevKind::Usb;
  bool managed = false;  // Pci: Tenure may bind it to vfio-pci, and gives it back
  std::optional<uint32_t> vendor, product;      // Usb
  std::optional<uint32_t> usb_bus, usb_device;  // Usb, of the host
  std::string host;                             // Pci: "0000:01:00.0"; Mdev: the uuid
  std::optional<bool> rom_bar;
};

// <filesystem> by virtiofs: a folder that a virtiofsd of the guest's own serves, or the socket of
// one that somebody else runs.
struct Filesystem {
  DeviceInfo info;
  std::string dir;                // "" if it is a socket
  std::string socket;             // "" if it is a folder
  std::string tag;                // by which the guest mounts it
  std::optional<uint32_t> queue;  // entries
  // Of a folder.
  bool readonly = false;
  std::string binary;   // "" for the host's virtiofsd
  std::string cache;    // none, always; "" for its default
  std::string sandbox;  // namespace, chroot; "" for its default
  std::optional<bool> xattr, posix_lock, flock;
  std::optional<uint32_t> threads;     // of its pool
  std::optional<uint32_t> open_files;  // RLIMIT_NOFILE
};

// "0000:01:00.0", the uuid of an mdev, "001.004" of a USB device, or "1d6b:0104" if only that is
// given.
std::string host_address(const Hostdev& hostdev);

}  // namespace tenure::domain
