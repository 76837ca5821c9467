// SPDX-License-Identifier: Apache-2.0
// Chains of images that qemu-img has made, and of images that it would never make.
#include "qemu/image.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "qemu/image_info.h"

namespace tenure::qemu {
namespace {

class ImageChainTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/guest_image_chain.XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder = name;
    if (access("/usr/bin/qemu-img", X_OK) != 0)
      GTEST_SKIP() << "qemu-img is not installed";
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  }

  // Runs qemu-img in the test's folder.
  void qemu_img(const std::string& arguments) {
    std::string line = "cd " + folder + " && /usr/bin/qemu-img " + arguments + " >/dev/null";
    ASSERT_EQ(system(line.c_str()), 0) << line;
  }
  // Replaces the first `from` in a file by `to`, of the same length.
  void patch(const std::string& name, std::string_view from, std::string_view to) {
    auto bytes = read_file(at(name), 1 << 20);
    ASSERT_TRUE(bytes);
    size_t mark = bytes->find(from);
    ASSERT_NE(mark, bytes->npos);
    bytes->replace(mark, from.size(), to);
    std::ofstream(at(name)) << *bytes;
  }
  void touch(const std::string& name) { std::ofstream(at(name)) << "raw"; }
  std::string at(const std::string& name) const { return folder + "/" + name; }
  // "top.qcow2 qcow2 w, base.raw raw", or the error; the folder's name left out.
  std::string chain(const std::string& name, const std::string& format, bool readonly = false) {
    auto images = read_chain(at(name), format, readonly);
    std::string text;
    if (!images) {
      code = images.error().code();
      text = images.error().what();
    } else {
      for (const Image& image : *images) {
        EXPECT_EQ(image.node.path, image.path);
        text += (text.empty() ? "" : ", ") + image.path + " " + image.format +
                (image.writable ? " w" : "") + (image.data_file ? " data" : "");
      }
    }
    for (size_t i; (i = text.find(folder + "/")) != text.npos;) text.erase(i, folder.size() + 1);
    return text;
  }

  std::string folder;
  Errc code = Errc::Internal;
};

TEST_F(ImageChainTest, RawIsNeverLookedInto) {
  qemu_img("create -f qcow2 -b /etc/passwd -F raw trap 1M");
  EXPECT_EQ(chain("trap", "raw"), "trap raw w");
  EXPECT_EQ(chain("trap", "raw", true), "trap raw");
}

TEST_F(ImageChainTest, OnlyTheTopIsWritable) {
  touch("base.raw");
  qemu_img("create -f qcow2 -b base.raw -F raw mid.qcow2 1M");
  qemu_img("create -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2 1M");
  EXPECT_EQ(chain("top.qcow2", "qcow2"), "top.qcow2 qcow2 w, mid.qcow2 qcow2, base.raw raw");
  EXPECT_EQ(chain("top.qcow2", "qcow2", true), "top.qcow2 qcow2, mid.qcow2 qcow2, base.raw raw");
}

TEST_F(ImageChainTest, OldVersionAndOddClustersAreRead) {
  touch("base.raw");
  qemu_img("create -f qcow2 -o compat=0.10 -b base.raw -F raw v2.qcow2 1M");
  EXPECT_EQ(chain("v2.qcow2", "qcow2"), "v2.qcow2 qcow2 w, base.raw raw");
  qemu_img("create -f qcow2 -o cluster_size=512 -b base.raw -F raw small.qcow2 1M");
  EXPECT_EQ(chain("small.qcow2", "qcow2"), "small.qcow2 qcow2 w, base.raw raw");
  qemu_img(
      "create -f qcow2 -o cluster_size=2M,extended_l2=on,compression_type=zstd "
      "-b base.raw -F raw large.qcow2 1M");
  EXPECT_EQ(chain("large.qcow2", "qcow2"), "large.qcow2 qcow2 w, base.raw raw");
}

TEST_F(ImageChainTest, RelativeNamesBelongToTheReferringImage) {
  std::filesystem::create_directories(folder + "/sub/deep");
  touch("base.raw");
  qemu_img("create -f qcow2 -b ../base.raw -F raw sub/mid.qcow2 1M");
  qemu_img("create -f qcow2 -b ../mid.qcow2 -F qcow2 sub/deep/top.qcow2 1M");
  EXPECT_EQ(chain("sub/deep/top.qcow2", "qcow2"),
            "sub/deep/top.qcow2 qcow2 w, sub/deep/../mid.qcow2 qcow2, "
            "sub/deep/../../base.raw raw");
}

TEST_F(ImageChainTest, DataFilesFollowTheirImage) {
  qemu_img("create -f qcow2 -o data_file=base.data base.qcow2 1M");
  qemu_img("create -f qcow2 -o data_file=top.data -b base.qcow2 -F qcow2 top.qcow2 1M");
  EXPECT_EQ(chain("top.qcow2", "qcow2"),
            "top.qcow2 qcow2 w, top.data raw w data, base.qcow2 qcow2, base.data raw data");
}

TEST_F(ImageChainTest, MissingFormatIsRefusedWithTheRemedy) {
  touch("base.raw");
  qemu_img("create -f qcow2 -u -b base.raw -F raw top.qcow2 1M");
  // Today's qemu-img always records one; images of its elders lie around without.
  patch("top.qcow2", "\xe2\x79\x2a\xca", "\x01\x02\x03\x04");
  std::string why = chain("top.qcow2", "qcow2");
  EXPECT_EQ(code, Errc::Invalid);
  EXPECT_EQ(why,
            "image top.qcow2: the format of backing file base.raw is not recorded; if it is raw: "
            "qemu-img rebase -u -f qcow2 -F raw -b base.raw top.qcow2");
}

TEST_F(ImageChainTest, MissingMemberNamesTheChainSoFar) {
  qemu_img("create -f qcow2 -u -b gone.raw -F raw mid.qcow2 1M");
  qemu_img("create -f qcow2 -u -b mid.qcow2 -F qcow2 top.qcow2 1M");
  std::string why = chain("top.qcow2", "qcow2");
  EXPECT_EQ(code, Errc::NotFound);
  EXPECT_TRUE(why.starts_with("image top.qcow2 -> mid.qcow2: gone.raw: ")) << why;
  EXPECT_TRUE(why.ends_with("No such file or directory")) << why;
  EXPECT_TRUE(chain("nothing", "qcow2").starts_with("image nothing: nothing: "));
  EXPECT_EQ(code, Errc::NotFound);
}

TEST_F(ImageChainTest, LoopsAreFoundUnderAnyName) {
  qemu_img("create -f qcow2 -u -b b.qcow2 -F qcow2 a.qcow2 1M");
  qemu_img("create -f qcow2 -u -b ./link.qcow2 -F qcow2 b.qcow2 1M");
  ASSERT_EQ(symlink("a.qcow2", at("link.qcow2").c_str()), 0);
  EXPECT_EQ(chain("a.qcow2", "qcow2"),
            "image a.qcow2 -> b.qcow2: ./link.qcow2: the chain comes back to this image");
  EXPECT_EQ(code, Errc::Invalid);
  qemu_img("create -f qcow2 -u -b ./self.qcow2 -F qcow2 self.qcow2 1M");
  EXPECT_EQ(chain("self.qcow2", "qcow2"),
            "image self.qcow2: ./self.qcow2: the chain comes back to this image");
}

TEST_F(ImageChainTest, ProtocolsAreNotFiles) {
  for (const char* name : {"nbd://host/export", "json:{\\\"driver\\\":\\\"file\\\"}", "nbd:x:1",
                           "fat:/etc", "http://x/y"}) {
    qemu_img("create -f qcow2 -u -b '" + std::string(name) + "' -F raw top.qcow2 1M");
    EXPECT_TRUE(chain("top.qcow2", "qcow2").find("is not a file but a") != std::string::npos)
        << chain("top.qcow2", "qcow2");
    EXPECT_EQ(code, Errc::Unsupported) << name;
  }
}

TEST_F(ImageChainTest, WhatIsNotAnImageIsRefused) {
  EXPECT_EQ(chain("", "raw"), "image : : neither a regular file nor a block device");
  EXPECT_TRUE(chain("x", "").ends_with("its format is not declared, and it is never guessed"));
  EXPECT_TRUE(chain("x", "ext4\n").ends_with("format ext4\\x0A is not supported"));
  EXPECT_EQ(code, Errc::Unsupported);
  touch("short");
  EXPECT_EQ(chain("short", "qcow2"), "image short: not a qcow2 image");
  ASSERT_EQ(mkfifo(at("fifo").c_str(), 0600), 0);
  EXPECT_TRUE(chain("fifo", "qcow2").ends_with("neither a regular file nor a block device"));
  auto relative = read_chain("relative", "raw", true);
  ASSERT_FALSE(relative);
  EXPECT_EQ(relative.error().code(), Errc::Invalid);
  auto null = read_chain("/dev/null", "raw", true);
  ASSERT_FALSE(null);
  EXPECT_EQ(null.error().code(), Errc::Invalid);
}

TEST_F(ImageChainTest, EncryptionIsNamed) {
  qemu_img("create -f qcow2 e.qcow2 1M");
  // size, then crypt_method
  patch("e.qcow2", std::string_view("\0\0\0\0\0\x10\0\0\0\0\0\0", 12),
        std::string_view("\0\0\0\0\0\x10\0\0\0\0\0\2", 12));
  EXPECT_EQ(chain("e.qcow2", "qcow2"), "image e.qcow2: encrypted by LUKS, which is not supported");
  EXPECT_EQ(code, Errc::Unsupported);
}

TEST_F(ImageChainTest, TooLongAChainEnds) {
  qemu_img("create -f qcow2 -u -b 0000 -F qcow2 1 1M");
  // 201 copies of one image, each naming the next by a name of the same length.
  auto bytes = read_file(at("1"), 1 << 20);
  ASSERT_TRUE(bytes);
  size_t mark = bytes->rfind("0000");
  ASSERT_NE(mark, bytes->npos);
  for (size_t i = 1000; i <= 1000 + kMaxChainDepth; ++i) {
    bytes->replace(mark, 4, std::to_string(i + 1));
    std::ofstream(at(std::to_string(i))) << *bytes;
  }
  std::string why = chain("1000", "qcow2");
  EXPECT_TRUE(why.ends_with("1200: the chain is longer than 200 images")) << why.substr(0, 200);
}

TEST_F(ImageChainTest, OtherFormatsAreReadByQemuImg) {
  for (const char* format : {"vdi", "vpc", "vhdx", "parallels"}) {
    std::string name = std::string("disk.") + format;
    qemu_img("create -f " + std::string(format) + " " + name + " 1M");
    EXPECT_EQ(chain(name, format), name + " " + format + " w");
  }
  qemu_img("create -f vmdk base.vmdk 1M");
  qemu_img("create -f vmdk -b base.vmdk -F vmdk top.vmdk");
  EXPECT_EQ(chain("top.vmdk", "vmdk"), "top.vmdk vmdk w, base.vmdk vmdk");
  qemu_img("create -f vmdk -o subformat=twoGbMaxExtentFlat split.vmdk 1M");
  EXPECT_EQ(chain("split.vmdk", "vmdk"), "split.vmdk vmdk w, split-f001.vmdk raw w data");
  qemu_img("create -f qcow2 -b split.vmdk -F vmdk over.qcow2 1M");
  EXPECT_EQ(chain("over.qcow2", "qcow2"),
            "over.qcow2 qcow2 w, split.vmdk vmdk, split-f001.vmdk raw data");
  touch("bad.vdi");
  EXPECT_TRUE(chain("bad.vdi", "vdi").find("qemu-img: Could not open") != std::string::npos)
      << chain("bad.vdi", "vdi");
  EXPECT_EQ(code, Errc::Invalid);
}

TEST(ImageInfo, AnswersAreBounded) {
  EXPECT_FALSE(parse_image_info(""));
  EXPECT_FALSE(parse_image_info("[]"));
  EXPECT_FALSE(parse_image_info("{"));
  EXPECT_FALSE(parse_image_info(std::string(2 << 20, ' ')));
  EXPECT_FALSE(parse_image_info(std::string(100000, '[')));
  EXPECT_FALSE(parse_image_info(R"({"encrypted":true})"));
  EXPECT_FALSE(parse_image_info(R"({"format-specific":{"data":{"extents":5}}})"));
  EXPECT_FALSE(parse_image_info(R"({"format-specific":{"data":{"extents":[{}]}}})"));
  auto info = parse_image_info(
      R"({"encrypted":false,"backing-filename":"b","backing-filename-format":"raw",)"
      R"("format-specific":{"data":{"extents":[{"filename":"e"}]}}})");
  ASSERT_TRUE(info) << info.error().what();
  EXPECT_EQ(info->backing_file, "b");
  EXPECT_EQ(info->backing_format, "raw");
  EXPECT_EQ(info->extents, std::vector<std::string>{"e"});
}

}  // namespace
}  // namespace tenure::qemu
