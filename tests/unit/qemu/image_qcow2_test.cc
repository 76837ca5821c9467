// SPDX-License-Identifier: Apache-2.0
// Hand-made qcow2 headers, sound and hostile.
#include "qemu/image_qcow2.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

namespace tenure::qemu {
namespace {

// A header that is built field by field.
struct Head {
  std::vector<std::byte> bytes = std::vector<std::byte>(65536);

  Head() {
    put(0, 0x514649fb, 4);
    put(4, 3, 4);
    put(20, 16, 4);
    put(24, 1 << 30, 8);
    put(96, 4, 4);
    put(100, 104, 4);
  }
  Head& put(size_t at, uint64_t value, size_t width) {
    for (size_t i = 0; i < width; ++i)
      bytes[at + i] = static_cast<std::byte>(value >> (8 * (width - 1 - i)));
    return *this;
  }
  Head& text(size_t at, std::string_view value) {
    memcpy(bytes.data() + at, value.data(), value.size());
    return *this;
  }
  Head& backing(uint64_t at, std::string_view name) {
    return put(8, at, 8).put(16, name.size(), 4).text(at, name);
  }
  // Returns where the next one goes.
  size_t extension(size_t at, uint32_t type, std::string_view value) {
    put(at, type, 4).put(at + 4, value.size(), 4).text(at + 8, value);
    return at + 8 + (value.size() + 7) / 8 * 8;
  }
  std::string why() const {
    auto header = parse_qcow2_header(bytes);
    return header ? "(accepted)" : header.error().what();
  }
};

constexpr uint32_t kFormat = 0xe2792aca, kData = 0x44415441;

TEST(Qcow2, PlainImageNeedsNothing) {
  auto header = parse_qcow2_header(Head().bytes);
  ASSERT_TRUE(header) << header.error().what();
  EXPECT_EQ(header->version, 3U);
  EXPECT_EQ(header->cluster_bits, 16U);
  EXPECT_EQ(header->virtual_size, 1U << 30);
  EXPECT_EQ(header->backing_file, "");
  EXPECT_FALSE(header->external_data);
}

TEST(Qcow2, BackingFileAndFormatAreFound) {
  for (uint64_t version : {2U, 3U}) {
    Head head;
    head.put(4, version, 4);
    size_t at = version == 2 ? 72 : 104;
    if (version == 2)
      std::fill_n(head.bytes.begin() + 72, 32, std::byte{0});
    at = head.extension(at, 0x6803f857, "feature names, of no interest");
    at = head.extension(at, kFormat, "raw");
    at = head.extension(at, 0, "");
    head.backing(at, "base.raw");
    auto header = parse_qcow2_header(head.bytes);
    ASSERT_TRUE(header) << header.error().what();
    EXPECT_EQ(header->version, version);
    EXPECT_EQ(header->backing_file, "base.raw");
    EXPECT_EQ(header->backing_format, "raw");
  }
}

TEST(Qcow2, ExtensionsMayFillTheirAreaWithoutAnEnd) {
  Head head;
  size_t at = head.extension(104, kFormat, "qcow2");
  head.backing(at, "b");
  auto header = parse_qcow2_header(head.bytes);
  ASSERT_TRUE(header) << header.error().what();
  EXPECT_EQ(header->backing_format, "qcow2");
}

TEST(Qcow2, ExternalDataFileIsFound) {
  Head head;
  head.put(72, 4, 8);
  EXPECT_EQ(head.why(), "an external data file without a name");
  head.extension(104, kData, "data.raw");
  auto header = parse_qcow2_header(head.bytes);
  ASSERT_TRUE(header) << header.error().what();
  EXPECT_TRUE(header->external_data);
  EXPECT_EQ(header->data_file, "data.raw");
}

struct Case {
  std::function<void(Head&)> spoil;
  const char* why;
  Errc code = Errc::Invalid;
};

TEST(Qcow2, HostileHeadersAreRefused) {
  const Case cases[] = {
      {[](Head& h) { h.bytes.clear(); }, "not a qcow2 image"},
      {[](Head& h) { h.bytes.resize(71); }, "not a qcow2 image"},
      {[](Head& h) { h.put(0, 0x514649fa, 4); }, "not a qcow2 image"},
      {[](Head& h) { h.bytes.resize(103); }, "shorter than a version 3 header"},
      {[](Head& h) { h.put(4, 1, 4); }, "qcow2 version 1", Errc::Unsupported},
      {[](Head& h) { h.put(4, 4, 4); }, "qcow2 version 4", Errc::Unsupported},
      {[](Head& h) { h.put(20, 8, 4); }, "cluster_bits 8"},
      {[](Head& h) { h.put(20, 22, 4); }, "cluster_bits 22"},
      {[](Head& h) { h.put(20, 0xffffffff, 4); }, "cluster_bits 4294967295"},
      {[](Head& h) { h.put(32, 1, 4); }, "encrypted by AES, which is not supported",
       Errc::Unsupported},
      {[](Head& h) { h.put(32, 2, 4); }, "encrypted by LUKS, which is not supported",
       Errc::Unsupported},
      {[](Head& h) { h.put(32, 3, 4); }, "encryption method 3"},
      {[](Head& h) { h.put(72, 0x20, 8); }, "unknown incompatible features 0x20",
       Errc::Unsupported},
      {[](Head& h) { h.put(72, 1ULL << 63, 8); },
       "unknown incompatible features 0x8000000000000000", Errc::Unsupported},
      {[](Head& h) { h.put(96, 7, 4); }, "refcount_order 7"},
      {[](Head& h) { h.put(100, 103, 4); }, "header_length 103"},
      {[](Head& h) { h.put(100, 72, 4); }, "header_length 72"},
      {[](Head& h) { h.put(100, 0xfffffff8, 4); }, "the header is longer than its cluster"},
      {[](Head& h) { h.put(20, 9, 4).put(100, 520, 4); }, "the header is longer than its cluster"},
      {[](Head& h) { h.backing(200, std::string(1024, 'x')); }, "backing file name of 1024 bytes"},
      {[](Head& h) { h.put(8, 200, 8).put(16, 0xffffffff, 4); },
       "backing file name of 4294967295 bytes"},
      {[](Head& h) { h.put(8, 64, 8).put(16, 5, 4); },
       "the backing file name lies outside of the header cluster"},
      {[](Head& h) { h.put(8, 65534, 8).put(16, 5, 4); },
       "the backing file name lies outside of the header cluster"},
      {[](Head& h) { h.put(8, ~0ULL, 8).put(16, 5, 4); },
       "the backing file name lies outside of the header cluster"},
      {[](Head& h) { h.put(20, 9, 4).put(8, 510, 8).put(16, 5, 4); },
       "the backing file name lies outside of the header cluster"},
      {[](Head& h) { h.bytes.resize(300), h.put(8, 298, 8).put(16, 5, 4); },
       "the backing file name lies outside of the header cluster"},
      {[](Head& h) { h.backing(200, std::string_view("a\0b", 3)); },
       "backing file name contains a NUL"},
      {[](Head& h) { h.extension(104, kFormat, ""); },
       "backing format of 0 bytes, allowed are 1 to 15"},
      {[](Head& h) { h.extension(104, kFormat, std::string(16, 'x')); },
       "backing format of 16 bytes, allowed are 1 to 15"},
      {[](Head& h) { h.extension(104, kFormat, std::string_view("raw\0", 4)); },
       "backing format contains a NUL"},
      {[](Head& h) { h.extension(104, kData, std::string(4096, 'x')); },
       "data file name of 4096 bytes, allowed are 1 to 4095"},
      {[](Head& h) { h.extension(h.extension(104, kFormat, "raw"), kFormat, "qcow2"); },
       "two header extensions 0xe2792aca"},
      {[](Head& h) { h.put(104, 77, 4).put(108, 0xffffffff, 4); },
       "header extension 0x4d of 4294967295 bytes goes beyond its area"},
      {[](Head& h) { h.put(104, 77, 4).put(108, 65536 - 112 + 1, 4); },
       "header extension 0x4d of 65425 bytes goes beyond its area"},
      {[](Head& h) { h.backing(116, "b").put(104, 77, 4).put(108, 5, 4); },
       "header extension 0x4d of 5 bytes goes beyond its area"},
      {[](Head& h) { h.backing(117, "b").put(104, 77, 4); }, "a header extension is cut off"},
  };
  for (const Case& c : cases) {
    Head head;
    c.spoil(head);
    auto header = parse_qcow2_header(head.bytes);
    ASSERT_FALSE(header) << c.why;
    EXPECT_EQ(header.error().what(), c.why);
    EXPECT_EQ(header.error().code(), c.code) << c.why;
  }
}

TEST(Qcow2, EndOfTheFirstClusterIsStillInside) {
  Head head;
  head.backing(65536 - 5, "x.raw");
  EXPECT_EQ(head.why(), "(accepted)");
}

TEST(Qcow2, AnyCutIsAnErrorOrAnAnswerNeverACrash) {
  Head head;
  head.put(72, 4, 8);
  size_t at = head.extension(104, kData, "data.raw");
  at = head.extension(at, kFormat, "qcow2");
  head.backing(at + 8, "base");
  for (size_t size = 0; size < 256; ++size) {
    auto cut = head.bytes;
    cut.resize(size);
    auto header = parse_qcow2_header(cut);
    EXPECT_EQ(header.has_value(), size >= at + 12) << size;
  }
}

TEST(Qcow2, HeadSizeFollowsTheCluster) {
  EXPECT_EQ(qcow2_head_size({}), kMinQcow2Head);
  Head head;
  EXPECT_EQ(qcow2_head_size(head.bytes), 64U << 10);
  head.put(20, 9, 4);
  EXPECT_EQ(qcow2_head_size(head.bytes), 64U << 10);
  head.put(20, 21, 4);
  EXPECT_EQ(qcow2_head_size(head.bytes), kMaxQcow2Head);
  head.put(20, 63, 4);
  EXPECT_EQ(qcow2_head_size(head.bytes), kMinQcow2Head);
}

}  // namespace
}  // namespace tenure::qemu
