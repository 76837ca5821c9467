// SPDX-License-Identifier: Apache-2.0
// <domain> itself: name, identity, memory, processors, events; and the order of the reading:
// everything is parsed, then the sweep refuses what nobody read.
#include "domain/parse.h"

#include <algorithm>

#include "base/text.h"
#include "domain/domain.h"

namespace tenure::domain {
namespace {

constexpr size_t kMaxProse = 65536;              // bytes of title and description
constexpr uint64_t kMaxMemoryKib = 1ULL << 42U;  // 4 PiB: the widest physical address of x86_64
constexpr uint64_t kMinMemoryKib = 1024;         // QEMU counts in MiB here
constexpr uint32_t kMaxIothreads = 1024;
constexpr uint32_t kMaxMemorySlots = 256;  // ACPI_MAX_RAM_SLOTS, include/hw/acpi/acpi.h of QEMU

// A name is shown, logged, and used in file names; it need not be nice, but it must be one path
// component and one line.
std::string parse_name(const Element& e) {
  std::string name = e.exact_text(kMaxName);
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
  if (name.empty()) {
    e.invalid("a name is needed");
  } else if (name == "." || name == ".." || name.find('/') != std::string::npos) {
    e.invalid("a name is neither '.' nor '..' and has no '/'");
  } else if (std::ranges::any_of(name, control)) {
    e.invalid("a name has no line break and no other control character");
  }
  return name;
}

void parse_identity(const Element& e, Domain& d) {
  const std::string type = e.choice("type", {"kvm", "qemu"});
  if (!e.find("type"))
    e.invalid("attribute 'type' is missing");
  d.kvm = type == "kvm";
  d.id = e.number<int64_t>("id", -1);
  if (auto name = e.child("name")) {
    d.name = parse_name(*name);
  } else {
    e.invalid("<name> is missing");
  }
  if (auto uuid = e.child("uuid")) {
    if (auto parsed = parse_uuid(uuid->text())) {
      d.uuid = *parsed;
      d.has_uuid = true;
    } else {
      uuid->invalid("not a uuid");
    }
  }
  if (auto title = e.child("title"))
    d.title = title->exact_text(kMaxProse);
  if (auto description = e.child("description"))
    d.description = description->exact_text(kMaxProse);
  if (auto metadata = e.child("metadata"))
    d.metadata = metadata->verbatim();
  if (auto genid = e.child("genid")) {
    d.genid = genid->text();
    if (d.genid.empty()) {
      d.genid = "generate";
    } else if (!parse_uuid(d.genid)) {
      genid->invalid("not a uuid");
    }
  }
}

void parse_max_memory(const Element& e, Domain& d) {
  MaxMemory max{.place = e.place(), .kib = e.text_kib()};
  max.slots = e.number<uint32_t>("slots", 1, kMaxMemorySlots).value_or(0);
  if (max.slots == 0)
    e.invalid("attribute 'slots' is missing");
  if (max.kib > kMaxMemoryKib)
    e.invalid("a guest has at most 4 PiB");
  d.max_memory = max;
}

void parse_memory(const Element& e, Domain& d) {
  if (auto memory = e.child("memory")) {
    d.memory_kib = memory->text_kib();
    d.dump_core = memory->flag("dumpCore");
    if (d.memory_kib < kMinMemoryKib || d.memory_kib > kMaxMemoryKib) {
      memory->invalid("a guest has between 1 MiB and 4 PiB");
    }
  } else if (!e.child("cpu") || !e.child("cpu")->child("numa")) {
    e.invalid("<memory> is missing");
  }
  if (auto max = e.child("maxMemory"))
    parse_max_memory(*max, d);
  d.current_memory_kib = d.memory_kib;
  if (auto current = e.child("currentMemory")) {
    d.current_memory_kib = current->text_kib();
    if (d.memory_kib != 0 && d.current_memory_kib > d.memory_kib)
      current->invalid("more than <memory>");
    if (d.current_memory_kib == 0)
      current->invalid("a guest needs memory");
  }
  if (auto backing = e.child("memoryBacking"))
    d.memory_backing = parse_memory_backing(*backing);
}

void parse_vcpus(const Element& e, Domain& d) {
  if (auto vcpu = e.child("vcpu")) {
    vcpu->choice("placement", {"static"});
    d.vcpus = vcpu->text_number<uint32_t>(1, kMaxVcpus);
    d.current_vcpus = vcpu->number<uint32_t>("current", 1, kMaxVcpus).value_or(d.vcpus);
    if (d.current_vcpus > d.vcpus)
      vcpu->invalid("current is more than there are");
  }
  if (auto threads = e.child("iothreads")) {
    d.iothreads = threads->text_number<uint32_t>(0, kMaxIothreads);
  }
  if (auto cpu = e.child("cpu")) {
    d.cpu = parse_cpu(*cpu);
    const Cpu& c = *d.cpu;
    if (c.sockets && static_cast<uint64_t>(*c.sockets) * c.dies.value_or(1) * c.cores.value_or(1) *
                             c.threads.value_or(1) !=
                         d.vcpus) {
      cpu->invalid("sockets * dies * cores * threads is not the number of vCPUs");
    }
  }
}

// As in libvirt, <memory> is what cells and memory devices add up to: where there are cells, they
// decide, and else what is left of it is the memory at boot.
void settle_memory(const Element& e, Domain& d) {
  uint64_t plugged = 0, cells = 0;
  for (const MemoryDevice& memory : d.memories) plugged += memory.size_kib;
  if (d.cpu)
    for (const NumaCell& cell : d.cpu->cells) cells += cell.memory_kib;
  if (cells > kMaxMemoryKib || plugged > kMaxMemoryKib)
    return e.invalid("a guest has at most 4 PiB");
  if (cells == 0 && plugged >= d.memory_kib)
    return e.invalid("<memory> includes its devices, and nothing is left for the boot");
  d.memory_kib = cells != 0 ? cells : d.memory_kib - plugged;
  if (d.current_memory_kib == 0 || d.current_memory_kib > total_memory_kib(d))
    d.current_memory_kib = total_memory_kib(d);
}

void parse_events(const Element& e, Domain& d) {
  if (auto event = e.child("on_poweroff"))
    d.events.on_poweroff = event->text_choice({"destroy"});
  if (auto event = e.child("on_reboot")) {
    d.events.on_reboot = event->text_choice({"restart", "destroy"});
  }
  if (auto event = e.child("on_crash")) {
    d.events.on_crash = event->text_choice({"destroy", "preserve", "restart"});
  }
  if (auto pm = e.child("pm")) {
    if (auto mem = pm->child("suspend-to-mem"))
      d.suspend_to_mem = mem->flag("enabled");
    if (auto disk = pm->child("suspend-to-disk"))
      d.suspend_to_disk = disk->flag("enabled");
  }
}

}  // namespace

Result<Domain> parse(std::string_view xml, std::string_view source_name) {
  TRY(auto doc, Document::open(xml, source_name));
  const Element e(*doc, doc->root());
  Domain d;
  d.source_xml = xml;
  d.source_name = source_name;
  d.place = e.place();
  if (e.name() != "domain") {
    e.invalid("a definition is a <domain>");
    return fail(doc->sweep().error());
  }
  parse_identity(e, d);
  parse_memory(e, d);
  parse_vcpus(e, d);
  if (auto numatune = e.child("numatune"))
    d.numatune = parse_numatune(*numatune);
  if (auto os = e.child("os")) {
    d.os = parse_os(*os);
  } else {
    e.invalid("<os> is missing");
  }
  if (auto features = e.child("features"))
    d.features = parse_features(*features);
  if (auto clock = e.child("clock"))
    d.clock = parse_clock(*clock);
  parse_events(e, d);
  if (auto devices = e.child("devices"))
    parse_devices(*devices, d);
  settle_memory(e, d);
  TRY_OK(doc->sweep());
  return d;
}

Result<Domain> parse_complete(std::string_view xml, std::string_view source_name) {
  TRY(Domain domain, parse(xml, source_name));
  TRY_OK(complete(domain));
  return domain;
}

bool has_balloon(const Domain& domain) {
  return domain.memballoon && domain.memballoon->model != "none";
}

uint64_t total_memory_kib(const Domain& domain) {
  uint64_t total = domain.memory_kib;
  for (const MemoryDevice& memory : domain.memories) total += memory.size_kib;
  return total;
}

bool is_q35(const Domain& domain) {
  return domain.os.machine == "q35" || domain.os.machine.starts_with("pc-q35-");
}

}  // namespace tenure::domain
