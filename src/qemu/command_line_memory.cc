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
  if (chosen == 4)
    return std::nullopt;  // the ordinary page of x86_64
  return chosen;
}

void add_host_nodes(Json& json, const Domain& d, uint32_t cell) {
  if (!d.numatune)
    return;
  std::optional<domain::NumaPolicy> policy = d.numatune->memory;
  for (const auto& [id, own] : d.numatune->cells) {
    if (id == cell)
      policy = own;
  }
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

Json backend(const Domain& d, std::string_view id, uint64_t kib, uint32_t cell,
             std::string_view access) {
  const MemoryBacking& backing = d.memory_backing;
  const auto page = page_kib(backing, cell);
  const bool memfd = backing.source == "memfd" || page.has_value();
  Json json("qom-type", memfd ? "memory-backend-memfd" : "memory-backend-ram");
  json.text("id", id);
  if (page)
    json.flag("hugetlb", true);
  if (page.value_or(0) > 0)
    json.number("hugetlbsize", *page * kKibi);
  // A memfd is shared by itself; private is the default of guests without a second user of their
  // memory.
  const std::string_view mode = access.empty() ? std::string_view(backing.access) : access;
  if (memfd || !mode.empty())
    json.flag("share", mode == "shared");
  if (backing.allocation == "immediate")
    json.flag("prealloc", true);
  json.maybe("prealloc-threads", backing.allocation_threads);
  add_host_nodes(json, d, cell);
  return json.number("size", whole_mib(kib) * kKibi * kKibi);
}

void add_cell(Builder& b, const domain::NumaCell& cell) {
  const std::string id = "ram-node" + std::to_string(cell.id);
  b.object(backend(b.domain(), id, cell.memory_kib, cell.id, cell.access));
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

}  // namespace

bool has_memory_object(const Domain& d) {
  return !d.cpu || d.cpu->cells.empty();
}

Result<> add_memory(Builder& b) {
  const Domain& d = b.domain();
  if (has_memory_object(d)) {
    b.add("-m", std::to_string(whole_mib(d.memory_kib)));
    b.object(backend(d, "pc.ram", d.memory_kib, 0, ""));
  } else {
    uint64_t mib = 0;
    for (const domain::NumaCell& cell : d.cpu->cells) mib += whole_mib(cell.memory_kib);
    b.add("-m", std::to_string(mib));
    for (const domain::NumaCell& cell : d.cpu->cells) add_cell(b, cell);
    for (const domain::NumaCell& cell : d.cpu->cells) add_distances(b, cell);
  }
  if (d.memory_backing.locked)
    b.add("-overcommit", "mem-lock=on");
  return {};
}

}  // namespace tenure::qemu
