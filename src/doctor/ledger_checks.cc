// SPDX-License-Identifier: Apache-2.0
// The ledger as far as it can be judged in a moment: key, files, newest checkpoint, edge of the
// tree. Every entry is the business of `tenure verify`.
#include <fmt/format.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/text.h"
#include "doctor/checks.h"
#include "ledger/edge.h"
#include "ledger/note.h"
#include "ledger/publisher.h"
#include "ledger/storage.h"

namespace tenure::doctor {
namespace {

struct Head {
  uint64_t published = 0;
};

Result<Head> read_head(const Scope& scope) {
  TRY(std::string vkey, read_file(scope.paths.state + "/ledger.key.pub", ledger::kMaxNote));
  TRY(ledger::Verifier key, ledger::Verifier::from_vkey(trim(vkey)));
  TRY(std::unique_ptr<ledger::Storage> storage, ledger::open_storage(scope.paths.ledger));
  TRY(std::string note, ledger::read_whole(*storage, ledger::kCheckpointPath, ledger::kMaxNote));
  TRY(ledger::Checkpoint checkpoint, ledger::open_checkpoint(key, note));
  TRY(ledger::Edge edge, ledger::Edge::load(*storage, checkpoint.size));
  if (edge.frontier().root() != checkpoint.root)
    return tenure::fail(Errc::Corrupt, "the tiles do not have the root that the checkpoint signs");
  return Head{checkpoint.size};
}

}  // namespace

void check_daemon(const Scope& scope, Report& report) {
  if (scope.daemon)
    return report.pass(fmt::format("tenured runs, pid {}", scope.daemon->pid));
  report.unseen(scope.no_daemon);
}

void check_ledger(const Scope& scope, Report& report) {
  auto head = read_head(scope);
  if (!head) {
    const Errc code = head.error().code();
    if (code == Errc::NotFound)
      return report.unseen("no ledger yet: " + head.error().what());
    if (code == Errc::Denied)
      return report.unseen(head.error().what());
    return report.fail(head.error().what(), "tenure verify names the first bad entry");
  }
  report.pass(
      fmt::format("the newest checkpoint signs {} entries and fits the tree; `tenure verify` "
                  "checks each of them",
                  head->published));
  if (!scope.daemon)
    return;
  if (!scope.daemon->publish_error.empty())
    report.fail("the newest entries cannot be published: " + scope.daemon->publish_error,
                "make room, or see the error");
  else
    report.pass(fmt::format("{} entries are durable and not yet under a checkpoint",
                            scope.daemon->ledger_size - scope.daemon->published));
}

void check_ledger_files(const Scope& scope, Report& report) {
  struct Place {
    std::string path;
    unsigned forbidden;  // mode bits
  };
  const Place places[] = {{scope.paths.state, 0077},
                          {scope.paths.ledger, 0077},
                          {scope.paths.state + "/ledger.key", 0077},
                          {scope.paths.logs, 0027}};
  for (const Place& place : places) {
    struct stat facts{};
    if (lstat(place.path.c_str(), &facts) < 0) {
      if (errno != ENOENT)
        report.unseen(sys_error("look at", place.path).what());
      continue;
    }
    const unsigned mode = facts.st_mode & 07777U;
    if ((mode & place.forbidden) != 0)
      report.fail(
          fmt::format("{} has mode {:04o}: others than its owner can use it", place.path, mode),
          fmt::format("chmod {:04o}", mode & ~place.forbidden));
    else
      report.pass(fmt::format("{} has mode {:04o}", place.path, mode));
  }
}

void check_witness(const Scope& scope, Report& report) {
  if (!scope.daemon)
    return report.unseen("whether checkpoints reach a witness: " + scope.no_daemon);
  if (!scope.daemon->has_witness)
    return report.warn(
        "no witness: a consistent forgery by root of this host shows only against "
        "checkpoints kept elsewhere",
        "set witness in tenure.conf(5)");
  const uint64_t behind = scope.daemon->published - scope.daemon->witnessed;
  if (behind > 0)
    return report.warn(fmt::format("{} published entries are not witnessed", behind),
                       "see witness_error of `tenure status`");
  report.pass("all published entries are witnessed");
}

}  // namespace tenure::doctor
