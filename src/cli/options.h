// SPDX-License-Identifier: Apache-2.0
// The command line of `tenure` as plain values. One table (options.cc) names every command and
// option; CLI11, which is slow to compile, is seen by that one file only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tenure::cli {

enum class OutputFormat : uint8_t { Table, Short, Json, Csv, Raw, Text };

// Values as typed, except where noted; an option that was not given has its default.
struct Options {
  std::string command;  // "define", "start", …; "kill" also for `destroy`

  // Every command.
  std::string root;         // --root; give it to base/paths.h choose_root()
  std::string output_word;  // -o as typed, one of OutputFormat's words, "" if not given
  bool quiet = false;       // -q: no notices on stderr, errors only
  bool no_legend = false;   // --no-legend: no header and no summary lines
  bool numeric = false;     // -N: ids as numbers, no names

  // Guests.
  std::string guest;  // GUEST; for start GUEST|FILE; for history the optional GUEST
  std::string file;   // define FILE
  std::vector<std::string> properties;  // show -p KEY
  bool xml = false;                     // show --xml
  bool dry_run = false;                 // start --dry-run
  std::string require_fence;            // start: "yes", "no" or ""
  std::string fence;                    // start: "auto", "v1", "v2" or ""
  bool save = false;                    // stop --save
  bool discard_saved = false;           // start, undefine --discard-saved
  std::optional<uint64_t> timeout_s;    // stop, detach --timeout, seconds
  std::vector<std::string> words;       // attach GUEST WORD…, detach, set: what follows the guest
  std::string target;                   // attach --target
  std::string image_format;             // attach disk, dump, screenshot --format
  std::string bus;                      // attach disk --bus
  std::string mac;                      // attach interface --mac
  std::string model;                    // attach interface --model
  bool readonly = false;                // attach disk --readonly
  bool force = false;                   // detach|update|eject|insert --force
  bool running = false;                 // show --running
  bool existing = false;                // snapshot|blockcopy --existing
  std::string top, base;                // blockcommit, blockpull: images of the chain
  bool shallow = false;                 // blockcommit, blockcopy
  bool pivot = false;                   // blockcommit|blockcopy|blockjob --pivot
  bool finish = false;                  // blockcopy|blockjob --finish, blockcommit --keep-overlay
  bool abort = false;                   // blockjob --abort
  bool wait = false;                    // until the job has ended
  std::optional<uint64_t> bandwidth;    // MiB a second

  // The ledger.
  bool live = false;       // verify --live
  bool record = false;     // verify --record
  std::string proof_file;  // verify --proof FILE
  std::string key_file;    // verify --key K
  std::string ledger_dir;  // verify|prove --dir LEDGER
  std::string entry;       // prove RECORD

  // Reading.
  std::vector<std::string> resource;  // who RESOURCE: one or two words ("b 8:16")
  std::vector<std::string> logs;      // --log PATH…
  bool journal = false;               // --journal
  std::string since;                  // --since, time words
  std::string until;                  // --until
  std::string at;                     // --at
  std::string node;                   // --node NAME
  bool glob = false;                  // history --glob
  bool runs = false;                  // history --runs
  bool blind_spots = false;           // history --blind-spots
  bool follow = false;                // log -f
  std::optional<uint64_t> lines;      // log -n N
  bool reverse = false;               // log -r
  std::string filter_who;             // log --who
  std::string filter_guest;           // log|report|who --guest
  std::string filter_resource;        // log --resource
  std::string filter_result;          // log --result success|failed
  std::string filter_kind;            // log --kind
  std::string cursor_file;            // log --cursor-file
  std::string by = "guest";           // report --by
  std::string html;                   // report --html FILE

  // -o, or `fallback` if it was not given.
  OutputFormat output(OutputFormat fallback = OutputFormat::Table) const;
};

// What main() does with a command line: run `options`, or print `text` and exit.
struct Parsed {
  std::optional<Options> options;
  int exit_code = 0;
  std::string text;  // --help and --version (exit_code 0: stdout), or what is wrong (stderr)
};

// Never prints, never exits. `args` without argv[0].
Parsed parse_options(std::vector<std::string> args);

// The names of all commands, hidden ones left out, in the order of the help; for completion and
// tests.
std::vector<std::string_view> command_names();

}  // namespace tenure::cli
