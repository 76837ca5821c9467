// SPDX-License-Identifier: Apache-2.0
// PCI addresses. Given ones are reserved first; the rest are handed out in libvirt's order
// (qemuDomainAssignDevicePCISlots), on a conventional bus or a PCI Express port as the device wants
// it, and ports or bridges are added while there is no room. QEMU's own slots are kept: 00:01 of
// i440fx (ISA, IDE, USB, power management), 00:1f of q35 (ISA, SATA, SMBus).
#include <algorithm>
#include <array>
#include <bit>
#include <deque>
#include <functional>
#include <map>
#include <vector>

#include "domain/complete.h"

namespace tenure::domain {
namespace {

constexpr uint32_t kMaxBuses = 256;
constexpr uint32_t kSlots = 32;

// What a device can be plugged into.
enum class Plug { Conventional, Express, RootPort, Upstream, Downstream, Dmi, Expander };

struct BusKind {
  std::string_view model;  // of the controller
  Plug accepts;            // what is put here unasked
  uint32_t first_slot, last_slot;
};
constexpr std::array<BusKind, 9> kBusKinds = {{
    {"pci-root", Plug::Conventional, 1, 31},
    {"pci-bridge", Plug::Conventional, 1, 31},
    {"pcie-to-pci-bridge", Plug::Conventional, 1, 31},
    {"dmi-to-pci-bridge", Plug::Dmi, 0, 31},  // cannot hotplug: only what is addressed
    {"pcie-root", Plug::RootPort, 1, 31},
    {"pcie-root-port", Plug::Express, 0, 0},
    {"pcie-switch-downstream-port", Plug::Express, 0, 0},
    {"pcie-switch-upstream-port", Plug::Downstream, 0, 31},
    {"pcie-expander-bus", Plug::Expander, 0, 31},
}};

struct Bus {
  const BusKind* kind = nullptr;
  std::array<uint8_t, kSlots> used{};     // a bit a function
  std::array<bool, kSlots> ports_only{};  // only root ports of ours: their functions share a slot
};

struct PciDevice {
  DeviceInfo* info;
  Plug plug;
  const char* what;
  Controller* ich9 = nullptr;
};

// A transitional device has an I/O BAR, which a PCI Express port may not have room for.
Plug virtio(const Domain& d, std::string_view model) {
  return is_q35(d) && model != "virtio-transitional" ? Plug::Express : Plug::Conventional;
}

Plug plug_of(const Domain& d, const Controller& c) {
  if (c.type == "usb") {
    return is_q35(d) && c.model.ends_with("xhci") ? Plug::Express : Plug::Conventional;
  }
  if (c.model.starts_with("virtio") || c.type == "virtio-serial")
    return virtio(d, c.model);
  if (c.model == "pcie-root-port")
    return Plug::RootPort;
  if (c.model == "pcie-switch-upstream-port")
    return Plug::Upstream;
  if (c.model == "pcie-switch-downstream-port")
    return Plug::Downstream;
  if (c.model == "pcie-to-pci-bridge")
    return Plug::Express;
  if (c.model == "dmi-to-pci-bridge")
    return Plug::Dmi;
  if (c.model == "pcie-expander-bus")
    return Plug::Expander;
  return Plug::Conventional;
}

bool is_pci_model(const Sound& s) {
  return s.model != "sb16" && s.model != "usb";
}

bool is_root(const Controller& c) {
  return c.model == "pci-root" || c.model == "pcie-root";
}

bool is_ich9_usb(const Controller& c) {
  return c.type == "usb" && c.model.starts_with("ich9-");
}

uint32_t ich9_function(std::string_view model) {
  return model == "ich9-uhci1" ? 0 : model == "ich9-uhci2" ? 1 : model == "ich9-uhci3" ? 2 : 7;
}

class Allocator {
 public:
  explicit Allocator(Domain& d) : d_(d), buses_(kMaxBuses) {}

  Result<> run() {
    for (const Controller& c : d_.controllers) {
      if (c.type == "pci")
        TRY_OK(add_bus(c));
    }
    given_ports_ = std::ranges::any_of(
        d_.controllers, [](const Controller& c) { return c.type == "pci" && c.index > 0; });
    TRY_OK(place_fixed());
    for (const PciDevice& dev : devices()) {
      if (dev.info->address.kind == AddressKind::Pci)
        TRY_OK(reserve(*dev.info, dev.what));
    }
    TRY_OK(place_open());
    TRY_OK(place_spare());
    for (Controller& c : added_) d_.controllers.push_back(std::move(c));
    added_.clear();
    set_multifunction();
    return {};
  }

 private:
  Result<> add_bus(const Controller& c) {
    const auto kind = std::ranges::find(kBusKinds, c.model, &BusKind::model);
    if (kind == kBusKinds.end() || c.index >= kMaxBuses) {
      return fail(error_at(d_, c.info.place, "<controller>: no such PCI bus"));
    }
    buses_[c.index].kind = &*kind;
    return {};
  }

  // QEMU's own devices, and those that have a place by custom.
  Result<> place_fixed() {
    Bus& root = buses_[0];
    const bool q35 = is_q35(d_);
    if (q35) {
      root.used.at(31) = 0b1001;  // ISA bridge, SMBus
      if (Controller* sata = find_controller(d_, "sata", 0))
        TRY_OK(fix(sata->info, 31, 2, "sata"));
    } else {
      root.used.at(1) = 0b1001;  // ISA bridge, power management
      if (Controller* ide = find_controller(d_, "ide", 0)) {
        TRY_OK(fix(ide->info, 1, 1, "ide"));
      } else {
        root.used.at(1) |= 0b10;
      }
      place_piix_usb();
      root.used.at(1) |= 0b11110000;
    }
    for (Video& v : d_.videos) {
      if (!v.primary || v.model == "ramfb" || v.info.address.kind != AddressKind::None)
        continue;
      const uint32_t slot = q35 ? 1 : 2;
      if (!is_given(slot))
        v.info.address = {.kind = AddressKind::Pci, .slot = slot};
    }
    return {};
  }

  // The PIIX3 chip has a UHCI in function 2; libvirt puts the first one there.
  void place_piix_usb() {
    Controller* usb = find_controller(d_, "usb", 0);
    if (usb == nullptr || usb->model != "piix3-uhci")
      return;
    if (usb->info.address.kind != AddressKind::None)
      return;
    usb->info.address = {.kind = AddressKind::Pci, .slot = 1, .function = 2};
  }

  // A device of the machine itself: it is there and nowhere else.
  Result<> fix(DeviceInfo& info, uint32_t slot, uint32_t function, const char* what) {
    const Address at{.kind = AddressKind::Pci, .slot = slot, .function = function};
    const Address& a = info.address;
    const bool other =
        a.kind != AddressKind::None && (a.kind != AddressKind::Pci || a.controller != 0 ||
                                        a.slot != slot || a.function != function);
    if (other) {
      return fail(error_at(
          d_, info.place,
          std::string("<controller>: the machine's own ") + what + " is at another address"));
    }
    info.address = at;
    return {};
  }

  // True if the definition puts something into this slot of the root bus.
  bool is_given(uint32_t slot) {
    return std::ranges::any_of(devices(), [&](const PciDevice& dev) {
      const Address& a = dev.info->address;
      return a.kind == AddressKind::Pci && a.controller == 0 && a.slot == slot;
    });
  }

  Result<> reserve(const DeviceInfo& info, const char* what) {
    const Address& a = info.address;
    const auto wrong = [&](std::string_view why) -> Result<> {
      return fail(error_at(d_, info.place, std::string(what) + ": " + std::string(why)));
    };
    Bus& bus = buses_.at(a.controller);
    if (bus.kind == nullptr)
      return wrong("no PCI controller has this bus");
    // Integrated devices may be in slot 0 of no root, but in any slot of a bridge that has one.
    if (a.slot < bus.kind->first_slot || a.slot > bus.kind->last_slot) {
      return wrong("its bus has no such slot");
    }
    const auto bit = static_cast<uint8_t>(1U << a.function);
    if ((bus.used.at(a.slot) & bit) != 0)
      return wrong("its PCI address is taken");
    bus.used.at(a.slot) |= bit;
    bus.ports_only.at(a.slot) = false;
    return {};
  }

  Result<> place(DeviceInfo& info, Plug plug, const char* what) {
    if (plug == Plug::RootPort)
      return place_port(info);
    TRY_OK(keep_room_for_bridge(plug));
    return place_now(info, plug, what);
  }

  Result<> place_now(DeviceInfo& info, Plug plug, const char* what) {
    if (std::optional<Address> address = find_slot(accepting(plug))) {
      info.address = *address;
      mark(info.address);
      return {};
    }
    TRY_OK(make_room(plug, info, what));
    return place_now(info, plug, what);
  }

  // The four parts of an ICH9's USB 2 are functions of one slot.
  Result<> place_ich9(Controller& c) {
    Address at;
    for (const Controller& other : d_.controllers) {
      const bool partner = is_ich9_usb(other) && other.index == c.index;
      if (partner && other.info.address.kind == AddressKind::Pci)
        at = other.info.address;
    }
    if (at.kind == AddressKind::None) {
      TRY_OK(place(c.info, Plug::Conventional, "<controller>"));
      at = c.info.address;
      buses_[at.controller].used.at(at.slot) = 0;
    }
    at.function = ich9_function(c.model);
    at.multifunction.reset();
    c.info.address = at;
    return reserve(c.info, "<controller>");
  }

  static Plug accepting(Plug plug) {
    if (plug == Plug::Dmi || plug == Plug::Expander)
      return Plug::RootPort;  // they sit on pcie-root
    return plug == Plug::Upstream ? Plug::Express : plug;
  }

  std::optional<Address> find_slot(Plug plug) const {
    for (uint32_t i = 0; i < kMaxBuses; ++i) {
      const Bus& bus = buses_[i];
      if (bus.kind == nullptr || bus.kind->accepts != plug)
        continue;
      for (uint32_t slot = bus.kind->first_slot; slot <= bus.kind->last_slot; ++slot) {
        if (bus.used.at(slot) == 0) {
          return Address{.kind = AddressKind::Pci, .controller = i, .slot = slot};
        }
      }
    }
    return std::nullopt;
  }

  void mark(const Address& a) {
    buses_[a.controller].used.at(a.slot) |= static_cast<uint8_t>(1U << a.function);
  }

  size_t free_conventional() const {
    size_t free = 0;
    for (const Bus& bus : buses_) {
      if (bus.kind == nullptr || bus.kind->accepts != Plug::Conventional)
        continue;
      for (uint32_t slot = bus.kind->first_slot; slot <= bus.kind->last_slot; ++slot) {
        free += bus.used.at(slot) == 0 ? 1U : 0U;
      }
    }
    return free;
  }

  // Root ports of ours share slots of pcie-root, eight functions each.
  Result<> place_port(DeviceInfo& info) {
    Bus& root = buses_[0];
    for (uint32_t slot = 1; slot < kSlots; ++slot) {
      uint8_t& used = root.used.at(slot);
      if (used != 0 && (!root.ports_only.at(slot) || used == 0xFF))
        continue;
      const auto function = static_cast<uint32_t>(std::countr_one(used));
      root.ports_only.at(slot) = true;
      info.address = {.kind = AddressKind::Pci, .slot = slot, .function = function};
      mark(info.address);
      return {};
    }
    return fail(error_at(d_, info.place, "no free slot on pcie-root"));
  }

  // A bridge gets its place first and its number then: making room for it may add a port before it.
  Result<> add_controller(std::string_view model, Plug plug) {
    DeviceInfo info{.place = d_.place};
    TRY_OK(plug == Plug::RootPort ? place_port(info) : place_now(info, plug, "<controller>"));
    uint32_t index = 1;
    while (index < kMaxBuses && buses_[index].kind != nullptr) ++index;
    if (index == kMaxBuses)
      return fail(error_at(d_, d_.place, "no free PCI bus"));
    added_.push_back(
        Controller{.info = info, .type = "pci", .index = index, .model = std::string(model)});
    return add_bus(added_.back());
  }

  Result<> make_room(Plug plug, const DeviceInfo& info, const char* what) {
    if (plug == Plug::Express || plug == Plug::Upstream) {
      ports_added_ = true;
      return add_controller("pcie-root-port", Plug::RootPort);
    }
    if (plug == Plug::Conventional && is_q35(d_)) {
      return add_controller("pcie-to-pci-bridge", Plug::Express);
    }
    return fail(error_at(d_, info.place, std::string(what) + ": no free PCI slot for it"));
  }

  // On i440fx the last free slot is for a bridge, else there would be no place for one.
  Result<> keep_room_for_bridge(Plug plug) {
    if (plug != Plug::Conventional || is_q35(d_) || free_conventional() != 1)
      return {};
    return add_controller("pci-bridge", Plug::Conventional);
  }

  // One free port for hotplug, if the definition left the ports to us (as libvirt).
  Result<> place_spare() {
    if (!is_q35(d_) || given_ports_ || !ports_added_)
      return {};
    return add_controller("pcie-root-port", Plug::RootPort);
  }

  void set_multifunction() {
    for (const PciDevice& dev : devices()) {
      Address& a = dev.info->address;
      if (a.kind != AddressKind::Pci || a.function != 0 || a.multifunction)
        continue;
      if ((buses_[a.controller].used.at(a.slot) & 0xFEU) != 0)
        a.multifunction = true;
    }
  }

  std::vector<PciDevice> devices();
  void list_controllers(std::vector<PciDevice>& all, bool buses);
  void list_rest(std::vector<PciDevice>& all);
  Result<> place_open();

  Domain& d_;
  std::vector<Bus> buses_;
  std::deque<Controller> added_;
  bool given_ports_ = false;
  bool ports_added_ = false;
};

Result<> Allocator::place_open() {
  for (const PciDevice& dev : devices()) {
    if (dev.info->address.kind == AddressKind::None) {
      if (dev.ich9 != nullptr) {
        TRY_OK(place_ich9(*dev.ich9));
      } else {
        TRY_OK(place(*dev.info, dev.plug, dev.what));
      }
    }
    if (dev.info->address.kind != AddressKind::Pci) {
      return fail(error_at(d_, dev.info->place, std::string(dev.what) + ": not a PCI address"));
    }
  }
  return {};
}

void Allocator::list_controllers(std::vector<PciDevice>& all, bool buses) {
  for (Controller& c : d_.controllers) {
    const bool on_isa = c.type == "fdc" || c.model == "none" || is_root(c);
    if (on_isa || (c.type == "pci") != buses)
      continue;
    all.push_back({&c.info, plug_of(d_, c), "<controller>", is_ich9_usb(c) ? &c : nullptr});
  }
}

void Allocator::list_rest(std::vector<PciDevice>& all) {
  for (Disk& x : d_.disks) {
    if (x.bus == "virtio")
      all.push_back({&x.info, virtio(d_, x.model), "<disk>"});
  }
  for (Hostdev& x : d_.hostdevs) {
    if (x.kind != HostdevKind::Usb)
      all.push_back({&x.info, is_q35(d_) ? Plug::Express : Plug::Conventional, "<hostdev>"});
  }
  if (d_.memballoon && d_.memballoon->model != "none") {
    all.push_back({&d_.memballoon->info, virtio(d_, d_.memballoon->model), "<memballoon>"});
  }
  for (Rng& x : d_.rngs) all.push_back({&x.info, virtio(d_, x.model), "<rng>"});
  for (Watchdog& x : d_.watchdogs) {
    if (x.model == "i6300esb")
      all.push_back({&x.info, Plug::Conventional, "<watchdog>"});
  }
  for (Video& x : d_.videos) {
    if (x.model == "ramfb" || x.model == "none")
      continue;
    const bool express = is_q35(d_) && (x.model == "virtio" || x.model == "bochs");
    all.push_back({&x.info, express ? Plug::Express : Plug::Conventional, "<video>"});
  }
  for (Shmem& x : d_.shmems) all.push_back({&x.info, Plug::Conventional, "<shmem>"});
  for (Input& x : d_.inputs) {
    if (x.bus == "virtio")
      all.push_back({&x.info, virtio(d_, x.model), "<input>"});
  }
  for (Chardev& x : d_.chardevs) {
    if (x.target_type == "pci-serial")
      all.push_back({&x.info, Plug::Conventional, "<serial>"});
  }
  for (Panic& x : d_.panics) {
    if (x.model == "pvpanic")
      all.push_back({&x.info, Plug::Conventional, "<panic>"});
  }
}

std::vector<PciDevice> Allocator::devices() {
  std::vector<PciDevice> all;
  list_controllers(all, true);
  for (Filesystem& x : d_.filesystems) all.push_back({&x.info, virtio(d_, ""), "<filesystem>"});
  for (Interface& x : d_.interfaces) {
    const bool express = x.model == "e1000e" || x.model == "vmxnet3";
    const Plug plug = x.model.starts_with("virtio") ? virtio(d_, x.model)
                      : express && is_q35(d_)       ? Plug::Express
                                                    : Plug::Conventional;
    all.push_back({&x.info, plug, "<interface>"});
  }
  for (Sound& x : d_.sounds) {
    if (is_pci_model(x))
      all.push_back({&x.info, Plug::Conventional, "<sound>"});
  }
  list_controllers(all, false);
  list_rest(all);
  return all;
}

}  // namespace

Result<> assign_pci(Domain& domain) {
  return Allocator(domain).run();
}

}  // namespace tenure::domain
