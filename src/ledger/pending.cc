// SPDX-License-Identifier: Apache-2.0
#include "ledger/pending.h"

#include <fmt/format.h>
#include <zlib.h>

#include "ledger/bytes.h"
#include "ledger/tile.h"

namespace tenure::ledger {
namespace {

constexpr size_t kPrefix = 8;  // length and checksum

uint64_t get(std::string_view bytes, size_t offset, size_t count) {
  return get_big_endian(bytes.substr(offset, count));
}

// CRC-32 of IEEE 802.3 over length and body: tells a torn write. Truth is the signature's business.
uint32_t checksum(std::string_view length, std::string_view body) {
  auto add = [](uLong crc, std::string_view bytes) {
    return crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
  };
  return static_cast<uint32_t>(add(add(crc32_z(0, nullptr, 0), length), body));
}

// Fills in all but `bytes`; false if they are not a whole, correct frame.
bool parse(Frame& frame) {
  std::string_view bytes = frame.bytes;
  std::string_view body = bytes.substr(kPrefix);
  if (get(bytes, 4, 4) != checksum(bytes.substr(0, 4), body))
    return false;
  frame.first = get(body, 0, 8);
  size_t count = get(body, 8, 4);
  body.remove_prefix(12);
  frame.signature = body.substr(body.size() - kSignatureSize);
  body.remove_suffix(kSignatureSize);
  auto entries = split_bundle(body, count);
  if (!entries || entries->empty() || frame.first > UINT64_MAX - count)
    return false;
  frame.entries = std::move(*entries);
  return true;
}

}  // namespace

std::string pending_path(size_t which) {
  return fmt::format("pending.{}", which);
}

std::string frame_text(std::string_view origin, uint64_t size, const Hash& root) {
  return fmt::format("tenure pending entries\n{}\n{}\n{}\n", origin, size,
                     base64_encode(bytes_of(root)));
}

std::string encode_frame(uint64_t first, uint32_t count, std::string_view payload,
                         std::string_view signature) {
  std::string length;
  put_big_endian(length, 12 + payload.size() + signature.size(), 4);
  std::string body;
  body.reserve(12 + payload.size() + signature.size());
  put_big_endian(body, first, 8);
  put_big_endian(body, count, 4);
  body.append(payload).append(signature);
  std::string frame = length;
  frame.reserve(kPrefix + body.size());
  put_big_endian(frame, checksum(length, body), 4);
  return frame.append(body);
}

Result<FrameReader> FrameReader::begin(const File& file) {
  TRY(std::string header, file.read_at(0, kPendingHeader.size()));
  FrameReader reader(file);
  if (header != kPendingHeader.substr(0, header.size()))
    return fail(Errc::Corrupt, "pending file: its first line is not that of this format");
  if (header.size() < kPendingHeader.size()) {
    reader.torn_ = header.size();
    return reader;
  }
  reader.offset_ = kPendingHeader.size();
  return reader;
}

Result<std::unique_ptr<Frame>> FrameReader::next() {
  TRY(uint64_t size, file_->size());
  if (offset_ < kPendingHeader.size() || size <= offset_)
    return nullptr;
  torn_ = size - offset_;
  TRY(std::string prefix, file_->read_at(offset_, kPrefix));
  if (prefix.size() < kPrefix)
    return nullptr;
  size_t length = get(prefix, 0, 4);
  if (length < kFrameOverhead - kPrefix || length > kMaxFrame - kPrefix || length > size - offset_)
    return nullptr;
  auto frame = std::make_unique<Frame>();
  TRY(frame->bytes, file_->read_at(offset_, kPrefix + length));
  if (frame->bytes.size() != kPrefix + length || !parse(*frame))
    return nullptr;
  offset_ += frame->bytes.size();
  torn_ = size - offset_;
  return frame;
}

Result<bool> frame_follows(const File& file, uint64_t offset) {
  TRY(uint64_t size, file.size());
  const uint64_t rest = size > offset ? size - offset : 0;
  if (rest > 2 * kMaxFrame)
    return true;
  TRY(std::string bytes, file.read_at(offset, static_cast<size_t>(rest)));
  for (size_t at = 1; at + kFrameOverhead < bytes.size(); ++at) {
    const size_t length = get(bytes, at, 4);
    if (length < kFrameOverhead - kPrefix || length > bytes.size() - at - kPrefix)
      continue;
    Frame frame;
    frame.bytes = bytes.substr(at, kPrefix + length);
    if (parse(frame))
      return true;
  }
  return false;
}

}  // namespace tenure::ledger
