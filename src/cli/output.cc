// SPDX-License-Identifier: Apache-2.0
#include "cli/output.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/file.h"
#include "base/text.h"

namespace tenure::cli {
namespace {
constexpr size_t kFlushAt = 64 * 1024;
constexpr size_t kPasswdBuffer = 16 * 1024;
}  // namespace

void Out::put(std::string_view text) {
  if (text.size() >= kFlushAt && flush())
    good_ = write_all(STDOUT_FILENO, text, "standard output").has_value();
  else
    buffer_ += text;
  settle();
}

void Out::settle() {
  if (buffer_.size() >= kFlushAt)
    flush();
}

bool Out::flush() {
  if (good_ && !buffer_.empty())
    good_ = write_all(STDOUT_FILENO, buffer_, "standard output").has_value();
  buffer_.clear();
  return good_;
}

size_t display_width(std::string_view text) {
  const auto starts = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), starts));
}

std::string csv_cell(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos)
    return std::string(text);
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"')
      out += '"';
    out += c;
  }
  return out + "\"";
}

void Table::row(std::vector<std::string> cells) {
  for (std::string& cell : cells) cell = csv_ ? csv_cell(cell) : printable(cell);
  rows_.push_back(std::move(cells));
}

void Table::print(Out& out) const {
  std::vector<size_t> widths(columns_.size(), 0);
  const auto measure = [&](const std::vector<std::string>& cells) {
    for (size_t i = 0; i < cells.size(); ++i) {
      widths[i] = std::max(widths[i], display_width(cells[i]));
    }
  };
  if (legend_)
    measure(columns_);
  for (const auto& cells : rows_) measure(cells);
  const auto write = [&](const std::vector<std::string>& cells) {
    std::string line;
    for (size_t i = 0; i < cells.size(); ++i) {
      line += cells[i];
      const bool last = i + 1 == cells.size();
      if (csv_)
        line += last ? "" : ",";
      else if (!last)
        line.append(widths[i] - display_width(cells[i]) + 2, ' ');
    }
    out.line(csv_ ? std::string_view(line) : trim(line));
  };
  if (legend_)
    write(columns_);
  for (const auto& cells : rows_) write(cells);
}

std::string Users::name(uint32_t uid) {
  if (numeric_)
    return std::to_string(uid);
  auto [known, fresh] = known_.try_emplace(uid, std::to_string(uid));
  if (!fresh)
    return known->second;
  std::vector<char> buffer(kPasswdBuffer);
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr)
    known->second = found->pw_name;
  return known->second;
}

std::optional<uint32_t> Users::find(const std::string& word) {
  if (const auto number = parse_int<uint32_t>(word))
    return number;
  std::vector<char> buffer(kPasswdBuffer);
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwnam_r(word.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 ||
      found == nullptr)
    return std::nullopt;
  return found->pw_uid;
}

std::string evidence(std::string_view line) {
  static const bool kTerminal = ::isatty(STDOUT_FILENO) != 0;
  return kTerminal ? printable(line) : std::string(line);
}

void complain(std::string_view text) {
  const std::string line = "tenure: " + std::string(text) + "\n";
  std::fputs(line.c_str(), stderr);
}

}  // namespace tenure::cli
