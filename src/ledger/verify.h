// SPDX-License-Identifier: Apache-2.0
// Whether a ledger is what its key has signed: offline, without the private key, with read
// permission only. Every byte of every file that carries entries, hashes or signatures is checked
// against the others; docs/ledger-format.md says what no check of one copy can see (a whole older
// copy).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "ledger/hash.h"
#include "ledger/storage.h"

namespace tenure::ledger {

struct VerifyOptions {
  std::string vkey;  // the public key to trust, as in the .pub file
  // Checkpoints of this log seen before, elsewhere: the ledger must have grown from each of them.
  std::vector<std::string> known_checkpoints;
  // Called with each entry in order, pending ones too; an error is a problem of that entry. Begins
  // again at 0 if a live writer overtook the verification.
  std::function<Result<>(uint64_t index, std::string_view entry)> check_entry;
};

struct Problem {
  std::string where;              // file, relative to the ledger's folder
  std::optional<uint64_t> entry;  // the entry it concerns, or the first of those it may concern
  std::string what;
};

struct VerifyReport {
  static constexpr size_t kMaxProblems = 100;  // kept; all are counted

  std::string origin;
  uint64_t published = 0;    // entries under the checkpoint
  uint64_t size = 0;         // with the pending ones
  uint64_t checkpoints = 0;  // signed tree heads checked: current, kept, known
  uint64_t tiles = 0;        // files of tile/ checked
  Hash root{};               // of all `size` entries, as they are
  // An unfinished write at the very end, as a power cut leaves it: no whole frame follows, and
  // nobody was told that it was durable. Opening the ledger drops it. A flaw of the last frame made
  // on purpose looks the same, so the ledger is not called whole; it is no proof of tampering
  // either.
  uint64_t torn_bytes = 0;
  std::optional<uint64_t> first_bad_entry;
  uint64_t problem_count = 0;
  std::vector<Problem> problems;
  std::vector<std::string> notes;  // leftovers that nobody reads
  bool ok() const { return problem_count == 0 && torn_bytes == 0; }
  bool only_torn() const { return problem_count == 0 && torn_bytes > 0; }
};

// Errors are only for what prevents looking at all: no ledger (NotFound), no permission (Denied), a
// malformed key (Invalid), a writer that overtook each look (Busy). Thread-safe; beside a live
// writer it looks again where it was overtaken.
Result<VerifyReport> verify(const std::string& dir, const VerifyOptions& options);
Result<VerifyReport> verify_on(const Storage& storage, const VerifyOptions& options);

// For people, a line a fact, ending in a newline.
std::string to_text(const VerifyReport& report);

}  // namespace tenure::ledger
