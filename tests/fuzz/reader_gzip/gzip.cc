// SPDX-License-Identifier: Apache-2.0
// Whatever a file begins with: gzip and zstd framing, journal forms inside; bounded output, no
// crash.
#include "reader/byte_stream.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenure::reader;
  auto stream = open_content(text_stream({reinterpret_cast<const char*>(data), size}), "fuzz");
  if (!stream)
    return 0;
  char chunk[4096];
  constexpr size_t kEnough = 1 << 22;  // a bomb goes on for ever
  for (size_t total = 0; total < kEnough;) {
    const auto got = (*stream)->read(chunk, sizeof chunk);
    if (!got || *got == 0)
      break;
    total += *got;
  }
  return 0;
}
