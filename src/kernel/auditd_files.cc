// SPDX-License-Identifier: Apache-2.0
#include "kernel/auditd_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>

#include "base/file.h"
#include "base/text.h"

namespace tenure::kernel {
namespace {

constexpr size_t kMaxConfig = 1U << 20U;
constexpr size_t kMaxSince = 64U << 20U;
constexpr std::string_view kDefaultLog = "/var/log/audit/audit.log";

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](unsigned char c) { return std::tolower(c); });
  return out;
}

// The folder after -c on auditd's command line.
std::string config_folder(uint32_t pid) {
  auto words = pid == 0 ? Result<std::string>("")
                        : read_file(fmt::format("/proc/{}/cmdline", pid), kMaxConfig);
  std::string_view previous;
  if (words) {
    for (std::string_view word : split(*words, '\0')) {
      if (previous == "-c" && !word.empty())
        return std::string(word);
      previous = word;
    }
  }
  return "/etc/audit";
}

struct Stamp {
  int64_t ms = 0;
  uint64_t serial = 0;
};

// "type=X msg=audit(1732276800.123:42): …"
std::optional<Stamp> stamp_of(std::string_view line) {
  constexpr std::string_view kMark = "msg=audit(";
  size_t at = line.find(kMark);
  size_t end = at == line.npos ? at : line.find(')', at);
  if (end == line.npos)
    return std::nullopt;
  std::string_view stamp = line.substr(at + kMark.size(), end - at - kMark.size());
  size_t dot = stamp.find('.');
  size_t colon = stamp.find(':');
  if (dot == stamp.npos || colon == stamp.npos || colon < dot)
    return std::nullopt;
  auto sec = parse_int<int64_t>(stamp.substr(0, dot));
  auto ms = parse_int<int64_t>(stamp.substr(dot + 1, colon - dot - 1));
  auto serial = parse_int<uint64_t>(stamp.substr(colon + 1));
  constexpr int64_t kMaxSec = 1LL << 40;
  if (!sec || !ms || !serial || *sec < 0 || *sec > kMaxSec)
    return std::nullopt;
  return Stamp{*sec * 1000 + *ms, *serial};
}

// The last `most` bytes of the file; false if they have no record that the kernel numbered.
Result<bool> scan_file(const std::string& path, size_t most, AuditLogTail& tail) {
  TRY(UniqueFd fd, open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  struct stat facts{};
  if (fstat(fd.get(), &facts) < 0)
    return fail_sys("look at", path);
  tail.path = path;
  tail.changed_ms = facts.st_mtim.tv_sec * 1000 + facts.st_mtim.tv_nsec / 1'000'000;
  const auto size = static_cast<uint64_t>(facts.st_size);
  const uint64_t from = size > most ? size - most : 0;
  std::string text(static_cast<size_t>(size - from), '\0');
  ssize_t got = pread(fd.get(), text.data(), text.size(), static_cast<off_t>(from));
  if (got < 0)
    return fail_sys("read", path);
  text.resize(static_cast<size_t>(got));
  scan_audit_log(text, tail);
  return tail.last_serial != 0;
}

}  // namespace

std::string AuditdConfig::text(std::string_view key) const {
  auto found = values.find(std::string(key));
  return found == values.end() ? "" : found->second;
}

std::optional<uint64_t> AuditdConfig::number(std::string_view key) const {
  return parse_int<uint64_t>(text(key));
}

std::string AuditdConfig::log_file() const {
  std::string path = text("log_file");
  return path.empty() ? std::string(kDefaultLog) : path;
}

AuditdConfig parse_auditd_config(std::string_view text) {
  AuditdConfig config;
  for (std::string_view line : split(text, '\n')) {
    line = trim(line);
    size_t equals = line.find('=');
    if (line.starts_with('#') || equals == line.npos)
      continue;
    config.values[lower(trim(line.substr(0, equals)))] = std::string(trim(line.substr(equals + 1)));
  }
  return config;
}

Result<AuditdConfig> read_auditd_config(uint32_t auditd_pid) {
  TRY(std::string text, read_file(config_folder(auditd_pid) + "/auditd.conf", kMaxConfig));
  return parse_auditd_config(text);
}

void scan_audit_log(std::string_view text, AuditLogTail& tail) {
  for (std::string_view line : split(text, '\n')) {
    size_t type = line.find("type=");
    std::optional<Stamp> stamp = type == line.npos ? std::nullopt : stamp_of(line);
    if (!stamp)
      continue;
    std::string_view word = line.substr(type + 5);
    word = word.substr(0, word.find(' '));
    if (word == "DAEMON_START" || word == "DAEMON_RESUME") {
      tail.resumed_ms = stamp->ms;
      tail.restarted = word == "DAEMON_START";
    }
    if (word.starts_with("DAEMON_"))
      continue;
    if (tail.from_ms == 0)
      tail.from_ms = stamp->ms;
    tail.last_serial = stamp->serial;
    tail.last_ms = stamp->ms;
    if (word.starts_with("VIRT_"))
      tail.serials.insert(stamp->serial);
  }
}

Result<AuditLogTail> read_audit_log_tail(const std::string& path) {
  AuditLogTail tail;
  TRY(bool found, scan_file(path, kTailBytes, tail));
  if (found)
    return tail;
  AuditLogTail older;
  if (auto seen = scan_file(path + ".1", kTailBytes, older); seen && *seen) {
    if (tail.resumed_ms > older.resumed_ms) {
      older.resumed_ms = tail.resumed_ms;
      older.restarted = tail.restarted;
    }
    older.changed_ms = std::max(older.changed_ms, tail.changed_ms);
    older.path = path;
    return older;
  }
  return tail;
}

Result<AuditLogTail> read_audit_log_since(const std::string& path, int64_t since_ms) {
  TRY(AuditLogTail tail, read_audit_log_tail(path));
  auto far_enough = [&] { return tail.from_ms != 0 && tail.from_ms < since_ms; };
  for (size_t most = 4 * kTailBytes; !far_enough() && most <= kMaxSince; most *= 4) {
    AuditLogTail longer;
    TRY(bool found, scan_file(path, most, longer));
    if (!found || longer.from_ms == tail.from_ms)
      break;  // that was the whole file
    tail = std::move(longer);
  }
  for (int n = 1; !far_enough(); ++n) {
    AuditLogTail older;
    auto seen = scan_file(fmt::format("{}.{}", path, n), kMaxSince, older);
    if (!seen || !*seen)
      break;
    tail.from_ms = older.from_ms;
    tail.serials.merge(older.serials);
    if (older.resumed_ms > tail.resumed_ms) {
      tail.resumed_ms = older.resumed_ms;
      tail.restarted = older.restarted;
    }
  }
  return tail;
}

}  // namespace tenure::kernel
