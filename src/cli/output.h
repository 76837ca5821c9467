// SPDX-License-Identifier: Apache-2.0
// How commands print: buffered standard output, tables and CSV, names for ids. Whatever comes from
// outside goes through printable() before it reaches a terminal.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/options.h"

namespace tenure::cli {

// Standard output through a buffer of our own. Not thread-safe.
class Out {
 public:
  ~Out() { flush(); }
  void put(std::string_view text);
  void line(std::string_view text) {
    put(text);
    put("\n");
  }
  // The buffer itself, for writers that append; call settle() now and then.
  std::string& buffer() { return buffer_; }
  void settle();
  // False if standard output cannot be written (full disk); a closed pipe ends the program.
  bool flush();

 private:
  std::string buffer_;
  bool good_ = true;
};

// Rows under a header: aligned for people, RFC 4180 for csv.
class Table {
 public:
  Table(std::vector<std::string> columns, bool csv, bool legend)
      : columns_(std::move(columns)), csv_(csv), legend_(legend) {}
  // As many cells as columns. Cells of a table are made printable.
  void row(std::vector<std::string> cells);
  void print(Out& out) const;

 private:
  std::vector<std::string> columns_;
  std::vector<std::vector<std::string>> rows_;
  bool csv_;
  bool legend_;
};

// Columns that a terminal uses for valid UTF-8 (a character is one, wide ones are not known).
size_t display_width(std::string_view text);
std::string csv_cell(std::string_view text);

// "alice" for 1000, by this machine's user database; "1000" if unknown or `numeric`.
class Users {
 public:
  explicit Users(bool numeric) : numeric_(numeric) {}
  std::string name(uint32_t uid);
  // A name or a number; nullopt if there is no such user.
  static std::optional<uint32_t> find(const std::string& word);

 private:
  bool numeric_;
  std::map<uint32_t, std::string> known_;
};

// A line of a log as it stands there; made printable only if it goes to a terminal.
std::string evidence(std::string_view line);

// "tenure: TEXT" on stderr.
void complain(std::string_view text);

}  // namespace tenure::cli
