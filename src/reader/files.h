// SPDX-License-Identifier: Apache-2.0
// What is read, and in which order: the files that the command line names or, without any, this
// machine's audit logs and ledger. All files are open before the first is read, so that a rotation
// meanwhile loses and repeats nothing.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace tenure::reader {

enum class SourceKind : uint8_t {
  Log,     // regular file of audit lines: read by position, in parallel
  Stream,  // read forwards: pipe, compressed, journal export
  Ledger,  // ours
};

struct Source {
  SourceKind kind = SourceKind::Log;
  std::string name;      // path, "-" for stdin, "journalctl"
  UniqueFd fd;           // not for Ledger
  uint64_t size = 0;     // at the time of opening; 0 for pipes
  bool growing = false;  // the newest of its family: its last line may be half written
  int pid = 0;           // of the journalctl that writes into fd
};

struct SourceRequest {
  std::vector<std::string> logs;  // --log; empty: the defaults below
  bool journal = false;           // run journalctl
  bool follow = false;            // … which goes on with what comes
  std::string ledger;             // the instance's ledger; read if it exists and no logs are named
  bool ledger_only = false;       // the instance is not this machine's own
  std::string auditd_conf = "/etc/audit/auditd.conf";
};

struct SourceSet {
  std::vector<Source> sources;  // in the order in which they are read
  // What could not be opened although it is there ("open …: Permission denied"): the answer is
  // incomplete.
  std::vector<Error> problems;
};

// An error only for what was asked for by name: a missing or unreadable --log, journalctl that
// cannot be run. Thread-safe.
Result<SourceSet> open_sources(const SourceRequest& request);

// A path of a log taken apart: "audit.log.2.gz" is rotation 2 of "audit.log".
struct RotatedName {
  std::string family;
  std::string date;     // logrotate's dateext: "20250701"
  uint32_t number = 0;  // 0: not numbered
  auto key() const { return std::tuple(date.empty(), date, UINT32_MAX - number); }
};
RotatedName parse_rotated(const std::string& name);
// Oldest first within a family; families stay in the order of their first appearance.
void sort_rotated(std::vector<std::string>& paths);

// log_file of auditd.conf(5); its default where the file or the key is missing.
std::string auditd_log_file(const std::string& conf_path);

}  // namespace tenure::reader
