// SPDX-License-Identifier: Apache-2.0
// The small devices: input, balloon, random numbers, watchdog, panic notifier, generation id.
#include "qemu/command_line_parts.h"

namespace tenure::qemu {
namespace {

using domain::Input;
using domain::Rng;

constexpr uint32_t kPvpanicPort = 0x505;  // docs/specs/pvpanic of QEMU

// No device of the guest: an object that feeds the guest's own keyboard and mouse.
void add_evdev(Builder& b, const Input& input) {
  Json object("qom-type", "input-linux");
  object.text("id", input.info.alias).text("evdev", input.evdev).maybe("repeat", input.repeat);
  if (input.grab_all)
    object.flag("grab_all", true);
  b.object(object.maybe("grab-toggle", input.grab_toggle));
}

void add_input(Builder& b, const Input& input) {
  if (input.type == "evdev")
    return add_evdev(b, input);
  if (input.bus == "ps2")
    return;  // part of every PC: the keyboard controller has both
  const bool usb = input.bus == "usb";
  const std::string kind = usb && input.type == "keyboard" ? "kbd" : input.type;
  Json json("driver", input.type == "passthrough" ? "virtio-input-host-pci"
                      : usb                       ? "usb-" + kind
                                                  : "virtio-" + kind + "-pci");
  json.maybe("evdev", input.evdev);
  Builder::virtio(json, input.info.virtio);
  b.place(json, input.info);
  b.device(json);
}

void add_rng(Builder& b, const Rng& rng) {
  const std::string id = "obj" + rng.info.alias;
  Json object("qom-type", rng.backend == "random" ? "rng-random" : "rng-builtin");
  b.object(object.text("id", id).maybe("filename", rng.path));
  Json json("driver", Builder::virtio_name("virtio-rng", rng.model));
  json.text("rng", id).maybe("max-bytes", rng.rate_bytes);
  // QEMU limits to max-bytes a period; libvirt's default period is one second.
  if (rng.rate_bytes)
    json.number("period", rng.rate_period_ms.value_or(1000));
  Builder::virtio(json, rng.info.virtio);
  b.place(json, rng.info);
  b.device(json);
}

void add_balloon(Builder& b) {
  const auto& balloon = b.domain().memballoon;
  if (!balloon || balloon->model == "none")
    return;
  Json json("driver", Builder::virtio_name("virtio-balloon", balloon->model));
  json.maybe("deflate-on-oom", balloon->autodeflate)
      .maybe("free-page-reporting", balloon->free_page_reporting);
  Builder::virtio(json, balloon->info.virtio);
  b.place(json, balloon->info);
  b.device(json);
}

void add_watchdog(Builder& b, const domain::Watchdog& w) {
  if (w.model == "itco") {
    b.add("-global", "ICH9-LPC.noreboot=off");  // part of q35
    return;
  }
  Json json("driver", w.model);
  b.place(json, w.info);
  b.device(json);
}

void add_panic(Builder& b, const domain::Panic& panic) {
  if (panic.model == "hyperv")
    return;  // a CPU flag
  Json json("driver", panic.model == "isa" ? "pvpanic" : "pvpanic-pci");
  if (panic.model == "isa") {
    json.number("ioport", panic.info.address.iobase.value_or(kPvpanicPort));
  } else {
    b.place(json, panic.info);
  }
  b.device(json);
}

}  // namespace

Result<> add_inputs(Builder& b) {
  for (const Input& input : b.domain().inputs) add_input(b, input);
  return {};
}

void add_rngs(Builder& b) {
  for (const Rng& rng : b.domain().rngs) add_rng(b, rng);
}

void add_watchdogs(Builder& b) {
  for (const domain::Watchdog& w : b.domain().watchdogs) add_watchdog(b, w);
}

Result<> add_small_devices(Builder& b) {
  const domain::Domain& d = b.domain();
  add_balloon(b);
  add_rngs(b);
  add_watchdogs(b);
  for (const domain::Panic& panic : d.panics) add_panic(b, panic);
  if (!d.genid.empty()) {
    b.device(Json("driver", "vmgenid").text("guid", d.genid == "generate" ? "auto" : d.genid));
  }
  return {};
}

}  // namespace tenure::qemu
