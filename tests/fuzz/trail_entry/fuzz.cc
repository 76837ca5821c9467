// SPDX-License-Identifier: Apache-2.0
// Any bytes as a ledger entry: refused, or exactly what encode_entry() writes of it; and what is
// taken is an audit line with the same body.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "trail/decode.h"
#include "trail/entry.h"

namespace {

void check(bool holds) {
  if (!holds)
    std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view line(reinterpret_cast<const char*>(data), size);
  auto entry = tenure::trail::decode_entry(line);
  if (!entry)
    return 0;
  check(tenure::trail::encode_entry(*entry) == line);
  auto view = tenure::trail::decode_line(line);
  if (!view)
    return 0;  // a serial beyond audit's, or a line too long for a log
  check(view->state == entry->state);
  check(view->sec * 1000 + view->ms == entry->time_ms && view->serial == entry->serial);
  // Bodies that we write are encoded; only others can hold what ends a line or begins a record.
  bool plain = entry->body.find_first_of("\n\r\x1D('\"") == entry->body.npos;
  check(!plain || view->body == entry->body);
  return 0;
}
