// SPDX-License-Identifier: Apache-2.0
// The laws of the trail as a reader of the ledger alone can check them, entry by entry, against
// what the fake host knows to be true.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "model/tenure_book.h"
#include "tests/unit/registrar/lines.h"
#include "tests/unit/registrar/world.h"

namespace tenure::test {

class Laws {
 public:
  // What was ever done to the host, and refused by it, by key_of().
  struct Truth {
    const std::set<std::string>& applied;
    const std::set<std::string>& refused;
    const std::set<std::string>& withdrawn;
  };
  explicit Laws(std::function<Truth(const std::string& uuid)> truth) : truth_(std::move(truth)) {}

  // The entries that are new since the last call.
  void read(const std::vector<std::string>& entries);
  // Nothing runs any more: every intent has its answer, every grant its release.
  void expect_closed();

  void blame(uint64_t index, const std::string& what);
  const std::vector<std::string>& violations() const { return violations_; }
  model::TenureBook& book() { return book_; }
  // Results that audit did not confirm, and those that the gap records speak of.
  uint64_t unconfirmed() const { return unconfirmed_; }
  uint64_t confirmed() const { return confirmed_; }
  uint64_t in_gaps() const { return in_gaps_; }
  // Grants whose record audit did not confirm.
  bool is_unconfirmed_grant(uint64_t grant) const { return shaky_.contains(grant); }

 private:
  enum class Phase { Intended, Void, Failed, Held, Released, Settled };
  struct Grant {
    trail::Kind kind;
    std::string uuid;
    std::string txn;
    Phase phase = Phase::Intended;
  };
  void entry(const Line& line);
  void answer(const Line& line, Grant& grant);
  void begin(const Line& line, Grant& grant);
  void end(const Line& line, Grant& grant);

  std::function<Truth(const std::string&)> truth_;
  std::map<uint64_t, Grant> grants_;
  std::set<uint64_t> shaky_;
  std::vector<std::string> violations_;
  model::TenureBook book_;
  size_t read_ = 0;
  uint64_t unconfirmed_ = 0;
  uint64_t confirmed_ = 0;
  uint64_t in_gaps_ = 0;
};

}  // namespace tenure::test
