// SPDX-License-Identifier: Apache-2.0
// Finding tenures, and tenures and runs in the six output forms.
#pragma once

#include <string>
#include <vector>

#include "cli/options.h"
#include "cli/output.h"
#include "reader/reading.h"
#include "reader/select.h"
#include "reader/time_words.h"

namespace tenure::cli {

// A tenure with what is needed to tell of it.
struct Found {
  const model::Tenure* tenure = nullptr;
  const model::Run* run = nullptr;
  const reader::Guess* guess = nullptr;  // who may have asked; only where the record does not tell
  size_t stream = 0;
};

struct Selection {
  reader::GuestSelector guest;
  reader::ResourceSelector resource;
  reader::TimeRange range;
};

// In the order in which they began; across streams by time. They point into `reading`.
std::vector<Found> find_tenures(const reader::Reading& reading, const Selection& selection);

void print_tenures(const Options& options, const reader::Reading& reading,
                   const std::vector<Found>& found);
void print_runs(const Options& options, const std::vector<const model::Run*>& runs);

// Appends the tenure, with its guess, as a JSON line.
void append_json(std::string& out, const Found& one);

// "alice", "alice?" for a guess, "-" if nobody is named.
std::string who_of(Users& users, const model::Asker* asker, const reader::Guess* guess);

}  // namespace tenure::cli
