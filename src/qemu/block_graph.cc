// SPDX-License-Identifier: Apache-2.0
#include "qemu/block_graph.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "qemu/command_line_parts.h"

namespace tenure::qemu {
namespace {

using domain::Disk;
using nlohmann::json;

// Of drivers that pass everything on: the edge below them.
struct Filter {
  std::string_view driver;
  std::string_view below;
};
constexpr std::array<Filter, 3> kFilters = {
    {{"copy-on-read", "file"}, {"mirror_top", "backing"}, {"commit_top", "backing"}}};

// Of nodes that have a file or a device open themselves (storage_driver).
constexpr std::array<std::string_view, 3> kStorageDrivers = {"file", "host_device", "host_cdrom"};

bool is_storage(std::string_view driver) {
  return std::ranges::find(kStorageDrivers, driver) != kStorageDrivers.end();
}

struct Facts {
  std::string driver, path;
  bool readonly = false;
  uint64_t size = 0;
};

class Graph {
 public:
  Graph(const json& graph, const json& nodes) {
    for (const json& node : graph.at("nodes")) {
      const uint64_t id = node.at("id");
      names_[id] = node.at("name");
      types_[id] = node.at("type");
    }
    for (const json& edge : graph.at("edges"))
      below_[edge.at("parent")].emplace(edge.at("name"), edge.at("child"));
    for (const json& node : nodes) {
      Facts facts{.driver = node.at("drv"), .path = node.at("file"), .readonly = node.at("ro")};
      facts.size = node.at("image").value("virtual-size", uint64_t{0});
      facts_[node.at("node-name")] = std::move(facts);
    }
  }

  const std::map<uint64_t, std::string>& names() const { return names_; }
  const std::string& name(uint64_t id) const { return names_.at(id); }

  std::optional<uint64_t> find(std::string_view type, const auto& fits) const {
    for (const auto& [id, name] : names_)
      if (types_.at(id) == type && fits(name))
        return id;
    return std::nullopt;
  }

  std::optional<uint64_t> child(uint64_t id, std::string_view edge) const {
    auto edges = below_.find(id);
    if (edges == below_.end())
      return std::nullopt;
    auto found = edges->second.find(std::string(edge));
    return found == edges->second.end() ? std::nullopt : std::optional(found->second);
  }

  void reach(uint64_t id, std::set<uint64_t>& reached) const {
    if (!reached.insert(id).second)
      return;
    if (auto edges = below_.find(id); edges != below_.end())
      for (const auto& [name, child] : edges->second) reach(child, reached);
  }

  // What the device and the jobs have.
  std::set<uint64_t> in_use() const {
    std::set<uint64_t> reached;
    for (const auto& [id, type] : types_)
      if (type == "block-backend" || type == "block-job")
        reach(id, reached);
    return reached;
  }

  // Parents first.
  void list_strays(uint64_t id, const std::set<uint64_t>& used, std::set<uint64_t>& seen,
                   std::vector<std::string>& children_first) const {
    if (used.contains(id) || !seen.insert(id).second)
      return;
    if (auto edges = below_.find(id); edges != below_.end())
      for (const auto& [name, child] : edges->second)
        list_strays(child, used, seen, children_first);
    children_first.push_back(name(id));
  }

  std::optional<uint64_t> below_filters(std::optional<uint64_t> id) const {
    for (size_t depth = 0; id && depth < kMaxChainDepth; ++depth) {
      const auto facts = facts_.find(name(*id));
      const std::string driver = facts == facts_.end() ? "" : facts->second.driver;
      const auto filter = std::ranges::find(kFilters, driver, &Filter::driver);
      if (filter == kFilters.end())
        return id;
      id = child(*id, filter->below);
    }
    return std::nullopt;
  }

  StorageNode storage(uint64_t id) const {
    const Facts& facts = facts_.at(name(id));
    return {
        .name = name(id), .driver = facts.driver, .path = facts.path, .readonly = facts.readonly};
  }

  Result<ChainMember> member(uint64_t id) const {
    const auto facts = facts_.find(name(id));
    if (facts != facts_.end() && is_storage(facts->second.driver))
      return ChainMember{.node = name(id),
                         .format = "raw",
                         .storage = storage(id),
                         .data = {},
                         .size = facts->second.size};
    const auto file = child(id, "file");
    if (facts == facts_.end() || !file || !facts_.contains(name(*file)))
      return fail(Errc::Unsupported, "block node " + name(id) + " is no image over a file");
    ChainMember member{.node = name(id),
                       .format = facts->second.driver,
                       .storage = storage(*file),
                       .data = {},
                       .size = facts->second.size};
    if (const auto data = child(id, "data-file"); data && facts_.contains(name(*data)))
      member.data = storage(*data);
    return member;
  }

 private:
  std::map<uint64_t, std::string> names_, types_;
  std::map<uint64_t, std::map<std::string, uint64_t>> below_;
  std::map<std::string, Facts> facts_;  // by node name
};

// QEMU calls a backend by the id of the device that has it, as scsi-hd and ide-hd do; if that is a
// part of one, without an id, by its path: "/machine/peripheral/virtio-disk0/virtio-backend".
bool is_device(std::string_view backend, std::string_view alias) {
  if (backend == alias)
    return true;
  constexpr std::string_view kRoot = "/machine/peripheral/";
  if (!backend.starts_with(kRoot))
    return false;
  backend.remove_prefix(kRoot.size());
  return backend.substr(0, backend.find('/')) == alias;
}

// Of "STEM.12.storage" 13; 0 for what is no number.
size_t number_after(std::string_view name, size_t stem) {
  size_t number = 0;
  const auto read = std::from_chars(name.data() + stem, name.data() + name.size(), number);
  return read.ec == std::errc{} && number < SIZE_MAX ? number + 1 : 0;
}

size_t next_number(const Graph& graph, const Disk& disk) {
  const std::string stem = node_stem(disk);
  size_t next = 0;
  for (const auto& [id, name] : graph.names())
    if (name.starts_with(stem))
      next = std::max(next, number_after(name, stem.size()));
  return next;
}

std::vector<std::string> strays_of(const Graph& graph, const Disk& disk) {
  const std::string stem = node_stem(disk);
  const std::set<uint64_t> used = graph.in_use();
  std::set<uint64_t> seen;
  std::vector<std::string> strays;
  for (const auto& [id, name] : graph.names())
    if (name.starts_with(stem))
      graph.list_strays(id, used, seen, strays);
  std::ranges::reverse(strays);
  std::erase_if(strays, [&](const std::string& name) { return !name.starts_with(stem); });
  return strays;
}

Result<DiskChain> chain_of(const Graph& graph, const Disk& disk) {
  const auto device = graph.find(
      "block-backend", [&](const std::string& name) { return is_device(name, disk.info.alias); });
  if (!device)
    return fail(Errc::NotFound, "QEMU has no disk " + disk.info.alias);
  DiskChain chain;
  const auto root = graph.child(*device, "root");
  if (root)
    chain.root = graph.name(*root);
  auto at = graph.below_filters(root);
  while (at && chain.members.size() < kMaxChainDepth) {
    TRY(ChainMember member, graph.member(*at));
    chain.members.push_back(std::move(member));
    at = graph.below_filters(graph.child(*at, "backing"));
  }
  chain.next = next_number(graph, disk);
  chain.strays = strays_of(graph, disk);
  return chain;
}

// QEMU's answers are not ours to trust.
auto guarded(const json& graph, const json& nodes, const auto& use)
    -> decltype(use(std::declval<const Graph&>())) {
  try {
    return use(Graph(graph, nodes));
  } catch (const json::exception& error) {
    return fail(Errc::Corrupt, std::string("QEMU's block nodes: ") + error.what());
  } catch (const std::out_of_range&) {
    return fail(Errc::Corrupt, "QEMU's block nodes: an edge without a node");
  }
}

}  // namespace

Result<DiskChain> disk_chain(const json& graph, const json& nodes, const Disk& disk) {
  return guarded(graph, nodes, [&](const Graph& whole) { return chain_of(whole, disk); });
}

Result<std::vector<std::string>> stray_nodes(const json& graph, const json& nodes,
                                             const Disk& disk) {
  return guarded(graph, nodes, [&](const Graph& whole) -> Result<std::vector<std::string>> {
    return strays_of(whole, disk);
  });
}

Result<ChainMember> job_target(const json& graph, const json& nodes, const std::string& job) {
  return guarded(graph, nodes, [&](const Graph& whole) -> Result<ChainMember> {
    const auto node = whole.find("block-job", [&](const std::string& name) { return name == job; });
    const auto target = node ? whole.child(*node, "target") : std::nullopt;
    if (!target)
      return fail(Errc::NotFound, "job " + job + " has no target");
    return whole.member(*target);
  });
}

}  // namespace tenure::qemu
