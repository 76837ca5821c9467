// SPDX-License-Identifier: Apache-2.0
// What the four reading commands have in common: sources and times from the options, the progress
// bar, the notice of what may be missing, the exit code.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/exit_code.h"
#include "cli/options.h"
#include "reader/files.h"
#include "reader/reading.h"
#include "reader/time_words.h"

namespace tenure::cli {

// Sources that --log, --journal and --root name. With --follow, journalctl follows as well.
Result<reader::SourceSet> sources_of(const Options& options);
// --since and --until, or both from --at.
Result<reader::TimeRange> range_of(const Options& options);
// Prints on stderr if that is a terminal and reading takes long; clears its line at the end.
std::function<void(uint64_t, uint64_t)> progress_bar(const Options& options);

// Reads everything for who, history and report, or complains and gives the exit code.
struct Session {
  reader::TimeRange range;
  reader::Reading reading;
};
std::expected<Session, int> open_session(
    const Options& options, bool keep_lines,
    const std::function<void(const reader::Event&, const reader::Stream&, uint64_t)>& each = {});

// Tells the doubts on stderr; the exit code for an answer with or without findings.
int conclude(const Options& options, const std::vector<std::string>& doubts, bool found);
// Complains and gives the exit code.
int give_up(const Error& error);

}  // namespace tenure::cli
