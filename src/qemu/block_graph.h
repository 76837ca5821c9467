// SPDX-License-Identifier: Apache-2.0
// The chain of images below a disk as QEMU has it now, by the names that we gave to its nodes. From
// two answers: x-debug-query-block-graph says how nodes hang together, which no stable command does
// (file names do not tell: QEMU makes "json:{…}" of some); query-named-block-nodes says what they
// are. Pure.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "domain/device.h"
#include "qemu/image.h"

namespace tenure::qemu {

// One open file below a format node, or that node itself (has_format_layer).
struct StorageNode {
  std::string name;
  std::string driver;  // "file", "host_device"
  std::string path;
  bool readonly = false;
};

struct ChainMember {
  std::string node;
  std::string format;  // "raw", "qcow2"
  StorageNode storage;
  std::optional<StorageNode> data;  // external data file
  uint64_t size = 0;                // of the disk that it is, bytes
};

struct DiskChain {
  std::string root;                  // what the device uses: the top member, or a filter above it
  std::vector<ChainMember> members;  // top first; empty for a drive without a medium
  // Nodes of this disk's names that neither its device nor a block job has, in an order in which
  // they can be deleted.
  std::vector<std::string> strays;
  size_t next = 0;  // above the number of every node of this disk (format_node)
};

// The nodes of a disk whose device is gone, as DiskChain::strays. Corrupt.
Result<std::vector<std::string>> stray_nodes(const nlohmann::json& graph,
                                             const nlohmann::json& nodes, const domain::Disk& disk);

// NotFound if QEMU has no such device; Corrupt if an answer is not of its schema.
Result<DiskChain> disk_chain(const nlohmann::json& graph, const nlohmann::json& nodes,
                             const domain::Disk& disk);

// The member of a block job's `target` edge, where QEMU has one; NotFound.
Result<ChainMember> job_target(const nlohmann::json& graph, const nlohmann::json& nodes,
                               const std::string& job);

}  // namespace tenure::qemu
