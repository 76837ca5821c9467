// SPDX-License-Identifier: Apache-2.0
#include "ledger/archive.h"

namespace tenure::ledger {
namespace {

// Of signed-note and tlog-checkpoint: three newlines and 44 characters of root hash in the text;
// then an empty line, em dash (3 bytes), two spaces, 92 characters of key id and signature,
// newline.
constexpr uint64_t kFixed = 3 + 44 + 1 + 3 + 2 + 92 + 1;

}  // namespace

uint64_t checkpoint_note_size(std::string_view origin, uint64_t size) {
  uint64_t digits = 1;
  for (; size >= 10; size /= 10) ++digits;
  return kFixed + 2 * origin.size() + digits;  // the origin is the key's name too
}

uint64_t archive_offset(std::string_view origin, uint64_t count) {
  uint64_t total = count * checkpoint_note_size(origin, 0);  // with one digit each
  // One more for each size that has at least two digits, three digits, …
  uint64_t last = count * kArchiveStep;
  for (uint64_t power = 10; power <= last; power *= 10) {
    uint64_t below = (power - 1) / kArchiveStep;  // sizes with fewer digits
    total += count - below;
    if (power > UINT64_MAX / 10)
      break;
  }
  return total;
}

}  // namespace tenure::ledger
