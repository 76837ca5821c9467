// SPDX-License-Identifier: Apache-2.0
#include "qemu/chain_commands.h"

#include <nlohmann/json.hpp>

#include "qemu/command_line_parts.h"
#include "qemu/image.h"

namespace tenure::qemu {
namespace {

using domain::Disk;
using nlohmann::json;

json storage_options(const Disk& disk, const StorageNode& storage, bool writable) {
  Json options = disk_storage(disk, storage.driver, storage.path, writable);
  return json::parse(options.text("node-name", storage.name).str());
}

bool is_one_node(const ChainMember& member) {
  return member.node == member.storage.name;
}

json format_options(const Disk& disk, const ChainMember& member, bool writable) {
  if (is_one_node(member))
    return storage_options(disk, member.storage, writable);
  Json options("driver", member.format);
  options.text("node-name", member.node).flag("read-only", !writable);
  options.maybe("discard", disk.discard);
  add_disk_cache(options, disk);
  options.text("file", member.storage.name);
  if (member.data)
    options.text("data-file", member.data->name);
  return json::parse(options.str());
}

}  // namespace

ChainMember new_member(const Disk& disk, size_t number, const std::string& path,
                       const std::string& format, const kernel::NodeFacts& facts) {
  const bool is_block = facts.type == kernel::FileType::Block;
  return {.node = format_node(disk, number),
          .format = format,
          .storage = {.name = has_format_layer(format) ? storage_node(disk, number)
                                                       : format_node(disk, number),
                      .driver = storage_driver(is_block, path, facts.rdev),
                      .path = path},
          .data = {}};
}

Command add_storage(const Disk& disk, const ChainMember& member) {
  return {"blockdev-add", storage_options(disk, member.storage, true)};
}

Command add_format(const Disk& disk, const ChainMember& member) {
  json options = format_options(disk, member, true);
  if (!disk.detect_zeroes.empty())
    options["detect-zeroes"] = disk.detect_zeroes;
  if (member.format == "qcow2" && disk.metadata_cache_bytes)
    options["cache-size"] = *disk.metadata_cache_bytes;
  if (may_have_backing(member.format))
    options["backing"] = nullptr;
  return {"blockdev-add", std::move(options)};
}

Command create_image(const std::string& job, const ChainMember& member, uint64_t size,
                     const ChainMember* backing) {
  json options = {{"driver", member.format}, {"file", member.storage.name}, {"size", size}};
  if (backing != nullptr) {
    options["backing-file"] = backing->storage.path;
    options["backing-fmt"] = backing->format;
  }
  return {"blockdev-create", {{"job-id", job}, {"options", std::move(options)}}};
}

json snapshot_action(const ChainMember& top, const ChainMember& overlay) {
  return {{"type", "blockdev-snapshot"}, {"data", {{"node", top.node}, {"overlay", overlay.node}}}};
}

Command reopen(const Disk& disk, const ChainMember& member, const std::string& backing,
               bool writable) {
  json format = format_options(disk, member, writable);
  if (!backing.empty())
    format["backing"] = backing;
  else if (may_have_backing(member.format))
    format["backing"] = nullptr;
  json files = json::array();
  if (!is_one_node(member))
    files.push_back(storage_options(disk, member.storage, writable));
  if (member.data)
    files.push_back(storage_options(disk, *member.data, writable));
  // One step for QEMU, in the order in which the access is needed.
  json options = json::array({std::move(format)});
  for (json& file : files) options.push_back(std::move(file));
  return {"blockdev-reopen", {{"options", std::move(options)}}};
}

}  // namespace tenure::qemu
