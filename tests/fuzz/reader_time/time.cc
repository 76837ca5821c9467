// SPDX-License-Identifier: Apache-2.0
// Time words: whatever is typed is a time within bounds or an error, and what we print can be read.
#include <cstdlib>

#include "reader/time_words.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenure::reader;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const TimeContext context{
      .now_ms = 1751461445678, .zone = fixed_zone(7200), .boot_ms = 1751400000000};
  const auto time = parse_time(text, context);
  if (!time)
    return 0;
  const auto again = parse_time(format_time(*time, context.zone), context);
  if (!again || *again != *time)
    std::abort();
  return 0;
}
