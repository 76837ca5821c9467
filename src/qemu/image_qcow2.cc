// SPDX-License-Identifier: Apache-2.0
#include "qemu/image_qcow2.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <concepts>
#include <string_view>

namespace tenure::qemu {
namespace {

// Offsets and limits of the specification.
constexpr uint32_t kMagic = 0x514649fb;  // "QFI\xfb"
constexpr size_t kV2Length = 72, kV3Length = 104;
constexpr uint32_t kMinClusterBits = 9, kMaxClusterBits = 21;
constexpr uint32_t kMaxBackingName = 1023;
constexpr uint32_t kMaxRefcountOrder = 6;
constexpr uint32_t kMaxFormatName = 15;  // QEMU's BlockDriverState::backing_format holds 16
constexpr uint32_t kMaxDataName = 4095;  // PATH_MAX without its NUL

constexpr uint64_t kExternalData = 1 << 2;
constexpr uint64_t kKnownFeatures =
    0x1f;  // dirty, corrupt, data file, compression type, extended L2

constexpr uint32_t kExtensionEnd = 0, kExtensionFormat = 0xe2792aca, kExtensionData = 0x44415441;

constexpr std::array<std::string_view, 3> kCryptMethods{"none", "AES", "LUKS"};

// Big-endian; the caller has checked that it is there.
template <std::unsigned_integral Int>
Int get(std::span<const std::byte> bytes, size_t at) {
  Int value = 0;
  for (std::byte byte : bytes.subspan(at, sizeof(Int)))
    value = static_cast<Int>(value << 8 | std::to_integer<Int>(byte));
  return value;
}

std::string text(std::span<const std::byte> bytes) {
  std::string result(bytes.size(), '\0');
  std::ranges::transform(bytes, result.begin(),
                         [](std::byte byte) { return std::to_integer<char>(byte); });
  return result;
}

std::unexpected<Error> invalid(std::string what) {
  return fail(Errc::Invalid, std::move(what));
}

// A name of 1 to `max` bytes. QEMU would stop at a NUL and open something else than we looked at.
Result<std::string> name_of(std::span<const std::byte> bytes, size_t max, std::string_view what) {
  if (bytes.empty() || bytes.size() > max)
    return invalid(fmt::format("{} of {} bytes, allowed are 1 to {}", what, bytes.size(), max));
  std::string name = text(bytes);
  if (name.find('\0') != name.npos)
    return invalid(fmt::format("{} contains a NUL", what));
  return name;
}

struct Area {
  size_t extensions = 0;  // where they begin
  uint64_t backing_at = 0;
  uint32_t backing_length = 0;
};

Result<> check_crypt(uint32_t method) {
  if (method == 0)
    return {};
  if (method >= kCryptMethods.size())
    return invalid(fmt::format("encryption method {}", method));
  return fail(Errc::Unsupported,
              fmt::format("encrypted by {}, which is not supported", kCryptMethods[method]));
}

// What version 3 adds; `area.extensions` is set from header_length.
Result<> read_version_3(std::span<const std::byte> head, Qcow2Header& header, Area& area) {
  if (head.size() < kV3Length)
    return invalid("shorter than a version 3 header");
  uint64_t features = get<uint64_t>(head, 72);
  if (uint64_t unknown = features & ~kKnownFeatures; unknown != 0)
    return fail(Errc::Unsupported, fmt::format("unknown incompatible features {:#x}", unknown));
  header.external_data = (features & kExternalData) != 0;
  if (get<uint32_t>(head, 96) > kMaxRefcountOrder)
    return invalid(fmt::format("refcount_order {}", get<uint32_t>(head, 96)));
  area.extensions = get<uint32_t>(head, 100);
  if (area.extensions < kV3Length || area.extensions % 8 != 0)
    return invalid(fmt::format("header_length {}", area.extensions));
  return {};
}

Result<> read_extension(uint32_t type, std::span<const std::byte> data, Qcow2Header& header) {
  std::string* target = type == kExtensionFormat ? &header.backing_format
                        : type == kExtensionData ? &header.data_file
                                                 : nullptr;
  if (target == nullptr)
    return {};
  if (!target->empty())
    return invalid(fmt::format("two header extensions {:#x}", type));
  bool is_format = type == kExtensionFormat;
  TRY(*target, name_of(data, is_format ? kMaxFormatName : kMaxDataName,
                       is_format ? "backing format" : "data file name"));
  return {};
}

// From `at` up to `end`, both within `head`. Each step goes forward by 8 bytes at least.
Result<> read_extensions(std::span<const std::byte> head, size_t at, size_t end,
                         Qcow2Header& header) {
  while (at < end) {
    if (end - at < 8)
      return invalid("a header extension is cut off");
    uint32_t type = get<uint32_t>(head, at);
    uint32_t length = get<uint32_t>(head, at + 4);
    at += 8;
    if (type == kExtensionEnd)
      return {};
    if (length > end - at)
      return invalid(
          fmt::format("header extension {:#x} of {} bytes goes beyond its area", type, length));
    TRY_OK(read_extension(type, head.subspan(at, length), header));
    at += std::min<size_t>((size_t{length} + 7) & ~size_t{7}, end - at);
  }
  return {};
}

Result<> read_backing_name(std::span<const std::byte> head, size_t cluster, const Area& area,
                           Qcow2Header& header) {
  // QEMU takes the undefined combination of an offset with an empty name for no backing file.
  if (area.backing_at == 0 || area.backing_length == 0)
    return {};
  if (area.backing_length > kMaxBackingName)
    return invalid(fmt::format("backing file name of {} bytes", area.backing_length));
  if (area.backing_at < area.extensions || area.backing_at > cluster ||
      area.backing_length > cluster - area.backing_at)
    return invalid("the backing file name lies outside of the header cluster");
  TRY(header.backing_file, name_of(head.subspan(area.backing_at, area.backing_length),
                                   kMaxBackingName, "backing file name"));
  return {};
}

}  // namespace

size_t qcow2_head_size(std::span<const std::byte> head) {
  if (head.size() < kV2Length || get<uint32_t>(head, 0) != kMagic)
    return kMinQcow2Head;
  uint32_t bits = get<uint32_t>(head, 20);
  return bits > kMaxClusterBits ? kMinQcow2Head : std::max(kMinQcow2Head, size_t{1} << bits);
}

Result<Qcow2Header> parse_qcow2_header(std::span<const std::byte> head) {
  if (head.size() < kV2Length || get<uint32_t>(head, 0) != kMagic)
    return invalid("not a qcow2 image");
  Qcow2Header header;
  header.version = get<uint32_t>(head, 4);
  if (header.version != 2 && header.version != 3)
    return fail(Errc::Unsupported, fmt::format("qcow2 version {}", header.version));
  header.cluster_bits = get<uint32_t>(head, 20);
  if (header.cluster_bits < kMinClusterBits || header.cluster_bits > kMaxClusterBits)
    return invalid(fmt::format("cluster_bits {}", header.cluster_bits));
  header.virtual_size = get<uint64_t>(head, 24);
  TRY_OK(check_crypt(get<uint32_t>(head, 32)));

  Area area{.extensions = kV2Length,
            .backing_at = get<uint64_t>(head, 8),
            .backing_length = get<uint32_t>(head, 16)};
  if (header.version >= 3)
    TRY_OK(read_version_3(head, header, area));
  size_t cluster = std::min(head.size(), size_t{1} << header.cluster_bits);
  if (area.extensions > cluster)
    return invalid("the header is longer than its cluster");
  TRY_OK(read_backing_name(head, cluster, area, header));
  size_t end = area.backing_at != 0 ? std::min<uint64_t>(area.backing_at, cluster) : cluster;
  TRY_OK(read_extensions(head, area.extensions, end, header));
  if (header.external_data && header.data_file.empty())
    return invalid("an external data file without a name");
  return header;
}

}  // namespace tenure::qemu
