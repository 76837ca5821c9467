// SPDX-License-Identifier: Apache-2.0
// Hands each published checkpoint to a command or socket of the administrator's, for co-signing or
// for shipping off this host. In a thread of its own with bounded time: a witness that hangs or
// dies delays nothing, and the span that it has not seen is shown.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

namespace tenure::daemon {

struct WitnessConfig {
  std::vector<std::string> command;  // words; the checkpoint is its standard input
  std::string socket;                // or: a Unix stream socket that takes it, up to end of file
  std::vector<std::string> keys;     // vkeys of witnesses; one valid cosignature is asked for
  bool configured() const { return !command.empty() || !socket.empty(); }
};

struct WitnessState {
  uint64_t witnessed = 0;    // entries under the newest checkpoint that was seen
  int64_t witnessed_ms = 0;  // when it was; 0 if never
  std::string error;         // of the last try; "" if it succeeded
};

// Thread-safe.
class Witness {
 public:
  virtual ~Witness() = default;  // ends what is under way
  // There may be a newer checkpoint. Never blocks.
  virtual void offer() = 0;
  virtual WitnessState state() const = 0;
};

// `ledger_dir` has `checkpoint`; the newest one with its cosignatures is kept beside it as
// checkpoint.witnessed, from which the state goes on after a restart. Invalid for a malformed key.
// A try takes at most 10 s; one that failed is made again with the next checkpoint, at the latest
// after 30 s.
Result<std::unique_ptr<Witness>> open_witness(const WitnessConfig& config, std::string ledger_dir,
                                              std::function<void(const std::string&)> log);

}  // namespace tenure::daemon
