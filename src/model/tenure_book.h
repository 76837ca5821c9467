// SPDX-License-Identifier: Apache-2.0
// The tenure book: what follows from a trail. It takes records in the order of the stream (not of
// the clock) and keeps runs and tenures. One class for libvirt's audit logs and for ours, for the
// reader and for the daemon: what a record means is decided here and nowhere else.
//
// Libvirt's records name no grant, so they are matched by resource: a stop ends everything of its
// run, a failed start grants nothing although each device says success, a start of a running guest
// ends the old run (superseded), a host crash ends runs within bounds. Ours name the grant that
// they end; those of the ledger are ended by their own release record alone.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "model/meaning.h"
#include "model/names.h"
#include "model/open_index.h"
#include "model/tenure.h"
#include "model/tenure_list.h"
#include "trail/decode.h"

namespace tenure::model {

// An intent of the ledger without result or void: the daemon died between the two, or is at work.
struct OpenIntent {
  uint64_t index = 0;  // of the ledger entry
  std::string body;    // for trail::decode_record()
};

struct BookCounts {
  uint64_t records = 0;     // VIRT_ records that were applied
  uint64_t failed = 0;      // of them, res=failed
  uint64_t refused = 0;     // of them, requests refused and accesses denied
  uint64_t unknown = 0;     // of them, with a resrc that no table has; kept by the keys they have
  uint64_t unmatched = 0;   // of them, ends of what nothing had begun (and a run's start was seen)
  uint64_t duplicates = 0;  // of them, the same event from two sources
  uint64_t damaged = 0;     // cut before their result: not applied
};

// Not thread-safe. Memory: some 300 bytes a tenure, and each distinct name once.
class TenureBook {
 public:
  TenureBook() = default;
  TenureBook(TenureBook&&) = default;
  TenureBook& operator=(TenureBook&&) = default;

  // One record, of a log or of the ledger; types that tell nothing of tenures are passed over.
  // `order` rises from call to call; of a ledger it is the index of the entry. SYSTEM_BOOT,
  // SYSTEM_SHUTDOWN, DAEMON_START and DAEMON_END are wanted as well: they tell of host crashes.
  void apply(const trail::LineView& line, uint64_t order);

  // Any other record of a host, which was not applied: it narrows the bounds of a later crash.
  void seen(std::string_view node, const Position& at);

  // In the order of their beginnings in the stream. References stay valid, but apply() may find
  // that a tenure never was.
  const TenureList& tenures() const { return tenures_; }
  // A deque: references stay valid.
  const std::deque<Run>& runs() const { return runs_; }
  const Run& run_of(const Tenure& tenure) const { return runs_[tenure.run]; }

  // Those of a guest that are open, in the order of their beginnings. `uuid` in lower case.
  std::vector<const Tenure*> open_tenures(std::string_view uuid, std::string_view node = {});
  // The tenure that an intent of the ledger began; nullptr if none did.
  const Tenure* find_grant(uint64_t grant, std::string_view uuid, std::string_view node = {});
  // By index of the ledger.
  std::vector<OpenIntent> open_intents() const;
  const BookCounts& counts() const { return counts_; }

  // Takes in a book of other hosts, read by another thread. Associative; Invalid if both have
  // records of one host (order between them would be lost).
  Result<> absorb(TenureBook&& other);

 private:
  enum class Phase : uint8_t {
    Unsure,   // seen are only records that come before a start and at a hot-plug alike
    Pending,  // between the first record of a start and op=start
    Active,
    Ended,
  };
  struct RunState {
    Phase phase = Phase::Unsure;
    bool begun = false;       // a record beyond MACHINE_ID was seen
    bool denied_all = false;  // deny all was seen: every rule that stands was seen as well
    bool ledger = false;      // its records come from the ledger
    uint32_t guest = 0;
    std::vector<uint32_t> tenures;
  };
  struct Guest {
    Name node;
    Name uuid;
    Name name;
    std::vector<uint32_t> runs;
    uint32_t last_number = 0;
  };
  struct Host {
    Name node;
    std::optional<Position> last;
    uint64_t last_serial = 0;
    bool shutdown = false;              // SYSTEM_SHUTDOWN was seen since the boot
    bool auditd_ended = false;          // DAEMON_END since the last DAEMON_START
    std::optional<Position> auditd_up;  // DAEMON_START without DAEMON_END: a crash, or auditd alone
    std::optional<Position> before_up;
  };
  // A record in the making: what every step needs to know.
  struct Event {
    Position at;
    uint32_t guest = 0;
    bool success = false;
    bool ledger = false;
    std::optional<uint64_t> number;  // run=
    std::optional<uint64_t> grant;
    std::string_view reason;
  };

  // Hosts and their boots (tenure_book_host.cc).
  Host& host_of(std::string_view node);
  void note_serial(Host& host, const trail::LineView& line, const Position& at);
  void host_event(Host& host, uint16_t type, const Position& at);
  void boot(Host& host, const Position& at, const std::optional<Position>& last);

  // Of another book (tenure_book_host.cc).
  void adopt(Name& name);
  void adopt(Run& run);
  void adopt(const Asker*& who);
  void adopt(Tenure& tenure);
  void count_in(const BookCounts& other);

  // Intents (tenure_book_host.cc).
  void intent(const trail::LineView& line, uint64_t order);
  void settle_intent(const Event& event);

  // Guests and runs (tenure_book_runs.cc).
  uint32_t guest_of(const trail::LineView& line);
  uint32_t find_guest(std::string_view node, std::string_view uuid, std::string_view name);
  void control(const Event& event);
  void started(const Event& event);
  void start_failed(const Event& event);
  void stopped(const Event& event);
  uint32_t run_of_event(const Event& event, bool starts, bool running);
  uint32_t own_run(const Event& event);
  uint32_t new_run(const Event& event, Phase phase, uint64_t number);
  std::optional<uint32_t> open_run(uint32_t guest) const;
  bool is_new_start(const RunState& state, bool deny_all) const;
  void end_run(uint32_t run, const Position& at, std::string_view reason,
               std::string_view tenure_reason, Certainty certainty,
               const std::optional<Position>& after = {});
  void void_run(uint32_t run);

  // Resources (tenure_book.cc).
  void resource(const Event& event);
  void begin(uint32_t run, const Event& event, const Change& change);
  void end(uint32_t run, const Event& event, const Change& change);
  bool end_by_grant(const Event& event, const Change& change);
  void end_rules(uint32_t run, const Event& event, const Change& change);
  void end_all_rules(uint32_t run, const Event& event);
  void end_opens_of(uint32_t run, const Event& event, std::string_view mac);
  void end_unseen(uint32_t run, const Event& event, const Change& change);
  Tenure make(uint32_t run, const Event& event, const Change& change);
  void add(Tenure tenure);
  void close(uint32_t tenure, const Event& event, Certainty certainty);
  std::optional<uint32_t> by_grant(const Event& event, std::string_view kind) const;
  std::vector<uint32_t> open_with(uint32_t run, Name kind, Name key) const;
  void index(uint32_t tenure);
  void unindex(uint32_t tenure);
  const Asker* asker();

  NamePool names_;
  trail::FieldSet fields_;
  Meaning meaning_;
  std::string key_;
  std::string last_uuid_;  // of the last record, as it stands there, with the guest that it names
  uint32_t last_guest_ = 0;
  std::string scratch_;

  TenureList tenures_;
  std::deque<Run> runs_;
  std::vector<RunState> states_;  // as runs_
  std::vector<Guest> guests_;
  std::unordered_map<std::string, uint32_t> guest_index_;  // node, newline, uuid or name
  OpenIndex open_;                                         // by run, kind, key
  std::unordered_multimap<uint64_t, uint32_t> grants_;
  std::deque<Host> hosts_;
  std::deque<Asker> askers_;
  std::map<uint64_t, OpenIntent> intents_;
  BookCounts counts_;
};

}  // namespace tenure::model
