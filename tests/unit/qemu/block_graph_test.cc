// SPDX-License-Identifier: Apache-2.0
// Chains are read from QEMU's own graph: through filters, in its order, with what is left over.
#include "qemu/block_graph.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>

namespace tenure::qemu {
namespace {

using nlohmann::json;

struct Node {
  std::string name, driver, path;
  bool readonly = false;
};

// QEMU's two answers about nodes, edges and what stands above them.
struct Qemu {
  std::vector<Node> nodes;
  std::vector<std::array<std::string, 3>> edges;  // parent, name, child
  std::vector<std::pair<std::string, std::string>> others = {
      {"/machine/peripheral/virtio-disk0/virtio-backend", "block-backend"}};

  json graph() const {
    json all = {{"nodes", json::array()}, {"edges", json::array()}};
    std::map<std::string, int> ids;
    const auto add = [&](const std::string& name, const std::string& type) {
      ids[name] = static_cast<int>(ids.size()) + 1;
      all["nodes"].push_back({{"id", ids[name]}, {"name", name}, {"type", type}});
    };
    for (const Node& node : nodes) add(node.name, "block-driver");
    for (const auto& [name, type] : others) add(name, type);
    for (const auto& [parent, name, child] : edges)
      all["edges"].push_back(
          {{"parent", ids.at(parent)}, {"name", name}, {"child", ids.at(child)}});
    return all;
  }

  json named() const {
    json all = json::array();
    for (const Node& node : nodes)
      all.push_back({{"node-name", node.name},
                     {"drv", node.driver},
                     {"file", node.path},
                     {"ro", node.readonly},
                     {"image", {{"virtual-size", 4096}}}});
    return all;
  }
};

domain::Disk disk() {
  domain::Disk disk;
  disk.info.alias = "virtio-disk0";
  disk.target = "vda";
  return disk;
}

constexpr char kDevice[] = "/machine/peripheral/virtio-disk0/virtio-backend";

// Two images; .3 is left over from a snapshot that failed.
Qemu two_images() {
  Qemu q;
  q.nodes = {{"virtio-disk0.0.storage", "file", "/a/base", true},
             {"virtio-disk0.0", "raw", "json:{}", true},
             {"virtio-disk0.2.storage", "file", "/a/top"},
             {"virtio-disk0.2", "qcow2", "json:{}"},
             {"virtio-disk0.3.storage", "file", "/a/left"},
             {"virtio-disk0.3", "qcow2", "/a/left"},
             {"virtio-disk00.0", "raw", "/other"}};
  q.edges = {{"virtio-disk0.0", "file", "virtio-disk0.0.storage"},
             {"virtio-disk0.2", "file", "virtio-disk0.2.storage"},
             {"virtio-disk0.2", "backing", "virtio-disk0.0"},
             {"virtio-disk0.3", "file", "virtio-disk0.3.storage"},
             {kDevice, "root", "virtio-disk0.2"}};
  return q;
}

// QEMU names the backend of a part without an id by its path, any other by the device's own id.
TEST(BlockGraph, ADiskIsFoundByItsIdAsByItsPath) {
  for (const char* backend : {"virtio-disk0", "/machine/peripheral/virtio-disk0/x/y", kDevice}) {
    Qemu q;
    q.nodes = {{"virtio-disk0.0.storage", "file", "/a"}, {"virtio-disk0.0", "raw", "/a"}};
    q.others = {{"virtio-disk00", "block-backend"}, {backend, "block-backend"}};
    q.edges = {{"virtio-disk0.0", "file", "virtio-disk0.0.storage"},
               {backend, "root", "virtio-disk0.0"}};
    auto chain = disk_chain(q.graph(), q.named(), disk());
    ASSERT_TRUE(chain) << backend << ": " << chain.error().what();
    EXPECT_EQ(chain->root, "virtio-disk0.0");
  }
  Qemu q = two_images();
  q.others = {{"virtio-disk00", "block-backend"}};
  q.edges.clear();
  EXPECT_FALSE(disk_chain(q.graph(), q.named(), disk()));
}

TEST(BlockGraph, AChainIsTopFirst) {
  const Qemu q = two_images();
  auto chain = disk_chain(q.graph(), q.named(), disk());
  ASSERT_TRUE(chain) << chain.error().what();
  ASSERT_EQ(chain->members.size(), 2U);
  EXPECT_EQ(chain->members[0].storage.path, "/a/top");
  EXPECT_EQ(chain->members[0].format, "qcow2");
  EXPECT_EQ(chain->members[0].size, 4096U);
  EXPECT_EQ(chain->members[1].storage.path, "/a/base");
  EXPECT_TRUE(chain->members[1].storage.readonly);
  EXPECT_EQ(chain->root, "virtio-disk0.2");
  EXPECT_EQ(chain->next, 4U);
}

// As guests have it that an older tenured started, and as they have it now.
TEST(BlockGraph, ARawImageIsTheNodeOfItsFileOrOneAboveIt) {
  Qemu above = two_images();
  Qemu one = two_images();
  one.nodes[0] = {"virtio-disk0.0", "file", "/a/base", true};
  one.nodes.erase(one.nodes.begin() + 1);
  one.edges.erase(one.edges.begin());
  for (const Qemu* q : {&above, &one}) {
    auto chain = disk_chain(q->graph(), q->named(), disk());
    ASSERT_TRUE(chain) << chain.error().what();
    ASSERT_EQ(chain->members.size(), 2U);
    const ChainMember& base = chain->members[1];
    EXPECT_EQ(base.node, "virtio-disk0.0");
    EXPECT_EQ(base.format, "raw");
    EXPECT_EQ(base.storage.path, "/a/base");
    EXPECT_EQ(base.storage.driver, "file");
    EXPECT_TRUE(base.storage.readonly);
    EXPECT_EQ(base.storage.name, q == &one ? "virtio-disk0.0" : "virtio-disk0.0.storage");
  }
}

TEST(BlockGraph, WhatNobodyUsesIsStrayAndGoesTopDown) {
  const Qemu q = two_images();
  auto chain = disk_chain(q.graph(), q.named(), disk());
  ASSERT_TRUE(chain);
  EXPECT_EQ(chain->strays, (std::vector<std::string>{"virtio-disk0.3", "virtio-disk0.3.storage"}));
}

TEST(BlockGraph, OfADeviceThatIsGoneAllIsStray) {
  Qemu q = two_images();
  q.others.clear();
  q.edges.pop_back();
  EXPECT_FALSE(disk_chain(q.graph(), q.named(), disk()));
  auto strays = stray_nodes(q.graph(), q.named(), disk());
  ASSERT_TRUE(strays);
  ASSERT_EQ(strays->size(), 6U);
  const auto at = [&](const char* name) { return std::ranges::find(*strays, name); };
  EXPECT_LT(at("virtio-disk0.2"), at("virtio-disk0.0"));
  EXPECT_LT(at("virtio-disk0.0"), at("virtio-disk0.0.storage"));
}

TEST(BlockGraph, FiltersAreSeenThroughAndJobsHoldTheirTarget) {
  Qemu q = two_images();
  q.nodes.push_back({"#block12", "mirror_top", "json:{}"});
  q.others.emplace_back("job-virtio-disk0", "block-job");
  q.edges.back() = {kDevice, "root", "#block12"};
  q.edges.push_back({"#block12", "backing", "virtio-disk0.2"});
  q.edges.push_back({"job-virtio-disk0", "target", "virtio-disk0.3"});
  auto chain = disk_chain(q.graph(), q.named(), disk());
  ASSERT_TRUE(chain) << chain.error().what();
  EXPECT_EQ(chain->root, "#block12");
  ASSERT_EQ(chain->members.size(), 2U);
  EXPECT_EQ(chain->members[0].node, "virtio-disk0.2");
  EXPECT_TRUE(chain->strays.empty());
}

TEST(BlockGraph, AnswersThatLieAreErrors) {
  Qemu q = two_images();
  // A chain that bites its tail ends at a bound.
  q.edges.push_back({"virtio-disk0.0", "backing", "virtio-disk0.2"});
  auto chain = disk_chain(q.graph(), q.named(), disk());
  ASSERT_TRUE(chain);
  EXPECT_LE(chain->members.size(), kMaxChainDepth);
  json graph = q.graph();
  graph["edges"].push_back({{"parent", 1}, {"name", "file"}, {"child", 4711}});
  EXPECT_FALSE(stray_nodes(graph, q.named(),
                           [] {
                             domain::Disk other = disk();
                             other.info.alias = "nothing";
                             return other;
                           }()) &&
               disk_chain(json::array(), q.named(), disk()));
  auto wrong = disk_chain(json{{"nodes", 1}}, q.named(), disk());
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code(), Errc::Corrupt);
}

}  // namespace
}  // namespace tenure::qemu
