// SPDX-License-Identifier: Apache-2.0
// The part of a qcow2 header that says which other files an image needs (docs/interop/qcow2.rst of
// QEMU). Pure: bytes in, values out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"

namespace tenure::qemu {

struct Qcow2Header {
  uint32_t version = 0;        // 2 or 3
  uint32_t cluster_bits = 0;   // 9 … 21
  uint64_t virtual_size = 0;   // bytes
  std::string backing_file;    // as recorded; "" for none
  std::string backing_format;  // "" if not recorded
  bool external_data = false;
  std::string data_file;  // as recorded; never "" if external_data
};

inline constexpr size_t kMinQcow2Head = 64UL << 10;  // bytes; the default cluster
inline constexpr size_t kMaxQcow2Head = 2UL << 20;   // bytes; the largest cluster that QEMU opens

// How many bytes of the file parse_qcow2_header() wants: the first cluster, at least kMinQcow2Head,
// at most kMaxQcow2Head. `head` are the first bytes of the file, as many as there are at hand.
size_t qcow2_head_size(std::span<const std::byte> head);

// `head`: the first qcow2_head_size() bytes, fewer if the file is shorter. Errors: Invalid for what
// breaks the specification, Unsupported for encryption, other versions and unknown incompatible
// features.
Result<Qcow2Header> parse_qcow2_header(std::span<const std::byte> head);

}  // namespace tenure::qemu
