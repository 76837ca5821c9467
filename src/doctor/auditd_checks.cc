// SPDX-License-Identifier: Apache-2.0
// auditd's side: what it does when its disk fills, how long the disk lasts, who can write its log.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>

#include "base/file.h"
#include "base/text.h"
#include "doctor/checks.h"

namespace tenure::doctor {
namespace {

constexpr uint64_t kMiB = 1U << 20U;
constexpr double kFewDays = 14;
constexpr size_t kHead = 65536;  // bytes, of the oldest log
constexpr int kMaxLogs = 999;    // num_logs' limit in auditd.conf(5)
constexpr double kDayMs = 86'400'000;

std::string upper(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](unsigned char c) { return std::toupper(c); });
  return out;
}

// Nobody is told of the records that these drop; the others stop the machine or make room.
bool drops_silently(const std::string& action) {
  return action == "IGNORE" || action == "SYSLOG" || action == "SUSPEND" || action == "EMAIL" ||
         action.empty();
}

struct Logs {
  uint64_t bytes = 0;
  int64_t since_ms = 0;  // of the oldest record; 0 if none was found
};

int64_t first_record_ms(const std::string& path) {
  auto fd = open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  std::string head(kHead, '\0');
  ssize_t n = fd ? pread(fd->get(), head.data(), head.size(), 0) : -1;
  head.resize(n > 0 ? static_cast<size_t>(n) : 0);
  size_t at = head.find("msg=audit(");
  size_t dot = at == head.npos ? at : head.find('.', at);
  if (dot == head.npos)
    return 0;
  at += sizeof "msg=audit(" - 1;
  auto sec = parse_int<int64_t>(std::string_view(head).substr(at, dot - at));
  return sec && *sec > 0 && *sec < (1LL << 40) ? *sec * 1000 : 0;
}

Logs measure(const std::string& log_file) {
  Logs logs;
  for (int number = 0; number <= kMaxLogs; ++number) {
    std::string path = number == 0 ? log_file : fmt::format("{}.{}", log_file, number);
    struct stat facts{};
    if (stat(path.c_str(), &facts) < 0)
      break;
    logs.bytes += static_cast<uint64_t>(facts.st_size);
    if (int64_t first = first_record_ms(path); first != 0)
      logs.since_ms = logs.since_ms == 0 ? first : std::min(logs.since_ms, first);
  }
  return logs;
}

// "75" is MiB, "5%" of the file system.
uint64_t threshold(const kernel::AuditdConfig& config, std::string_view key, uint64_t capacity) {
  std::string text = config.text(key);
  const bool percent = text.ends_with('%');
  if (percent)
    text.pop_back();
  uint64_t number = parse_int<uint64_t>(text).value_or(0);
  return percent ? capacity / 100 * std::min<uint64_t>(number, 100) : number * kMiB;
}

// How many bytes of log come in a day; 0 if it cannot be told.
double bytes_a_day(const Logs& logs, int64_t now_ms) {
  const double age_ms = static_cast<double>(now_ms - logs.since_ms);
  if (logs.since_ms == 0 || age_ms < 60'000)
    return 0;
  return static_cast<double>(logs.bytes) / age_ms * kDayMs;
}

void add_retention(const kernel::AuditdConfig& config, double rate, Report& report) {
  const uint64_t kept =
      config.number("num_logs").value_or(0) * config.number("max_log_file").value_or(0) * kMiB;
  if (upper(config.text("max_log_file_action")) != "ROTATE" || rate <= 0 || kept == 0)
    return;
  const double days = static_cast<double>(kept) / rate;
  std::string what =
      fmt::format("rotation keeps {} MiB, {:.1f} days at this rate", kept / kMiB, days);
  if (days < kFewDays)
    report.warn(what, "raise num_logs or max_log_file in auditd.conf; the ledger keeps everything");
  else
    report.pass(what);
}

}  // namespace

void check_auditd_disk(const Scope& scope, Report& report) {
  if (!scope.audit.auditd)
    return report.unseen("auditd's configuration: " + scope.audit.log_error);
  const kernel::AuditdConfig& config = *scope.audit.auditd;
  if (!config.writes_logs())
    return report.warn("auditd writes no log (write_logs = no)", "");
  std::string silent, actions;
  for (const char* key : {"admin_space_left_action", "disk_full_action", "disk_error_action"}) {
    const std::string action = upper(config.text(key));
    actions += fmt::format("{}{} = {}", actions.empty() ? "" : ", ", key, action);
    if (drops_silently(action.substr(0, action.find(' '))))
      silent += fmt::format("{}{} = {}", silent.empty() ? "" : ", ", key, action);
  }
  if (silent.empty())
    return report.pass(actions);
  report.warn(
      fmt::format("{}: then records vanish; tenured notices and keeps them in its ledger", silent),
      "ROTATE, SINGLE or HALT loses none in silence (auditd.conf(5))");
}

void check_auditd_space(const Scope& scope, Report& report) {
  if (!scope.audit.auditd)
    return report.unseen("space for the audit log: " + scope.audit.log_error);
  const kernel::AuditdConfig& config = *scope.audit.auditd;
  const std::string log = config.log_file();
  struct statvfs disk{};
  if (statvfs(folder_of(log).c_str(), &disk) < 0)
    return report.unseen("space for the audit log: " + sys_error("statvfs", folder_of(log)).what());
  const uint64_t free = uint64_t{disk.f_bavail} * disk.f_frsize;
  const uint64_t capacity = uint64_t{disk.f_blocks} * disk.f_frsize;
  const uint64_t floor = threshold(config, "admin_space_left", capacity);
  if (free <= floor)
    return report.fail(fmt::format("{} MiB free below {}, not more than admin_space_left ({} MiB): "
                                   "auditd does {}",
                                   free / kMiB, folder_of(log), floor / kMiB,
                                   upper(config.text("admin_space_left_action"))),
                       "make room");
  const double rate = bytes_a_day(measure(log), scope.now_ms);
  if (rate <= 0)
    return report.pass(
        fmt::format("{} MiB free; the log is too young for its rate to be told", free / kMiB));
  const double days = static_cast<double>(free - floor) / rate;
  std::string what = fmt::format("{} MiB free, {:.2f} MiB of log a day: {:.0f} days", free / kMiB,
                                 rate / kMiB, days);
  if (days < kFewDays)
    report.warn(what, "make room, or rotate (max_log_file_action)");
  else
    report.pass(what);
  add_retention(config, rate, report);
}

void check_auditd_files(const Scope& scope, Report& report) {
  if (!scope.audit.auditd)
    return report.unseen("permissions of the audit log: " + scope.audit.log_error);
  const std::string log = scope.audit.auditd->log_file();
  for (const std::string& path : {folder_of(log), log}) {
    struct stat facts{};
    if (stat(path.c_str(), &facts) < 0) {
      report.add(errno == ENOENT ? Level::Warn : Level::Unseen, sys_error("look at", path).what());
      continue;
    }
    const unsigned mode = facts.st_mode & 07777U;
    if (facts.st_uid != 0 || (mode & 0022U) != 0)
      report.fail(fmt::format("{} has mode {:04o} and owner {}: others than root can change it",
                              path, mode, facts.st_uid),
                  "chown root, chmod go-w");
    else if ((mode & 0007U) != 0)
      report.warn(fmt::format("{} has mode {:04o}: everybody can read it", path, mode), "chmod o=");
    else
      report.pass(fmt::format("{} has mode {:04o}", path, mode));
  }
}

}  // namespace tenure::doctor
