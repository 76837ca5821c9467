// SPDX-License-Identifier: Apache-2.0
// The journal's two interchange forms (systemd's "Journal Export Formats") as audit lines: what
// journald keeps of an audit record in fields becomes again
//   type=T msg=audit(SEC.MMM:SERIAL): MESSAGE
// so that everything behind needs to know one form only. Entries that are no audit records are left
// out; of several hosts (different _MACHINE_ID) each line gets node=_HOSTNAME in front.
#pragma once

#include <memory>
#include <string>

#include "reader/byte_stream.h"

namespace tenure::reader {

// `journalctl -o export`. An entry larger than 1 MiB is skipped; Corrupt if the input is cut within
// one.
std::unique_ptr<ByteStream> journal_export_stream(std::unique_ptr<ByteStream> from,
                                                  std::string name);
// `journalctl -o json`: one object a line.
std::unique_ptr<ByteStream> journal_json_stream(std::unique_ptr<ByteStream> from, std::string name);

// The fields of an entry that we need, and the line that follows; exposed for the fuzzer.
struct JournalEntry {
  std::string audit_type;                     // _AUDIT_TYPE
  std::string audit_id;                       // _AUDIT_ID
  std::string source_us;                      // _SOURCE_REALTIME_TIMESTAMP
  std::string realtime_us;                    // __REALTIME_TIMESTAMP
  std::string message;                        // MESSAGE
  std::string hostname;                       // _HOSTNAME
  std::string machine;                        // _MACHINE_ID
  std::string* field(std::string_view name);  // nullptr for the others
};
// Without newline; "" if it is no audit record.
std::string audit_line(const JournalEntry& entry, bool with_node);
// One object of `journalctl -o json`; false if it is not one.
bool parse_journal_json(std::string_view line, JournalEntry& entry);

}  // namespace tenure::reader
