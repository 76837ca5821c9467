// SPDX-License-Identifier: Apache-2.0
// <cpu>: model, features, topology, cache, physical address bits, NUMA cells.
#include <algorithm>
#include <array>
#include <cctype>

#include "base/text.h"
#include "domain/parse.h"

namespace tenure::domain {
namespace {

constexpr uint32_t kMaxCells = 128;  // QEMU's MAX_NODES

// A model's or feature's name becomes part of a comma-separated option: no commas, no '='.
std::string parse_cpu_word(const Element& e, std::string word) {
  const auto plain = [](char c) {
    return (std::isalnum(static_cast<unsigned char>(c)) != 0) || c == '-' || c == '_' || c == '.';
  };
  if (word.empty() || word.size() > 64 || !std::ranges::all_of(word, plain)) {
    e.invalid("'" + printable(word) + "' is not a CPU model or feature");
  }
  return word;
}

void parse_model(const Element& e, Cpu& cpu) {
  // Only migration compares with other hosts' models; without it "allow" has nothing to fall back
  // to.
  e.choice("fallback", {"allow", "forbid"});
  cpu.vendor_id = e.string("vendor_id");
  if (!cpu.vendor_id.empty() &&
      (cpu.vendor_id.size() != 12 || cpu.vendor_id.find(',') != std::string::npos)) {
    e.invalid("attribute 'vendor_id' has 12 characters, no comma");
  }
  const std::string model = e.text();
  if (!model.empty())
    cpu.model = parse_cpu_word(e, model);
}

void parse_topology(const Element& e, Cpu& cpu) {
  const auto count = [&](const char* name) { return e.number<uint32_t>(name, 1, kMaxVcpus); };
  cpu.sockets = count("sockets");
  cpu.dies = count("dies").value_or(1);
  cpu.cores = count("cores");
  cpu.threads = count("threads");
  if (!cpu.sockets || !cpu.cores || !cpu.threads) {
    e.invalid("sockets, cores and threads must be given");
  }
}

void parse_distances(const Element& e, NumaCell& cell) {
  for (const Element& sibling : e.children("sibling")) {
    const auto to = sibling.number<uint32_t>("id", 0, kMaxCells - 1);
    const auto value = sibling.number<uint32_t>("value", 10, 255);
    if (!to || !value) {
      sibling.invalid("id and value must be given");
      return;
    }
    cell.distances.emplace_back(*to, *value);
  }
}

// <cell memory= unit=>: the same units as <memory>, in attributes.
uint64_t cell_kib(const Element& e) {
  struct Unit {
    std::string_view name;
    uint64_t kib;
  };
  static constexpr std::array<Unit, 8> kUnits = {{{"", 1},
                                                  {"k", 1},
                                                  {"KiB", 1},
                                                  {"M", 1U << 10U},
                                                  {"MiB", 1U << 10U},
                                                  {"G", 1U << 20U},
                                                  {"GiB", 1U << 20U},
                                                  {"TiB", 1U << 30U}}};
  const std::string unit = e.string("unit");
  const auto found = std::ranges::find(kUnits, unit, &Unit::name);
  if (found == kUnits.end()) {
    e.invalid("unit '" + printable(unit) + "' is unknown");
    return 0;
  }
  constexpr uint64_t kMostKib = 1ULL << 50U;
  return e.number<uint64_t>("memory", 1, kMostKib / found->kib).value_or(0) * found->kib;
}

NumaCell parse_cell(const Element& e, uint32_t position) {
  NumaCell cell{.place = e.place()};
  cell.id = e.number<uint32_t>("id", 0, kMaxCells - 1).value_or(position);
  cell.cpus = e.string("cpus");
  if (!cell.cpus.empty())
    check_ranges(e, cell.cpus, kMaxVcpus);
  cell.memory_kib = cell_kib(e);
  cell.access = e.choice("memAccess", {"shared", "private"});
  e.choice("discard", {"no"});  // only for files, which are not implemented
  if (auto distances = e.child("distances"))
    parse_distances(*distances, cell);
  return cell;
}

void parse_numa(const Element& e, Cpu& cpu) {
  for (const Element& cell : e.children("cell")) {
    cpu.cells.push_back(parse_cell(cell, static_cast<uint32_t>(cpu.cells.size())));
  }
  std::ranges::sort(cpu.cells, {}, &NumaCell::id);
  for (uint32_t i = 0; i < cpu.cells.size(); ++i) {
    if (cpu.cells[i].id != i)
      e.invalid("the cells' ids must be 0, 1, 2 …, each once");
  }
}

void parse_details(const Element& e, Cpu& cpu) {
  if (auto cache = e.child("cache")) {
    cpu.cache_mode = cache->choice("mode", {"passthrough", "emulate", "disable"});
    cpu.cache_level = cache->number<uint32_t>("level", 3, 3);
    if (cpu.cache_mode == "emulate" && !cpu.cache_level)
      cache->invalid("mode emulate needs level 3");
  }
  if (auto bits = e.child("maxphysaddr")) {
    cpu.physaddr_mode = bits->choice("mode", {"passthrough", "emulate"});
    cpu.physaddr_bits = bits->number<uint32_t>("bits", 32, 64);
  }
  for (const Element& feature : e.children("feature")) {
    CpuFeature f{.name = parse_cpu_word(feature, feature.required("name"))};
    f.policy = feature.choice("policy", {"force", "require", "optional", "disable", "forbid"});
    if (f.policy.empty())
      f.policy = "require";
    cpu.features.push_back(std::move(f));
  }
}

}  // namespace

Cpu parse_cpu(const Element& e) {
  Cpu cpu{.place = e.place()};
  cpu.mode = e.choice("mode", {"custom", "host-model", "host-passthrough", "maximum"});
  // minimum and strict would compare with the host's CPU.
  e.choice("match", {"exact"});
  cpu.check = e.choice("check", {"none", "partial", "full"});
  cpu.migratable = e.flag("migratable");
  if (auto model = e.child("model"))
    parse_model(*model, cpu);
  if (cpu.mode.empty() && !cpu.model.empty())
    cpu.mode = "custom";
  if (auto topology = e.child("topology"))
    parse_topology(*topology, cpu);
  parse_details(e, cpu);
  if (auto numa = e.child("numa"))
    parse_numa(*numa, cpu);
  if (cpu.mode.empty() && !cpu.features.empty())
    e.invalid("features without a model");
  return cpu;
}

}  // namespace tenure::domain
