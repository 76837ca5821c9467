// SPDX-License-Identifier: Apache-2.0
// Machine, accelerator, boot, clock, power management and what happens on events.
#include <algorithm>
#include <array>

#include "qemu/command_line_parts.h"

namespace tenure::qemu {
namespace {

using domain::Domain;

const domain::Feature* find_feature(const Domain& d, std::string_view name) {
  const auto found = std::ranges::find(d.features, name, &domain::Feature::name);
  return found == d.features.end() ? nullptr : &*found;
}

const domain::Timer* find_timer(const Domain& d, std::string_view name) {
  const auto found = std::ranges::find(d.clock.timers, name, &domain::Timer::name);
  return found == d.clock.timers.end() ? nullptr : &*found;
}

Result<std::string> accelerator(Builder& b) {
  const Domain& d = b.domain();
  const domain::Feature* ioapic = find_feature(d, "ioapic");
  if (!d.kvm) {
    if (ioapic != nullptr && ioapic->state == "kvm") {
      return fail(b.invalid(ioapic->place, "<ioapic>: driver 'kvm' needs <domain type='kvm'>"));
    }
    return "tcg";  // whose I/O APIC is always QEMU's
  }
  if (!b.wiring().kvm && !b.wiring().preview) {
    return fail(
        b.unsupported(d.place, "<domain>: type 'kvm', but KVM cannot be used on this host"));
  }
  std::string value = "kvm";
  if (ioapic != nullptr)
    value += ioapic->state == "qemu" ? ",kernel-irqchip=split" : ",kernel-irqchip=on";
  return value;
}

std::string machine(const Domain& d) {
  std::string value = d.os.machine + ",usb=off";
  value += d.dump_core.value_or(false) ? ",dump-guest-core=on" : ",dump-guest-core=off";
  const domain::Feature* acpi = find_feature(d, "acpi");
  if (acpi == nullptr || acpi->state == "off")
    value += ",acpi=off";
  for (std::string_view name : {"smm", "vmport"}) {
    if (const domain::Feature* f = find_feature(d, name)) {
      value += "," + std::string(name) + "=" + f->state;
    }
  }
  if (const domain::Timer* hpet = find_timer(d, "hpet"); hpet != nullptr && hpet->present) {
    value += *hpet->present ? ",hpet=on" : ",hpet=off";
  }
  if (d.memory_backing.nosharepages)
    value += ",mem-merge=off";
  if (has_memory_object(d))
    value += ",memory-backend=pc.ram";
  if (d.os.loader && d.os.loader->type == "pflash") {
    value += ",pflash0=firmware-code";
    if (d.os.nvram && !d.os.loader->stateless)
      value += ",pflash1=firmware-vars";
  }
  return value;
}

void add_power_management(Builder& b) {
  const Domain& d = b.domain();
  const std::string chip = domain::is_q35(d) ? "ICH9-LPC" : "PIIX4_PM";
  if (d.suspend_to_mem) {
    b.add("-global", chip + ".disable_s3=" + (*d.suspend_to_mem ? "0" : "1"));
  }
  if (d.suspend_to_disk) {
    b.add("-global", chip + ".disable_s4=" + (*d.suspend_to_disk ? "0" : "1"));
  }
}

void add_actions(Builder& b) {
  const Domain& d = b.domain();
  if (d.events.on_reboot == "destroy")
    b.add("-action", "reboot=shutdown");
  if (d.events.on_crash == "preserve")
    b.add("-action", "panic=pause");
  for (const domain::Watchdog& w : d.watchdogs) b.add("-action", "watchdog=" + w.action);
}

void add_pci_hole(Builder& b) {
  for (const domain::Controller& c : b.domain().controllers) {
    if (!c.pcihole64_kib)
      continue;
    const char* host = domain::is_q35(b.domain()) ? "q35-pcihost" : "i440FX-pcihost";
    b.add("-global",
          std::string(host) + ".pci-hole64-size=" + std::to_string(*c.pcihole64_kib) + "K");
  }
}

// "2023-11-14T22:13:20", UTC. Howard Hinnant's civil_from_days, which needs no libc state.
std::string iso_time(int64_t seconds) {
  const int64_t days = seconds / 86400, rest = seconds % 86400;
  const int64_t z = days + 719468, era = z / 146097, doe = z - era * 146097;
  const int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  const int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
  const int64_t day = doy - (153 * mp + 2) / 5 + 1, month = mp < 10 ? mp + 3 : mp - 9;
  const int64_t year = yoe + era * 400 + (month <= 2 ? 1 : 0);
  const auto digits = [](int64_t n, size_t width) {
    std::string text = std::to_string(n);
    return text.size() < width ? std::string(width - text.size(), '0') + text : text;
  };
  return digits(year, 4) + "-" + digits(month, 2) + "-" + digits(day, 2) + "T" +
         digits(rest / 3600, 2) + ":" + digits(rest / 60 % 60, 2) + ":" + digits(rest % 60, 2);
}

std::string rtc(const Domain& d) {
  const domain::Clock& clock = d.clock;
  std::string base = clock.offset == "absolute"   ? iso_time(clock.start_s)
                     : clock.offset == "variable" ? clock.basis
                                                  : clock.offset;
  std::string value = "base=" + base;
  if (const domain::Timer* timer = find_timer(d, "rtc")) {
    if (!timer->track.empty())
      value += timer->track == "guest" ? ",clock=vm" : ",clock=host";
    if (timer->tickpolicy == "catchup")
      value += ",driftfix=slew";
    if (timer->tickpolicy == "delay")
      value += ",driftfix=none";
  }
  return value;
}

}  // namespace

Result<> add_machine(Builder& b) {
  TRY(const std::string accel, accelerator(b));
  b.add("-machine", machine(b.domain()));
  b.add("-accel", accel);
  if (const domain::Feature* f = find_feature(b.domain(), "vmcoreinfo");
      f != nullptr && f->state == "on") {
    b.device(Json("driver", "vmcoreinfo"));
  }
  add_power_management(b);
  add_pci_hole(b);
  add_actions(b);
  return {};
}

void add_boot(Builder& b) {
  const domain::Os& os = b.domain().os;
  std::string value = "strict=on";
  if (os.boot_menu)
    value += *os.boot_menu ? ",menu=on" : ",menu=off";
  if (os.boot_menu_timeout_ms)
    value += ",splash-time=" + std::to_string(*os.boot_menu_timeout_ms);
  if (os.reboot_timeout_ms)
    value += ",reboot-timeout=" + std::to_string(*os.reboot_timeout_ms);
  b.add("-boot", value);
  if (!os.kernel.empty())
    b.add("-kernel", os.kernel);
  if (!os.initrd.empty())
    b.add("-initrd", os.initrd);
  if (!os.cmdline.empty())
    b.add("-append", os.cmdline);
}

Result<> add_clock(Builder& b) {
  const Domain& d = b.domain();
  b.add("-rtc", rtc(d));
  const domain::Timer* pit = find_timer(d, "pit");
  if (pit == nullptr || pit->tickpolicy.empty())
    return {};
  if (d.kvm) {
    b.add("-global", "kvm-pit.lost_tick_policy=" + pit->tickpolicy);
  } else if (pit->tickpolicy != "delay") {  // what QEMU's own PIT does
    return fail(b.unsupported(pit->place, "<timer>: a PIT that discards ticks needs type 'kvm'"));
  }
  return {};
}

}  // namespace tenure::qemu
