// SPDX-License-Identifier: Apache-2.0
// A guest's definition: libvirt's domain XML as plain values. parse() turns text into a Domain and
// refuses, with line and column, everything that is not implemented; complete() adds what the
// definition leaves to us (controllers, addresses, aliases, default models). Pure: no system call,
// nothing of the host is looked at. All functions are thread-safe (no state).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/uuid.h"
#include "domain/device.h"
#include "domain/host_device.h"

namespace tenure::domain {

inline constexpr size_t kMaxXml = 4U << 20U;    // bytes of a definition
inline constexpr size_t kMaxDepth = 256;        // nested elements
inline constexpr size_t kMaxElements = 20'000;  // elements of a definition
inline constexpr size_t kMaxName = 255;         // bytes of a guest's name
inline constexpr uint32_t kMaxVcpus = 4096;

struct Loader {
  Place place;
  std::string path;
  std::string type;  // rom, pflash
  bool readonly = true;
  bool secure = false;
  bool stateless = false;
};

struct Nvram {
  Place place;
  std::string path;  // complete file; a missing one is the daemon's business, made from `templ`
  std::string templ;
  std::string format = "raw";
};

struct Os {
  std::string arch = "x86_64";
  std::string machine = "pc";             // as given: "pc", "q35", "pc-q35-7.2"
  std::vector<std::string> boot_devices;  // hd, cdrom, network, fd
  std::optional<bool> boot_menu;
  std::optional<uint32_t> boot_menu_timeout_ms;
  std::optional<uint32_t> reboot_timeout_ms;  // <bios rebootTimeout=/>; nullopt also for -1
  std::string kernel, initrd, cmdline;
  std::optional<Loader> loader;
  std::optional<Nvram> nvram;
};

struct Feature {
  std::string name;   // "acpi", "apic", "hyperv.relaxed", "kvm.hidden", "smm", "ioapic" …
  std::string state;  // on, off; or the driver, for ioapic
  std::string value;  // retries of spinlocks, value of vendor_id, …
  Place place;
};

struct CpuFeature {
  std::string name;
  std::string policy;  // force, require, optional, disable, forbid
};

struct NumaCell {
  Place place;
  uint32_t id = 0;
  std::string cpus;  // "0-3,8"; "" for none
  uint64_t memory_kib = 0;
  std::string access;  // shared, private; "" as memoryBacking says
  std::vector<std::pair<uint32_t, uint32_t>> distances;  // to cell, 10 … 255
};

struct Cpu {
  Place place;
  std::string mode;  // custom, host-model, host-passthrough, maximum; "" if <cpu> names no CPU
  std::string model;
  std::string vendor_id;
  std::string check;  // none, partial, full
  std::optional<bool> migratable;
  std::vector<CpuFeature> features;
  std::optional<uint32_t> sockets, dies, cores, threads;  // all four or none
  std::string cache_mode;                                 // passthrough, emulate, disable
  std::optional<uint32_t> cache_level;
  std::string physaddr_mode;  // passthrough, emulate
  std::optional<uint32_t> physaddr_bits;
  std::vector<NumaCell> cells;
};

struct Timer {
  std::string name;  // rtc, pit, hpet, kvmclock, hypervclock, tsc
  std::optional<bool> present;
  std::string tickpolicy;
  std::string track;
  std::optional<uint64_t> frequency_hz;
  Place place;
};

struct Clock {
  std::string offset = "utc";  // utc, localtime, absolute, variable
  int64_t start_s = 0;         // absolute: seconds since 1970
  int64_t adjustment_s = 0;    // variable
  std::string basis = "utc";   // variable: utc, localtime
  std::vector<Timer> timers;
};

struct MemoryBacking {
  struct Page {
    uint64_t size_kib = 0;
    std::string nodeset;  // guest cells; "" for all
  };
  bool hugepages = false;
  std::vector<Page> pages;  // empty with hugepages: the host's default size
  bool locked = false;
  bool nosharepages = false;
  bool discard = false;
  std::string source;      // anonymous, memfd
  std::string access;      // shared, private
  std::string allocation;  // immediate, ondemand
  std::optional<uint32_t> allocation_threads;
};

// On which nodes of the host the guest's memory lies.
struct NumaPolicy {
  std::string mode;     // strict, preferred, interleave
  std::string nodeset;  // of the host: "0,2-3"
};

struct Numatune {
  Place place;
  std::optional<NumaPolicy> memory;                    // for all
  std::vector<std::pair<uint32_t, NumaPolicy>> cells;  // by cell, before `memory`
};

struct Events {
  std::string on_poweroff = "destroy";
  std::string on_reboot = "restart";  // restart, destroy
  std::string on_crash = "destroy";   // destroy, preserve, restart
};

struct Domain {
  std::string source_xml;   // the text that was parsed, unchanged
  std::string source_name;  // of parse(), for messages
  Place place;
  bool kvm = false;           // type='kvm'; else 'qemu' (TCG)
  std::optional<int64_t> id;  // of a dump of a running guest; means nothing here
  std::string name;
  Uuid uuid;  // nil until the daemon gives one, if the definition has none
  bool has_uuid = false;
  std::string title, description;
  std::string metadata;     // the element's own text
  uint64_t memory_kib = 0;  // what the guest has at most, without memory devices
  uint64_t current_memory_kib = 0;
  std::optional<MaxMemory> max_memory;
  std::optional<bool> dump_core;
  uint32_t vcpus = 1;          // at most
  uint32_t current_vcpus = 1;  // at boot
  uint32_t iothreads = 0;
  std::string genid;  // uuid text; "generate" if it is ours to make
  MemoryBacking memory_backing;
  std::optional<Numatune> numatune;
  Os os;
  std::vector<Feature> features;
  std::optional<Cpu> cpu;
  Clock clock;
  Events events;
  std::optional<bool> suspend_to_mem, suspend_to_disk;
  std::string emulator;  // absolute; complete() gives /usr/bin/qemu-system-x86_64
  std::vector<Controller> controllers;
  std::vector<Disk> disks;
  std::vector<Interface> interfaces;
  std::vector<Chardev> chardevs;
  std::vector<Input> inputs;
  std::vector<Sound> sounds;
  std::vector<Audio> audios;
  std::vector<Graphics> graphics;
  std::vector<Video> videos;
  std::optional<Memballoon> memballoon;
  std::vector<Rng> rngs;
  std::vector<Watchdog> watchdogs;
  std::vector<Panic> panics;
  std::optional<Iommu> iommu;
  std::vector<MemoryDevice> memories;
  std::vector<Shmem> shmems;
  std::vector<Hostdev> hostdevs;
  std::vector<Filesystem> filesystems;
};

// Reads a definition. `source_name` (a file's name) leads each message:
// "web1.xml:12:7: <hostdev>: not implemented". Errors: Invalid (not well-formed, out of bounds, a
// value that means nothing, a DOCTYPE), Unsupported (an element, attribute or value that Tenure
// does not implement). No default of complete() is filled in.
Result<Domain> parse(std::string_view xml, std::string_view source_name);

// Adds, as libvirt does after parsing, what the definition leaves open: the machine's own
// controllers, controllers that devices need, default models, aliases, MAC addresses, and addresses
// in the order in which libvirt hands them out. Given addresses are kept. Invalid if two devices
// claim one address, alias or target, or an address names a controller or slot that cannot hold the
// device; then `domain` is half complete and of no use.
Result<> complete(Domain& domain);

// Both.
Result<Domain> parse_complete(std::string_view xml, std::string_view source_name);

bool is_q35(const Domain& domain);

// With all memory devices.
uint64_t total_memory_kib(const Domain& domain);
// Whether it has a memory balloon.
bool has_balloon(const Domain& domain);

}  // namespace tenure::domain
