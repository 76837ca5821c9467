// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "ledger/verify.h"

namespace tenure::ledger {

std::string to_text(const VerifyReport& report) {
  std::string text = fmt::format(
      "{}: {} entries, {} of them published; checked {} signed tree heads and {} tiles\n",
      report.origin, report.size, report.published, report.checkpoints, report.tiles);
  for (const std::string& note : report.notes) text += fmt::format("note: {}\n", note);
  for (const Problem& problem : report.problems) {
    std::string entry = problem.entry ? fmt::format(", entry {}", *problem.entry) : "";
    text += fmt::format("problem: {}{}: {}\n", problem.where, entry, problem.what);
  }
  if (report.problem_count > report.problems.size())
    text += fmt::format("and {} more problems\n", report.problem_count - report.problems.size());
  if (report.ok())
    return text + "the ledger is whole\n";
  if (report.only_torn())
    return text + "the ledger is whole but for an unfinished write at its end\n";
  if (report.first_bad_entry)
    text += fmt::format("first bad entry: {}\n", *report.first_bad_entry);
  return text + "the ledger is NOT what was signed\n";
}

}  // namespace tenure::ledger
