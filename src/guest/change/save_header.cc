// SPDX-License-Identifier: Apache-2.0
#include "guest/change/save_header.h"

#include <fmt/format.h>

#include "ledger/hash.h"

namespace tenure::guest {
namespace {

// docs/save-format.md; all numbers little-endian.
constexpr std::string_view kMagic{"TenureSavedGuest", 16};
constexpr uint32_t kVersion = 1;
constexpr size_t kVersionAt = 16, kHeadSizeAt = 20, kStateAt = 24, kMetaSizeAt = 28;
constexpr size_t kStreamSizeAt = 32, kHashAt = 40, kMetaAt = 72;
constexpr size_t kHashSize = 32;
constexpr uint32_t kPartial = 0, kComplete = 1;

void put(std::string& head, size_t at, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) head[at + i] = static_cast<char>(value >> (8U * i));
}

uint64_t get(std::string_view head, size_t at, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = bytes; i-- > 0;) value = value << 8U | static_cast<uint8_t>(head[at + i]);
  return value;
}

// Over the head with zeros in its place.
ledger::Hash checksum(std::string head) {
  head.replace(kHashAt, kHashSize, kHashSize, '\0');
  return ledger::sha256(head);
}

}  // namespace

Result<std::string> encode_save_header(const SaveHeader& header) {
  if (header.meta.size() > kMaxSaveHead - kSaveAlign)
    return fail(Errc::Invalid,
                fmt::format("the description of the guest has {} bytes", header.meta.size()));
  size_t size = (kMetaAt + header.meta.size() + kSaveAlign - 1) / kSaveAlign * kSaveAlign;
  std::string head(size, '\0');
  head.replace(0, kMagic.size(), kMagic);
  put(head, kVersionAt, kVersion, 4);
  put(head, kHeadSizeAt, size, 4);
  put(head, kStateAt, header.complete ? kComplete : kPartial, 4);
  put(head, kMetaSizeAt, header.meta.size(), 4);
  put(head, kStreamSizeAt, header.stream_size, 8);
  head.replace(kMetaAt, header.meta.size(), header.meta);
  ledger::Hash hash = checksum(head);
  head.replace(kHashAt, kHashSize, ledger::bytes_of(hash));
  return head;
}

Result<size_t> save_head_size(std::string_view first) {
  if (first.size() < kMetaAt || !first.starts_with(kMagic))
    return fail(Errc::Invalid, "no saved state of a guest");
  uint64_t version = get(first, kVersionAt, 4);
  if (version != kVersion)
    return fail(Errc::Unsupported, fmt::format("saved state of version {}, and this tenured knows "
                                               "version {}",
                                               version, kVersion));
  uint64_t size = get(first, kHeadSizeAt, 4);
  if (size < kSaveAlign || size > kMaxSaveHead || size % kSaveAlign != 0)
    return fail(Errc::Corrupt, fmt::format("a head of {} bytes", size));
  return static_cast<size_t>(size);
}

Result<SaveHeader> decode_save_header(std::string_view head) {
  TRY(size_t size, save_head_size(head));
  if (head.size() != size)
    return fail(Errc::Corrupt, fmt::format("{} bytes of a head of {}", head.size(), size));
  ledger::Hash hash = checksum(std::string(head));
  if (head.substr(kHashAt, kHashSize) != ledger::bytes_of(hash))
    return fail(Errc::Corrupt, "the checksum of the head is wrong");
  uint64_t state = get(head, kStateAt, 4), meta = get(head, kMetaSizeAt, 4);
  if (state > kComplete || meta > size - kMetaAt)
    return fail(Errc::Corrupt, fmt::format("state {}, {} bytes of meta", state, meta));
  return SaveHeader{.complete = state == kComplete,
                    .stream_size = get(head, kStreamSizeAt, 8),
                    .meta = std::string(head.substr(kMetaAt, meta))};
}

}  // namespace tenure::guest
