// SPDX-License-Identifier: Apache-2.0
// <devices>: which elements there are, and the parsers of the small ones. An element that no row of
// the table names stays unconsumed and is refused by the sweep.
#include <algorithm>
#include <array>

#include "base/text.h"
#include "domain/parse.h"

namespace tenure::domain {
namespace {

// A device of the host whose events QEMU takes for its own keyboard and mouse; the guest sees
// nothing of it.
Input parse_evdev(const Element& e, Input input) {
  if (auto source = e.child("source")) {
    input.evdev = source->path("dev");
    input.grab_all = source->choice("grab", {"all"}) == "all";
    input.repeat = source->flag("repeat");
    input.grab_toggle = source->choice(
        "grabToggle",
        {"ctrl-ctrl", "alt-alt", "shift-shift", "meta-meta", "scrolllock", "ctrl-scrolllock"});
  }
  if (input.evdev.empty())
    e.invalid("<source dev=> is missing");
  return input;
}

Input parse_input(const Element& e) {
  Input input{.info = parse_info(e)};
  input.type = e.choice("type", {"mouse", "keyboard", "tablet", "passthrough", "evdev"});
  if (input.type == "evdev")
    return parse_evdev(e, std::move(input));
  input.bus = e.choice("bus", {"ps2", "usb", "virtio"});
  if (input.bus.empty()) {
    input.bus = input.type == "tablet" ? "usb" : input.type == "passthrough" ? "virtio" : "ps2";
  }
  input.model = e.choice("model", {"virtio"});
  if (auto driver = e.child("driver")) {
    input.info.virtio = parse_virtio(*driver);
    if (input.bus != "virtio")
      driver->invalid("options of virtio on another bus");
  }
  if (input.type == "passthrough") {
    if (auto source = e.child("source"))
      input.evdev = source->path("evdev");
    if (input.evdev.empty())
      e.invalid("<source evdev=> is missing");
    if (input.bus != "virtio")
      e.invalid("passthrough is on bus virtio");
  }
  if (input.bus == "ps2" && input.type == "tablet")
    e.invalid("a tablet is on usb or virtio");
  return input;
}

Memballoon parse_memballoon(const Element& e) {
  Memballoon balloon{.info = parse_info(e)};
  balloon.model =
      e.choice("model", {"virtio", "virtio-transitional", "virtio-non-transitional", "none"});
  if (balloon.model.empty())
    e.invalid("attribute 'model' is missing");
  balloon.autodeflate = e.flag("autodeflate");
  balloon.free_page_reporting = e.flag("freePageReporting");
  if (auto driver = e.child("driver"))
    balloon.info.virtio = parse_virtio(*driver);
  if (auto stats = e.child("stats")) {
    balloon.stats_period_s = stats->number<uint32_t>("period", 0, 86400);
    if (balloon.stats_period_s.value_or(0) > 0)
      stats->unsupported("statistics are not implemented");
  }
  return balloon;
}

Rng parse_rng(const Element& e) {
  Rng rng{.info = parse_info(e)};
  rng.model = e.choice("model", {"virtio", "virtio-transitional", "virtio-non-transitional"});
  if (rng.model.empty())
    e.invalid("attribute 'model' is missing");
  if (auto driver = e.child("driver"))
    rng.info.virtio = parse_virtio(*driver);
  if (auto rate = e.child("rate")) {
    rng.rate_bytes = rate->number<uint32_t>("bytes", 1, 1U << 30U);
    rng.rate_period_ms = rate->number<uint32_t>("period", 1, 1U << 30U);
    if (!rng.rate_bytes)
      rate->invalid("attribute 'bytes' is missing");
  }
  if (auto backend = e.child("backend")) {
    rng.backend = backend->choice("model", {"random", "builtin"});
    if (rng.backend == "random") {
      rng.path = backend->text();
      if (rng.path.empty())
        rng.path = "/dev/random";
      if (rng.path.front() != '/')
        backend->invalid("not an absolute path");
    }
  }
  if (rng.backend.empty())
    e.invalid("<backend model=> is missing");
  return rng;
}

Watchdog parse_watchdog(const Element& e) {
  Watchdog w{.info = parse_info(e)};
  w.model = e.choice("model", {"i6300esb", "ib700", "itco"});
  w.action = e.choice("action", {"reset", "shutdown", "poweroff", "pause", "none", "inject-nmi"});
  if (w.action.empty())
    w.action = "reset";
  return w;
}

Panic parse_panic(const Element& e) {
  Panic panic{.info = parse_info(e)};
  panic.model = e.choice("model", {"isa", "pvpanic", "hyperv"});
  return panic;
}

Iommu parse_iommu(const Element& e) {
  Iommu iommu{.info = parse_info(e)};
  iommu.model = e.choice("model", {"intel"});
  if (auto driver = e.child("driver")) {
    iommu.intremap = driver->flag("intremap");
    iommu.caching_mode = driver->flag("caching_mode");
    iommu.eim = driver->flag("eim");
    iommu.iotlb = driver->flag("iotlb");
    iommu.aw_bits = driver->number<uint32_t>("aw_bits", 39, 48);
  }
  return iommu;
}

template <auto Parse, auto Member>
void append(const Element& e, Domain& d) {
  (d.*Member).push_back(Parse(e));
}

template <ChardevRole Role>
void append_chardev(const Element& e, Domain& d) {
  d.chardevs.push_back(parse_chardev(e, Role));
}

template <auto Parse, auto Member>
void only_one(const Element& e, Domain& d) {
  if ((d.*Member).has_value())
    e.invalid("given twice");
  (d.*Member) = Parse(e);
}

void parse_emulator(const Element& e, Domain& d) {
  if (!d.emulator.empty())
    e.invalid("given twice");
  d.emulator = e.exact_text(4095);
  if (!d.emulator.starts_with('/'))
    e.invalid("not an absolute path");
}

struct DeviceParser {
  const char* name;
  void (*parse)(const Element&, Domain&);
};
constexpr std::array<DeviceParser, 23> kDevices = {{
    {"emulator", parse_emulator},
    {"controller", append<parse_controller, &Domain::controllers>},
    {"disk", append<parse_disk, &Domain::disks>},
    {"interface", append<parse_interface, &Domain::interfaces>},
    {"serial", append_chardev<ChardevRole::Serial>},
    {"parallel", append_chardev<ChardevRole::Parallel>},
    {"console", append_chardev<ChardevRole::Console>},
    {"channel", append_chardev<ChardevRole::Channel>},
    {"input", append<parse_input, &Domain::inputs>},
    {"sound", append<parse_sound, &Domain::sounds>},
    {"audio", append<parse_audio, &Domain::audios>},
    {"graphics", append<parse_graphics, &Domain::graphics>},
    {"video", append<parse_video, &Domain::videos>},
    {"memballoon", only_one<parse_memballoon, &Domain::memballoon>},
    {"rng", append<parse_rng, &Domain::rngs>},
    {"watchdog", append<parse_watchdog, &Domain::watchdogs>},
    {"panic", append<parse_panic, &Domain::panics>},
    {"iommu", only_one<parse_iommu, &Domain::iommu>},
    {"memory", append<parse_memory_device, &Domain::memories>},
    {"shmem", append<parse_shmem, &Domain::shmems>},
    {"hostdev", append<parse_hostdev, &Domain::hostdevs>},
    {"filesystem", append<parse_filesystem, &Domain::filesystems>},
    {"redirdev", append_chardev<ChardevRole::Redir>},
}};

}  // namespace

void parse_devices(const Element& e, Domain& domain) {
  for (const DeviceParser& device : kDevices) {
    for (const Element& child : e.children(device.name)) device.parse(child, domain);
  }
}

void parse_device(const Element& e, Domain& domain) {
  const auto device = std::ranges::find(kDevices, e.name(), &DeviceParser::name);
  if (device == kDevices.end())
    return e.unsupported("not implemented as a device");
  device->parse(e, domain);
}

}  // namespace tenure::domain
