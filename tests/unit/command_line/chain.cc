// SPDX-License-Identifier: Apache-2.0
// Images that join a chain, and those whose access changes.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "qemu/chain_commands.h"
#include "qemu/command_line.h"

namespace tenure::qemu {
namespace {

using nlohmann::json;

domain::Disk cached_disk() {
  domain::Disk disk;
  disk.info.alias = "virtio-disk0";
  disk.target = "vda";
  disk.cache = "none";
  disk.discard = "unmap";
  disk.detect_zeroes = "on";
  return disk;
}

ChainMember member_of(const std::string& format) {
  return new_member(cached_disk(), 2, "/a", format, {.type = kernel::FileType::Regular});
}

TEST(ChainCommands, ARawImageIsTheNodeOfItsFile) {
  EXPECT_TRUE(has_format_layer("qcow2"));
  EXPECT_FALSE(has_format_layer("raw"));
  const ChainMember raw = member_of("raw");
  EXPECT_EQ(raw.node, "virtio-disk0.2");
  EXPECT_EQ(raw.storage.name, raw.node);
  EXPECT_EQ(add_format(cached_disk(), raw).arguments,
            (json{{"driver", "file"},
                  {"filename", "/a"},
                  {"node-name", "virtio-disk0.2"},
                  {"discard", "unmap"},
                  {"detect-zeroes", "on"},
                  {"cache", {{"direct", true}, {"no-flush", false}}}}));
}

TEST(ChainCommands, EachNodeOfAnImageIsOpenedAnew) {
  const json raw = reopen(cached_disk(), member_of("raw"), "", false).arguments.at("options");
  ASSERT_EQ(raw.size(), 1U);
  EXPECT_EQ(raw[0].at("driver"), "file");
  EXPECT_EQ(raw[0].at("read-only"), true);
  EXPECT_FALSE(raw[0].contains("backing"));
  const json qcow2 =
      reopen(cached_disk(), member_of("qcow2"), "below", true).arguments.at("options");
  ASSERT_EQ(qcow2.size(), 2U);
  EXPECT_EQ(qcow2[0].at("backing"), "below");
  EXPECT_EQ(qcow2[0].at("file"), "virtio-disk0.2.storage");
  EXPECT_EQ(qcow2[1].at("node-name"), "virtio-disk0.2.storage");
}

}  // namespace
}  // namespace tenure::qemu
