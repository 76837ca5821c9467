// SPDX-License-Identifier: Apache-2.0
// What surrounds the devices: <os>, <features>, <clock>, <memoryBacking>.
#include <algorithm>
#include <array>
#include <cctype>

#include "base/text.h"
#include "domain/parse.h"

namespace tenure::domain {
namespace {

std::string path_text(const Element& e) {
  std::string path = e.exact_text(4095);
  if (!path.empty() && path.front() != '/')
    e.invalid("not an absolute path");
  return path;
}

// pc, q35 and their versions: what the rest of this program knows the slots of.
std::string parse_machine(const Element& e) {
  std::string machine = e.string("machine");
  if (machine.empty())
    machine = "pc";
  const bool known = machine == "pc" || machine == "q35" || machine.starts_with("pc-i440fx-") ||
                     machine.starts_with("pc-q35-");
  const auto plain = [](char c) {
    return (std::isalnum(static_cast<unsigned char>(c)) != 0) || c == '-' || c == '.';
  };
  if (!known || machine.size() > 64 || !std::ranges::all_of(machine, plain)) {
    e.unsupported("machine '" + printable(machine.substr(0, 64)) + "' is not implemented");
  }
  return machine;
}

Loader parse_loader(const Element& e) {
  Loader loader{.place = e.place()};
  loader.path = path_text(e);
  if (loader.path.empty())
    e.unsupported("choosing a firmware is not implemented: name its file");
  loader.type = e.choice("type", {"rom", "pflash"});
  if (loader.type.empty())
    loader.type = "rom";
  loader.readonly = e.flag("readonly").value_or(loader.type == "rom");
  loader.secure = e.flag("secure").value_or(false);
  loader.stateless = e.flag("stateless").value_or(false);
  e.choice("format", {"raw"});
  return loader;
}

Nvram parse_nvram(const Element& e) {
  Nvram nvram{.place = e.place()};
  nvram.templ = e.path("template");
  const std::string format = e.choice("format", {"raw", "qcow2"});
  if (!format.empty())
    nvram.format = format;
  e.choice("templateFormat", {"raw"});
  const std::string type = e.choice("type", {"file"});
  if (type.empty()) {
    nvram.path = path_text(e);
  } else if (auto source = e.child("source")) {
    nvram.path = source->path("file");
  }
  if (nvram.path.empty())
    e.unsupported("making up a path is not implemented: name the file");
  return nvram;
}

void parse_boot(const Element& e, Os& os) {
  for (const Element& boot : e.children("boot")) {
    const std::string device = boot.choice("dev", {"hd", "cdrom", "network", "fd"});
    if (std::ranges::find(os.boot_devices, device) != os.boot_devices.end()) {
      boot.invalid("'" + device + "' given twice");
    }
    os.boot_devices.push_back(device);
  }
  if (auto menu = e.child("bootmenu")) {
    os.boot_menu = menu->flag("enable");
    const auto timeout = menu->number<uint32_t>("timeout", 0, 65535);
    if (timeout && !os.boot_menu.value_or(false))
      menu->invalid("a timeout of a menu that is off");
    os.boot_menu_timeout_ms = timeout;
  }
  if (auto bios = e.child("bios")) {
    const auto timeout = bios->number<int32_t>("rebootTimeout", -1, 65535);
    if (timeout && *timeout >= 0)
      os.reboot_timeout_ms = static_cast<uint32_t>(*timeout);
  }
}

// Features that are on by being there, or by state=.
void add_feature(const Element& e, std::vector<Feature>& features, const std::string& prefix,
                 const char* name) {
  auto child = e.child(name);
  if (!child)
    return;
  const std::string state = child->choice("state", {"on", "off"});
  features.push_back({prefix + name, state.empty() ? "on" : state, "", child->place()});
}

void parse_hyperv(const Element& e, std::vector<Feature>& features) {
  e.choice("mode", {"custom", "passthrough"});
  if (e.string("mode") == "passthrough") {
    features.push_back({"hyperv.passthrough", "on", "", e.place()});
  }
  for (const char* name : {"relaxed", "vapic", "vpindex", "runtime", "synic", "stimer", "reset",
                           "frequencies", "reenlightenment", "tlbflush", "ipi", "evmcs", "avic"}) {
    add_feature(e, features, "hyperv.", name);
  }
  if (auto stimer = e.child("stimer"))
    add_feature(*stimer, features, "hyperv.stimer.", "direct");
  if (auto spin = e.child("spinlocks")) {
    add_feature(e, features, "hyperv.", "spinlocks");
    const auto retries = spin->number<uint32_t>("retries", 4095);
    if (features.back().state == "on" && !retries)
      spin->invalid("retries must be given");
    features.back().value = std::to_string(retries.value_or(0));
  }
  if (auto vendor = e.child("vendor_id")) {
    add_feature(e, features, "hyperv.", "vendor_id");
    features.back().value = vendor->string("value");
    if (features.back().value.size() > 12 || features.back().value.find(',') != std::string::npos) {
      vendor->invalid("a vendor id has 12 characters at most, no comma");
    }
  }
}

NumaPolicy parse_policy(const Element& e) {
  NumaPolicy policy{.mode = e.choice("mode", {"strict", "preferred", "interleave"}),
                    .nodeset = e.required("nodeset")};
  if (policy.mode.empty())
    policy.mode = "strict";
  check_ranges(e, policy.nodeset, 1024);  // MAX_NUMNODES of the kernel
  return policy;
}

Timer parse_timer(const Element& e) {
  Timer timer{.place = e.place()};
  timer.name = e.choice("name", {"rtc", "pit", "hpet", "kvmclock", "hypervclock", "tsc"});
  timer.present = e.flag("present");
  timer.tickpolicy = e.choice("tickpolicy", {"delay", "catchup", "discard"});
  timer.track = e.choice("track", {"guest", "wall"});
  timer.frequency_hz = e.number<uint64_t>("frequency", 1, 1ULL << 40U);
  const bool is_rtc = timer.name == "rtc", is_pit = timer.name == "pit",
             is_tsc = timer.name == "tsc";
  if (timer.frequency_hz && !is_tsc)
    e.unsupported("only tsc has a frequency");
  if (!timer.track.empty() && !is_rtc)
    e.unsupported("only rtc has a track");
  if (timer.present && (is_rtc || is_tsc))
    e.unsupported("'present' is not implemented for it");
  if (is_pit && timer.present == false)
    e.unsupported("leaving out the PIT is not implemented");
  const bool policy_known = timer.tickpolicy.empty() || (is_rtc && timer.tickpolicy != "discard") ||
                            (is_pit && timer.tickpolicy != "catchup") ||
                            (timer.name == "hpet" && timer.tickpolicy == "delay");
  if (!policy_known)
    e.unsupported("tickpolicy '" + timer.tickpolicy + "' is not implemented for it");
  return timer;
}

}  // namespace

Os parse_os(const Element& e) {
  Os os;
  if (auto type = e.child("type")) {
    type->text_choice({"hvm"});
    os.arch = type->choice("arch", {"x86_64"});
    if (os.arch.empty())
      os.arch = "x86_64";
    os.machine = parse_machine(*type);
  } else {
    e.invalid("<type> is missing");
  }
  if (auto kernel = e.child("kernel"))
    os.kernel = path_text(*kernel);
  if (auto initrd = e.child("initrd"))
    os.initrd = path_text(*initrd);
  if (auto cmdline = e.child("cmdline"))
    os.cmdline = cmdline->exact_text(4096);
  if (os.kernel.empty() && (!os.initrd.empty() || !os.cmdline.empty())) {
    e.invalid("an initrd or a command line without a kernel");
  }
  if (auto loader = e.child("loader"))
    os.loader = parse_loader(*loader);
  if (auto nvram = e.child("nvram")) {
    os.nvram = parse_nvram(*nvram);
    if (!os.loader || os.loader->type != "pflash")
      nvram->invalid("only a pflash loader has one");
  }
  parse_boot(e, os);
  return os;
}

std::vector<Feature> parse_features(const Element& e) {
  std::vector<Feature> features;
  for (const char* name :
       {"acpi", "apic", "pae", "smm", "vmport", "pmu", "pvspinlock", "vmcoreinfo"}) {
    add_feature(e, features, "", name);
  }
  if (auto apic = e.child("apic")) {
    if (auto eoi = apic->flag("eoi")) {
      features.push_back({"apic.eoi", *eoi ? "on" : "off", "", apic->place()});
    }
  }
  if (auto ioapic = e.child("ioapic")) {
    features.push_back({"ioapic", ioapic->choice("driver", {"kvm", "qemu"}), "", ioapic->place()});
  }
  if (auto kvm = e.child("kvm")) {
    for (const char* name : {"hidden", "hint-dedicated", "poll-control"}) {
      add_feature(*kvm, features, "kvm.", name);
    }
  }
  if (auto hyperv = e.child("hyperv"))
    parse_hyperv(*hyperv, features);
  return features;
}

Clock parse_clock(const Element& e) {
  Clock clock;
  const std::string offset = e.choice("offset", {"utc", "localtime", "absolute", "variable"});
  if (!offset.empty())
    clock.offset = offset;
  const bool absolute = clock.offset == "absolute", variable = clock.offset == "variable";
  // Year 9999 bounds both: what strftime prints as four digits.
  constexpr int64_t kLastSecond = 253402300799;
  if (absolute)
    clock.start_s = e.number<int64_t>("start", 0, kLastSecond).value_or(0);
  if (variable) {
    clock.adjustment_s = e.number<int64_t>("adjustment", -kLastSecond, kLastSecond).value_or(0);
    const std::string basis = e.choice("basis", {"utc", "localtime"});
    if (!basis.empty())
      clock.basis = basis;
    if (clock.adjustment_s != 0)
      e.unsupported("an adjustment other than 0 is not implemented");
  }
  for (const Element& timer : e.children("timer")) clock.timers.push_back(parse_timer(timer));
  return clock;
}

MemoryBacking parse_memory_backing(const Element& e) {
  MemoryBacking backing;
  if (auto huge = e.child("hugepages")) {
    backing.hugepages = true;
    for (const Element& page : huge->children("page")) {
      static_cast<void>(page.required("size"));
      const std::string unit = page.choice("unit", {"KiB", "k", "M", "MiB", "G", "GiB"});
      const uint64_t scale = unit.starts_with('G')   ? 1U << 20U
                             : unit.starts_with('M') ? 1U << 10U
                                                     : 1;
      MemoryBacking::Page p{.size_kib =
                                page.number<uint64_t>("size", 1, 1U << 30U).value_or(1) * scale};
      p.nodeset = page.string("nodeset");
      if (!p.nodeset.empty())
        check_ranges(page, p.nodeset, 128);
      backing.pages.push_back(std::move(p));
    }
  }
  backing.locked = e.has("locked");
  backing.nosharepages = e.has("nosharepages");
  if (auto source = e.child("source")) {
    backing.source = source->choice("type", {"anonymous", "memfd"});
  }
  if (auto access = e.child("access"))
    backing.access = access->choice("mode", {"shared", "private"});
  if (auto allocation = e.child("allocation")) {
    backing.allocation = allocation->choice("mode", {"immediate", "ondemand"});
    backing.allocation_threads = allocation->number<uint32_t>("threads", 1, 1024);
  }
  return backing;
}

Numatune parse_numatune(const Element& e) {
  Numatune tune{.place = e.place()};
  if (auto memory = e.child("memory")) {
    memory->choice("placement", {"static"});
    tune.memory = parse_policy(*memory);
  }
  for (const Element& node : e.children("memnode")) {
    const auto cell = node.number<uint32_t>("cellid", 0, 127);
    const auto same = [&](const auto& other) { return other.first == cell; };
    if (!cell || std::ranges::any_of(tune.cells, same))
      node.invalid("each cell once, by its id");
    tune.cells.emplace_back(cell.value_or(0), parse_policy(node));
  }
  return tune;
}

}  // namespace tenure::domain
