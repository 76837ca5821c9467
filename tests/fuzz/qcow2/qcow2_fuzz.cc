// SPDX-License-Identifier: Apache-2.0
// Any bytes as the head of a qcow2 image: refused, or an answer that keeps the format's own limits.
#include <cstdlib>

#include "qemu/image_qcow2.h"

using namespace tenure::qemu;

namespace {

void check(bool holds) {
  if (!holds)
    abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::span<const std::byte> head = std::as_bytes(std::span(data, size));
  size_t wanted = qcow2_head_size(head);
  check(wanted >= kMinQcow2Head && wanted <= kMaxQcow2Head);
  auto header = parse_qcow2_header(head);
  if (!header) {
    check(!header.error().what().empty());
    return 0;
  }
  check(header->version == 2 || header->version == 3);
  check(header->cluster_bits >= 9 && header->cluster_bits <= 21);
  check(header->backing_file.size() <= 1023 && header->backing_format.size() <= 15);
  check(!header->external_data || !header->data_file.empty());
  check(header->backing_file.size() + header->backing_format.size() <= size);
  check(header->backing_file.find('\0') == std::string::npos);
  return 0;
}
