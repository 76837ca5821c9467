// SPDX-License-Identifier: Apache-2.0
// -cpu with its flags from <cpu>, <features> and <clock>; -smp.
#include <algorithm>
#include <array>
#include <map>

#include "qemu/command_line_parts.h"

namespace tenure::qemu {
namespace {

using domain::Cpu;
using domain::Domain;

struct Flag {
  std::string_view feature;   // of <features>
  std::string_view property;  // of QEMU's CPU
};
constexpr std::array<Flag, 20> kFlags = {{
    {"apic.eoi", "kvm-pv-eoi"},
    {"pvspinlock", "kvm-pv-unhalt"},
    {"pmu", "pmu"},
    {"kvm.hint-dedicated", "kvm-hint-dedicated"},
    {"kvm.poll-control", "kvm-poll-control"},
    {"hyperv.passthrough", "hv-passthrough"},
    {"hyperv.relaxed", "hv-relaxed"},
    {"hyperv.vapic", "hv-vapic"},
    {"hyperv.vpindex", "hv-vpindex"},
    {"hyperv.runtime", "hv-runtime"},
    {"hyperv.synic", "hv-synic"},
    {"hyperv.stimer", "hv-stimer"},
    {"hyperv.stimer.direct", "hv-stimer-direct"},
    {"hyperv.reset", "hv-reset"},
    {"hyperv.frequencies", "hv-frequencies"},
    {"hyperv.reenlightenment", "hv-reenlightenment"},
    {"hyperv.tlbflush", "hv-tlbflush"},
    {"hyperv.ipi", "hv-ipi"},
    {"hyperv.evmcs", "hv-evmcs"},
    {"hyperv.avic", "hv-avic"},
}};

Result<std::string> model(Builder& b) {
  const Domain& d = b.domain();
  const Cpu cpu = d.cpu.value_or(Cpu{});
  if (cpu.mode.empty())
    return "qemu64";
  if (cpu.mode != "custom" && !cpu.model.empty()) {
    return fail(b.unsupported(cpu.place, "<cpu>: a model beside mode '" + cpu.mode + "'"));
  }
  if (cpu.mode == "custom") {
    if (cpu.cache_mode == "passthrough") {
      return fail(b.invalid(cpu.place, "<cache>: mode 'passthrough' needs the host's CPU"));
    }
    if (cpu.model.empty())
      return fail(b.invalid(cpu.place, "<cpu>: mode 'custom' without a model"));
    return cpu.model;
  }
  if (cpu.mode == "maximum")
    return "max";
  if (cpu.mode == "host-passthrough") {
    if (!d.kvm)
      return fail(b.invalid(cpu.place, "<cpu>: mode 'host-passthrough' needs type 'kvm'"));
    return cpu.migratable == false ? "host,migratable=off" : "host,migratable=on";
  }
  // host-model: what the host has and can be named. Under TCG the host is TCG.
  return d.kvm ? "host,migratable=on" : "max";
}

// host-cache-info is a property of the CPUs host and max only.
void add_cache(std::string& value, const Cpu& cpu) {
  if (cpu.cache_mode.empty())
    return;
  const bool passthrough = cpu.cache_mode == "passthrough";
  if (cpu.mode != "custom")
    value += passthrough ? ",host-cache-info=on" : ",host-cache-info=off";
  value += cpu.cache_mode == "emulate" ? ",l3-cache=on" : ",l3-cache=off";
}

void add_physical_bits(std::string& value, const Cpu& cpu) {
  const std::string bits = std::to_string(cpu.physaddr_bits.value_or(0));
  if (cpu.physaddr_mode == "passthrough") {
    value += ",host-phys-bits=on";
    if (cpu.physaddr_bits)
      value += ",host-phys-bits-limit=" + bits;
  } else if (cpu.physaddr_mode == "emulate") {
    value += ",host-phys-bits=off";
    if (cpu.physaddr_bits)
      value += ",phys-bits=" + bits;
  }
}

void add_cpu_features(std::string& value, const Cpu& cpu) {
  if (!cpu.vendor_id.empty())
    value += ",vendor=" + cpu.vendor_id;
  for (const domain::CpuFeature& f : cpu.features) {
    value += "," + f.name + (f.policy == "disable" || f.policy == "forbid" ? "=off" : "=on");
  }
  if (cpu.check == "full")
    value += ",enforce=on";
  add_cache(value, cpu);
  add_physical_bits(value, cpu);
}

void add_timers(std::string& value, const Domain& d) {
  for (const domain::Timer& timer : d.clock.timers) {
    const std::string state = timer.present.value_or(true) ? "=on" : "=off";
    if (timer.name == "kvmclock")
      value += ",kvmclock" + state;
    if (timer.name == "hypervclock")
      value += ",hv-time" + state;
    if (timer.frequency_hz)
      value += ",tsc-frequency=" + std::to_string(*timer.frequency_hz);
  }
}

void add_domain_features(std::string& value, const Domain& d) {
  for (const domain::Feature& f : d.features) {
    const auto flag = std::ranges::find(kFlags, f.name, &Flag::feature);
    if (flag != kFlags.end())
      value += "," + std::string(flag->property) + "=" + f.state;
    if (f.name == "kvm.hidden")
      value += f.state == "on" ? ",kvm=off" : ",kvm=on";
    if (f.name == "hyperv.spinlocks" && f.state == "on")
      value += ",hv-spinlocks=" + f.value;
    if (f.name == "hyperv.vendor_id" && f.state == "on")
      value += ",hv-vendor-id=" + f.value;
    if (f.name == "apic" && f.state == "off")
      value += ",apic=off";
    if (f.name == "pae" && f.state == "off")
      value += ",pae=off";
  }
  for (const domain::Panic& panic : d.panics) {
    if (panic.model == "hyperv")
      value += ",hv-crash=on";
  }
}

std::string smp(const Domain& d) {
  std::string value = std::to_string(d.current_vcpus);
  if (d.current_vcpus != d.vcpus)
    value += ",maxcpus=" + std::to_string(d.vcpus);
  if (!d.cpu || !d.cpu->sockets) {
    return value + ",sockets=" + std::to_string(d.vcpus) + ",cores=1,threads=1";
  }
  const Cpu& cpu = *d.cpu;
  return value + ",sockets=" + std::to_string(*cpu.sockets) +
         ",dies=" + std::to_string(cpu.dies.value_or(1)) +
         ",cores=" + std::to_string(cpu.cores.value_or(1)) +
         ",threads=" + std::to_string(cpu.threads.value_or(1));
}

}  // namespace

Result<> add_cpu(Builder& b) {
  TRY(std::string value, model(b));
  if (b.domain().cpu)
    add_cpu_features(value, *b.domain().cpu);
  add_timers(value, b.domain());
  add_domain_features(value, b.domain());
  b.add("-cpu", value);
  b.add("-smp", smp(b.domain()));
  return {};
}

}  // namespace tenure::qemu
