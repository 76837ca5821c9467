// SPDX-License-Identifier: Apache-2.0
// Decoder of one audit line, in place: views into the text, no copies, no allocation. It reads
// auditd's raw and enriched logs, the kernel's own form, syslog's, and the lines of the ledger.
// What the grammar leaves open (unquoted paths of libvirt, cut and glued lines) is decided here,
// once; the numbered corners are tested in tests/unit/trail/corners_test.cc. Pure; thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "trail/entry.h"
#include "trail/record.h"
#include "trail/vocabulary.h"

namespace tenure::trail {

// Message types (libaudit.h) that tell about the host or the trail itself; the names of these, of
// the VIRT_ types and of those that name a user are known to decode_line().
inline constexpr uint16_t kUserCmd = 1123;
inline constexpr uint16_t kSystemBoot = 1127;
inline constexpr uint16_t kSystemShutdown = 1128;
inline constexpr uint16_t kDaemonStart = 1200;
inline constexpr uint16_t kDaemonEnd = 1201;
inline constexpr uint16_t kDaemonAbort = 1202;
inline constexpr uint16_t kDaemonRotate = 1205;
inline constexpr uint16_t kDaemonErr = 1209;
inline constexpr uint16_t kSyscall = 1300;
inline constexpr uint16_t kConfigChange = 1305;
inline constexpr uint16_t kExecve = 1309;
inline constexpr uint16_t kAvc = 1400;
inline constexpr uint16_t kAnomPromiscuous = 1700;
inline constexpr uint16_t kAnomAbend = 1701;
inline constexpr uint16_t kVirtMigrateIn = 2506;
inline constexpr uint16_t kVirtMigrateOut = 2507;

// Why a line is no record.
enum class LineFault : uint8_t {
  Blank,        // empty, or a separator of ausearch ("----", "time->…"): nothing is lost
  Foreign,      // no audit record at all
  NoId,         // journald's or syslog's short form: type, but no time and serial of the event
  Interpreted,  // ausearch -i: names in place of numbers, not to be trusted
  Header,       // type=, but what follows is not msg=audit(SECONDS.MMM:SERIAL):
  TooLong,      // longer than kMaxLine
};

// auditd's lines have at most 8970 bytes and its enrichment; a ledger entry has 65535.
inline constexpr size_t kMaxLine = 128 * 1024;

std::string_view to_string(LineFault fault);

struct LineError {
  LineFault fault;
  size_t offset;  // byte of the line at which it went wrong
  size_t resume;  // Header: a whole record begins at this byte (a lost newline), 0 if none does
};

// "byte 17: not an audit record: …". Blank is no error, but has a text as well.
Error to_error(const LineError& error);

// One line, taken apart as far as its frame.
struct LineView {
  std::string_view node;       // of node=; empty if there is none
  std::string_view type_name;  // "VIRT_RESOURCE", "UNKNOWN[2500]", "2500"
  uint16_t type = 0;           // 0: a name that we don't know
  uint16_t ms = 0;
  int64_t sec = 0;
  uint64_t serial = 0;
  std::optional<EntryState> state;  // of a line of the ledger
  std::string_view outer;           // fields before msg=' (all of them where there is no msg=')
  std::string_view body;            // inside msg='…', from libaudit's caller: not trusted as to who
  std::string_view tail;            // auditd's enrichment behind 0x1D
  bool has_body = false;
  bool truncated = false;  // the line was cut: the last field may be half a value
  bool nuls = false;       // NUL bytes stood before it, left by a power loss
  bool prefixed = false;   // came through syslog or the kernel log, where anyone can write
  size_t glued_at = 0;  // a lost newline: another record begins at this byte of the line (0: no).
                        // This view ends there; decode the rest as a line of its own.
};

// When, in ms since the epoch.
constexpr int64_t time_ms(const LineView& line) {
  return line.sec * 1000 + line.ms;
}

// `line` without its newline (a CR at its end is dropped). Bounded work, whatever the line.
std::expected<LineView, LineError> decode_line(std::string_view line);

// A view of a record whose header came separately (journald's _AUDIT_TYPE, _AUDIT_ID, …): `text` is
// what follows the "): " of a line.
LineView decode_parts(uint16_t type, int64_t sec, uint16_t ms, uint64_t serial,
                      std::string_view text);

// One key=value. A word without "=" has an empty key.
struct Field {
  std::string_view key;
  std::string_view raw;  // without the quotes
  bool quoted = false;
  bool unterminated = false;  // the closing quote is missing
};

// The fields of outer, body or tail, one after the other, duplicates included.
class Fields {
 public:
  explicit Fields(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}
  // False at the end.
  bool next(Field& field);

 private:
  const char* at_;
  const char* end_;
};

// The value of a key whose encoding is Text: as it is if quoted, the bytes of an even number of
// upper-case hex digits, else literally. The view is into the field or into `scratch`.
std::string_view decode_value(const Field& field, std::string& scratch);
std::string decode_value(const Field& field);
// How the table writes a key; Word for keys that it does not know (their values stay as they are).
Encoding encoding_of(std::string_view key);

// The keys that have a meaning for tenures. Old and New stand for old-X and new-X of any X.
// clang-format off: one key a line would be a page
enum class Key : uint8_t {
  Virt, Op, Reason, Resrc, Vm, Uuid, VmPid, Old, New, Net, Path, Rdev, Cgroup, Class, Category, Maj,
  Acl, AclUid, Bus, Device, Disk, Chardev, Size, Model, VmCtx, ImgCtx, Access, Devtype, Dev, Alias,
  Ifname, Fd, Role, For, Txn, Grant, Run, Why, BoundFrom, BoundTo, ReqAuid, ReqSes, ReqUid, ReqPid,
  ReqExe, ReqTty, Exe, Hostname, Addr, Terminal, Res,
};
// clang-format on
inline constexpr size_t kKeyCount = static_cast<size_t>(Key::Res) + 1;

// The known keys of one body, found in a single pass; reusable without allocation. Of duplicates
// the first counts, but the last of exe= and res=, which libaudit appends.
class FieldSet {
 public:
  void collect(const LineView& line);
  // nullptr if it is not there.
  const Field* find(Key key) const {
    auto at = static_cast<size_t>(key);
    return (seen_ >> at & 1) != 0 ? &fields_[at] : nullptr;
  }
  // Without decoding; "" if it is not there.
  std::string_view raw(Key key) const {
    const Field* field = find(key);
    return field == nullptr ? std::string_view() : field->raw;
  }
  // Decoded, for keys whose encoding is Text.
  std::string_view text(Key key, std::string& scratch) const {
    const Field* field = find(key);
    return field == nullptr ? std::string_view() : decode_value(*field, scratch);
  }
  std::optional<uint64_t> number(Key key) const;
  // Fields of keys that are not in Key; they are found with Fields.
  size_t unknown() const { return unknown_; }

 private:
  std::array<Field, kKeyCount> fields_;
  uint64_t seen_ = 0;
  size_t unknown_ = 0;
};
static_assert(kKeyCount <= 64);

// The record of a line of ours or of libvirt's: the inverse of encode(). Fixed words and what
// libaudit appends are left out; success is false for res=failed alone. Invalid if the table has no
// such kind.
Result<Record> decode_record(const LineView& line);

}  // namespace tenure::trail
