// SPDX-License-Identifier: Apache-2.0
// Journal export and JSON: every line that comes out is one line and has the form of a record.
#include <cstdlib>

#include "reader/batch.h"
#include "reader/journal.h"

namespace {

void check(std::unique_ptr<tenure::reader::ByteStream> stream) {
  std::string out;
  char chunk[512];
  for (;;) {
    const auto got = stream->read(chunk, sizeof chunk);
    if (!got || *got == 0)
      break;
    out.append(chunk, *got);
  }
  if (!out.empty() && out.back() != '\n')
    std::abort();
  for (size_t at = 0; at < out.size(); at = out.find('\n', at) + 1) {
    if (out.compare(at, 5, "type=") != 0 && out.compare(at, 5, "node=") != 0)
      std::abort();
  }
  (void)tenure::reader::decode_block(out, {});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenure::reader;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check(journal_export_stream(text_stream(text), "fuzz"));
  check(journal_json_stream(text_stream(text), "fuzz"));
  return 0;
}
