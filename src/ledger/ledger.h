// SPDX-License-Identifier: Apache-2.0
// The append-only, signed log of the trail (C2SP tlog-tiles layout, RFC 6962 hashing, Ed25519
// signed-note checkpoints). Entries are opaque bytes here. Formats: docs/ledger-format.md.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace tenure::ledger {

inline constexpr size_t kMaxEntry = 65535;  // tlog-tiles entry bundles: uint16 length

struct LedgerOptions {
  std::string dir;       // made if missing, 0700
  std::string key_path;  // Ed25519 private key, made 0600 at first use; the public key beside it as
                         // <key_path>.pub
  std::string origin;    // first line of the checkpoint, e.g. "tenure/<machine-id>"
};

// The writer. One process at a time (flock). Thread-safe: concurrent append() calls share one fsync
// (group commit).
class Ledger {
 public:
  // Opens or makes it, and mends the tail that a crash left: complete entries are kept, a torn one
  // is dropped.
  static Result<std::unique_ptr<Ledger>> open(const LedgerOptions& options);
  virtual ~Ledger() = default;

  // Blocks until the entries are durable (fsync); they get consecutive indices, the first of which
  // is returned. All or none. After an Io error (ENOSPC …) the ledger is as before the call and can
  // be tried again.
  virtual Result<uint64_t> append(const std::vector<std::string>& entries) = 0;
  // Number of durable entries.
  virtual uint64_t size() const = 0;
  // Tiles and a signed checkpoint for all durable entries ("published"). Called by the daemon after
  // each operation or on a timer; cheap when nothing is new.
  virtual Result<> publish() = 0;
  // Entries published by the newest checkpoint.
  virtual uint64_t published() const = 0;
  // Bytes of an unfinished write that open() has dropped from the end (a crash in mid-append; 0
  // after a clean stop). None of them had been reported durable.
  virtual uint64_t torn_bytes() const { return 0; }
};

// Reads entries [from, end) in order, durable ones beyond the last checkpoint included, without the
// key and without the lock; `each` returns false to stop. NotFound if there is no ledger at `dir`.
Result<> read_entries(const std::string& dir, uint64_t from,
                      const std::function<bool(uint64_t index, std::string_view entry)>& each);

}  // namespace tenure::ledger
