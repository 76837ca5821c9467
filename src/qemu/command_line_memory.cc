// SPDX-License-Identifier: Apache-2.0
// Memory: one backend object for the machine, or one a NUMA cell. Huge pages come from
// memfd_create(2) with MFD_HUGETLB, which needs neither a mounted hugetlbfs nor a file that a
// guest's uid could open.
#include <algorithm>

#include "base/text.h"
#include "qemu/command_line_parts.h"

namespace tenure::qemu {
namespace {

using domain::Domain;
using domain::MemoryBacking;

constexpr uint64_t kKibi = 1024;
constexpr uint64_t kOrdinaryPageKib = 4;  // of x86_64

uint64_t whole_mib(uint64_t kib) {
  return (kib + kKibi - 1) / kKibi;
}

// True if `cell` is in the list "0,2-3"; an empty list has all.
bool in_ranges(std::string_view ranges, uint32_t cell) {
  if (ranges.empty())
    return true;
  for (std::string_view piece : split(ranges, ',')) {
    const auto ends = split(piece, '-');
    const auto first = parse_int<uint32_t>(ends.front()), last = parse_int<uint32_t>(ends.back());
    if (first && last && *first <= cell && cell <= *last)
      return true;
  }
  return false;
}

// KiB of the cell's huge pages; 0 for the host's default size; nullopt for ordinary pages.
std::optional<uint64_t> page_kib(const MemoryBacking& backing, uint32_t cell) {
  if (!backing.hugepages)
    return std::nullopt;
  if (backing.pages.empty())
    return 0;
  std::optional<uint64_t> chosen;
  for (const MemoryBacking::Page& page : backing.pages) {
    if (!in_ranges(page.nodeset, cell))
      continue;
    if (!chosen || !page.nodeset.empty())
      chosen = page.size_kib;
  }
  if (chosen == kOrdinaryPageKib)
    return std::nullopt;
  return chosen;
}

// What <numatune> says of a cell.
std::optional<domain::NumaPolicy> policy_of(const Domain& d, uint32_t cell) {
  if (!d.numatune)
    return std::nullopt;
  for (const auto& [id, own] : d.numatune->cells) {
    if (id == cell)
      return own;
  }
  return d.numatune->memory;
}

void add_host_nodes(Json& json, const std::optional<domain::NumaPolicy>& policy) {
  if (!policy)
    return;
  std::string nodes;
  for (std::string_view piece : split(policy->nodeset, ',')) {
    const auto ends = split(piece, '-');
    const auto first = parse_int<uint32_t>(ends.front()), last = parse_int<uint32_t>(ends.back());
    for (uint32_t node = first.value_or(1); node <= last.value_or(0); ++node) {
      nodes += (nodes.empty() ? "" : ",") + std::to_string(node);
    }
  }
  json.raw("host-nodes", "[" + nodes + "]");
  json.text("policy", policy->mode == "strict" ? "bind" : policy->mode);
}

struct Piece {
  std::string id;
  uint64_t kib = 0;
  std::string access;            // "" as memoryBacking says
  std::optional<uint64_t> page;  // as page_kib()
  std::optional<domain::NumaPolicy> policy;
};

Json backend(const Domain& d, const Piece& piece) {
  const MemoryBacking& backing = d.memory_backing;
  const std::optional<uint64_t>& page = piece.page;
  const bool memfd = backing.source == "memfd" || page.has_value();
  Json json("qom-type", memfd ? "memory-backend-memfd" : "memory-backend-ram");
  json.text("id", piece.id);
  if (page)
    json.flag("hugetlb", true);
  if (page.value_or(0) > 0)
    json.number("hugetlbsize", *page * kKibi);
  // A memfd is shared by itself; private is the default of guests without a second user of their
  // memory.
  const std::string_view mode = piece.access.empty() ? backing.access : piece.access;
  if (memfd || !mode.empty())
    json.flag("share", mode == "shared");
  if (backing.allocation == "immediate")
    json.flag("prealloc", true);
  json.maybe("prealloc-threads", backing.allocation_threads);
  add_host_nodes(json, piece.policy);
  return json.number("size", whole_mib(piece.kib) * kKibi * kKibi);
}

void add_cell(Builder& b, const domain::NumaCell& cell) {
  const std::string id = "ram-node" + std::to_string(cell.id);
  const Domain& d = b.domain();
  b.object(backend(d, {.id = id,
                       .kib = cell.memory_kib,
                       .access = cell.access,
                       .page = page_kib(d.memory_backing, cell.id),
                       .policy = policy_of(d, cell.id)}));
  std::string value = "node,nodeid=" + std::to_string(cell.id);
  if (!cell.cpus.empty()) {
    for (std::string_view range : split(cell.cpus, ',')) value += ",cpus=" + std::string(range);
  }
  b.add("-numa", value + ",memdev=" + id);
}

void add_distances(Builder& b, const domain::NumaCell& cell) {
  for (const auto& [to, value] : cell.distances) {
    b.add("-numa", "dist,src=" + std::to_string(cell.id) + ",dst=" + std::to_string(to) +
                       ",val=" + std::to_string(value));
  }
}

// -m; with room for modules where there are slots.
std::string size_option(const Domain& d, uint64_t mib) {
  if (!d.max_memory)
    return std::to_string(mib);
  return "size=" + std::to_string(mib) + "M,slots=" + std::to_string(d.max_memory->slots) +
         ",maxmem=" + std::to_string(whole_mib(d.max_memory->kib)) + "M";
}

void add_module(Builder& b, const domain::MemoryDevice& memory) {
  const Domain& d = b.domain();
  const std::string id = "mem" + memory.info.alias;
  const uint32_t node = memory.node.value_or(0);
  Piece piece{.id = id,
              .kib = memory.size_kib,
              .access = memory.access,
              .page = memory.page_kib ? memory.page_kib : page_kib(d.memory_backing, node),
              .policy = policy_of(d, node)};
  if (piece.page == kOrdinaryPageKib)
    piece.page.reset();
  if (!memory.nodeset.empty())
    piece.policy = domain::NumaPolicy{.mode = "strict", .nodeset = memory.nodeset};
  b.object(backend(d, piece));
  Json json("driver", "pc-dimm");
  json.number("node", node).text("memdev", id).text("id", memory.info.alias);
  json.number("slot", memory.info.address.slot).maybe("addr", memory.info.address.base);
  b.device(json);
}

}  // namespace

bool has_memory_object(const Domain& d) {
  return !d.cpu || d.cpu->cells.empty();
}

Result<> add_memory(Builder& b) {
  const Domain& d = b.domain();
  if (has_memory_object(d)) {
    b.add("-m", std::to_string(whole_mib(d.memory_kib)));
    b.object(backend(d, {.id = "pc.ram",
                         .kib = d.memory_kib,
                         .access = "",
                         .page = page_kib(d.memory_backing, 0),
                         .policy = policy_of(d, 0)}));
  } else {
    uint64_t mib = 0;
    for (const domain::NumaCell& cell : d.cpu->cells) mib += whole_mib(cell.memory_kib);
    b.add("-m", size_option(d, mib));
    for (const domain::NumaCell& cell : d.cpu->cells) add_cell(b, cell);
    for (const domain::NumaCell& cell : d.cpu->cells) add_distances(b, cell);
  }
  if (d.memory_backing.locked)
    b.add("-overcommit", "mem-lock=on");
  return {};
}

void add_memory_devices(Builder& b) {
  // QEMU takes the first address that is free for one without; a given one must not be that.
  for (bool given : {true, false})
    for (const domain::MemoryDevice& memory : b.domain().memories)
      if (memory.info.address.base.has_value() == given)
        add_module(b, memory);
}

}  // namespace tenure::qemu
