// SPDX-License-Identifier: Apache-2.0
// Any bytes as the head of a saved guest: refused, or a head that is written again as it was read.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "guest/change/save_header.h"

using namespace tenure::guest;

namespace {

void check(bool holds) {
  if (!holds)
    abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  auto wanted = save_head_size(bytes);
  check(!wanted || (*wanted >= kSaveAlign && *wanted <= kMaxSaveHead));
  auto header = decode_save_header(bytes);
  if (!header)
    return 0;
  check(size == *wanted && header->meta.size() < size);
  auto again = encode_save_header(*header);
  check(again && decode_save_header(*again)->meta == header->meta);
  return 0;
}
