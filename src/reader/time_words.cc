// SPDX-License-Identifier: Apache-2.0
#include "reader/time_words.h"

#include <fmt/format.h>

#include <array>
#include <vector>

#include "base/text.h"

namespace tenure::reader {
namespace {

constexpr int64_t kSecond = 1000;
constexpr int64_t kMinute = 60 * kSecond;
constexpr int64_t kHour = 60 * kMinute;
constexpr int64_t kDay = 24 * kHour;
// Years 1970 to 9999: beyond, arithmetic in ms is still safe, but nothing was ever logged there.
constexpr int64_t kLastSecond = 253402300799;
constexpr size_t kMaxText = 64;

using Time = std::optional<int64_t>;

struct Unit {
  std::string_view name;
  int64_t ms;
};

// systemd.time(7), "Parsing time spans"; a month is 30.44 days and a year 365.25 there.
constexpr Unit kUnits[] = {
    {"ms", 1},
    {"msec", 1},
    {"s", kSecond},
    {"sec", kSecond},
    {"second", kSecond},
    {"seconds", kSecond},
    {"m", kMinute},
    {"min", kMinute},
    {"minute", kMinute},
    {"minutes", kMinute},
    {"h", kHour},
    {"hr", kHour},
    {"hour", kHour},
    {"hours", kHour},
    {"d", kDay},
    {"day", kDay},
    {"days", kDay},
    {"w", 7 * kDay},
    {"week", 7 * kDay},
    {"weeks", 7 * kDay},
    {"M", 2630016 * kSecond},
    {"month", 2630016 * kSecond},
    {"months", 2630016 * kSecond},
    {"y", 31557600 * kSecond},
    {"year", 31557600 * kSecond},
    {"years", 31557600 * kSecond},
};

constexpr std::string_view kWeekdays[] = {"mon",      "tue",    "wed",      "thu",     "fri",
                                          "sat",      "sun",    "monday",   "tuesday", "wednesday",
                                          "thursday", "friday", "saturday", "sunday"};

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z')
      c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::optional<int> digits(std::string_view text, size_t min, size_t max) {
  if (text.size() < min || text.size() > max)
    return std::nullopt;
  if (text.find_first_not_of("0123456789") != std::string_view::npos)
    return std::nullopt;
  return parse_int<int>(text);
}

// ".25" of a second as ms; further digits are cut.
std::optional<int> fraction_ms(std::string_view text) {
  if (!digits(text, 1, 9))
    return std::nullopt;
  std::string three(text.substr(0, 3));
  three.resize(3, '0');
  return parse_int<int>(three);
}

// "1h 30min", "90", "2weeks3d": sum of number+unit; a bare number is seconds. Bounded by the times
// that there are, so that neither a product nor the sum overflows.
Time parse_span(std::string_view text) {
  int64_t sum = 0;
  bool any = false;
  while (!(text = trim(text)).empty()) {
    const size_t digits_end = std::min(text.find_first_not_of("0123456789"), text.size());
    const auto count = digits(text.substr(0, digits_end), 1, 9);
    if (!count)
      return std::nullopt;
    text = trim(text.substr(digits_end));
    const size_t word_end = std::min(text.find_first_of(" 0123456789"), text.size());
    const std::string_view word = text.substr(0, word_end);
    int64_t unit = word.empty() ? kSecond : 0;
    for (const Unit& known : kUnits) {
      if (known.name == word)
        unit = known.ms;
    }
    if (unit == 0)
      return std::nullopt;
    constexpr int64_t kLongest = kLastSecond * kSecond;
    if (*count > kLongest / unit || sum + unit * *count > kLongest)
      return std::nullopt;
    sum += unit * *count;
    text.remove_prefix(word_end);
    any = true;
  }
  return any ? Time(sum) : std::nullopt;
}

Time parse_relative(std::string_view text, int64_t now_ms) {
  if (text.ends_with(" ago") || text.ends_with(" left")) {
    const bool past = text.ends_with("ago");
    const Time span = parse_span(text.substr(0, text.rfind(' ')));
    if (!span)
      return std::nullopt;
    return past ? now_ms - *span : now_ms + *span;
  }
  if (text.size() < 2 || (text[0] != '-' && text[0] != '+'))
    return std::nullopt;
  const Time span = parse_span(text.substr(1));
  if (!span)
    return std::nullopt;
  return text[0] == '-' ? now_ms - *span : now_ms + *span;
}

// "@1751328000.250" and, as pasted from a record, "1751328000.250" of at least nine digits.
Time parse_epoch(std::string_view text) {
  const bool marked = text.starts_with("@");
  if (marked)
    text.remove_prefix(1);
  const size_t dot = text.find('.');
  const std::string_view whole = text.substr(0, dot);
  if (!marked && whole.size() < 9)
    return std::nullopt;
  const auto seconds = parse_int<uint64_t>(whole);
  if (!seconds || *seconds > static_cast<uint64_t>(kLastSecond))
    return std::nullopt;
  int ms = 0;
  if (dot != std::string_view::npos) {
    const auto fraction = fraction_ms(text.substr(dot + 1));
    if (!fraction)
      return std::nullopt;
    ms = *fraction;
  }
  return static_cast<int64_t>(*seconds) * kSecond + ms;
}

std::tm civil_now(const TimeContext& context) {
  return context.zone.to_civil(context.now_ms / kSecond);
}

int64_t midnight(const TimeContext& context, int day_shift) {
  std::tm tm = civil_now(context);
  tm.tm_mday += day_shift;
  tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
  return context.zone.to_epoch(tm) * kSecond;
}

int64_t first_of_month(const TimeContext& context, int month_shift, bool january) {
  std::tm tm = civil_now(context);
  tm.tm_mday = 1;
  tm.tm_mon = january ? 0 : tm.tm_mon + month_shift;
  tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
  return context.zone.to_epoch(tm) * kSecond;
}

int64_t same_day_last_month(const TimeContext& context) {
  std::tm tm = civil_now(context);
  tm.tm_mon -= 1;
  tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
  return context.zone.to_epoch(tm) * kSecond;
}

int64_t this_hour(const TimeContext& context) {
  std::tm tm = civil_now(context);
  tm.tm_min = tm.tm_sec = 0;
  return context.zone.to_epoch(tm) * kSecond;
}

// Days since Sunday, ausearch's day 0 of the week.
int days_since_sunday(const TimeContext& context) {
  const std::tm tm = civil_now(context);
  const int64_t day = (context.now_ms / kSecond + tm.tm_gmtoff) / 86400;
  return static_cast<int>((day + 4) % 7);  // 1970-01-01 was a Thursday
}

struct Word {
  std::string_view name;
  int64_t (*time)(const TimeContext&);
};

constexpr Word kWords[] = {
    {"now", [](const TimeContext& c) { return c.now_ms; }},
    {"recent", [](const TimeContext& c) { return c.now_ms - 10 * kMinute; }},
    {"this-hour", [](const TimeContext& c) { return this_hour(c); }},
    {"today", [](const TimeContext& c) { return midnight(c, 0); }},
    {"yesterday", [](const TimeContext& c) { return midnight(c, -1); }},
    {"tomorrow", [](const TimeContext& c) { return midnight(c, 1); }},
    {"this-week", [](const TimeContext& c) { return midnight(c, -days_since_sunday(c)); }},
    {"week-ago", [](const TimeContext& c) { return midnight(c, -7); }},
    {"this-month", [](const TimeContext& c) { return first_of_month(c, 0, false); }},
    {"month-ago", [](const TimeContext& c) { return same_day_last_month(c); }},
    {"this-year", [](const TimeContext& c) { return first_of_month(c, 0, true); }},
};

struct Date {
  int year, month, day;  // month from 1
  bool american;         // MM/DD/YYYY
};

std::optional<Date> parse_date(std::string_view text) {
  const bool american = text.find('/') != std::string_view::npos;
  const auto parts = split(text, american ? '/' : '-');
  if (parts.size() != 3)
    return std::nullopt;
  const auto year = digits(parts[american ? 2 : 0], american ? 2 : 4, 4);
  const auto month = digits(parts[american ? 0 : 1], 1, 2);
  const auto day = digits(parts[american ? 1 : 2], 1, 2);
  if (!year || !month || !day || *month < 1 || *month > 12 || *day < 1)
    return std::nullopt;
  static constexpr std::array<int, 12> kDays = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  if (*day > kDays[static_cast<size_t>(*month - 1)])
    return std::nullopt;
  const int full_year = *year < 100 ? 2000 + *year : *year;
  if (full_year < 1970)
    return std::nullopt;
  return Date{full_year, *month, *day, american};
}

struct TimeOfDay {
  int hour = 0, minute = 0, second = 0, ms = 0;
};

std::optional<TimeOfDay> parse_time_of_day(std::string_view text) {
  TimeOfDay out;
  const size_t dot = text.find('.');
  if (dot != std::string_view::npos) {
    const auto ms = fraction_ms(text.substr(dot + 1));
    if (!ms)
      return std::nullopt;
    out.ms = *ms;
  }
  const auto parts = split(text.substr(0, dot), ':');
  if (parts.size() != 2 && parts.size() != 3)
    return std::nullopt;
  if (dot != std::string_view::npos && parts.size() != 3)
    return std::nullopt;
  int* fields[] = {&out.hour, &out.minute, &out.second};
  static constexpr int kMax[] = {23, 59, 60};
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto value = digits(parts[i], 1, 2);
    if (!value || *value > kMax[i])
      return std::nullopt;
    *fields[i] = *value;
  }
  return out;
}

// "Z", "UTC", "+02:00", "-0330": the offset in seconds.
std::optional<int> parse_offset(std::string_view text) {
  if (text == "Z" || text == "UTC" || text == "GMT")
    return 0;
  if (text.size() < 3 || (text[0] != '+' && text[0] != '-'))
    return std::nullopt;
  std::string rest(text.substr(1));
  std::erase(rest, ':');
  const auto value = digits(rest, 2, 4);
  if (!value || rest.size() == 3)
    return std::nullopt;
  const int hours = rest.size() == 2 ? *value : *value / 100;
  const int minutes = rest.size() == 2 ? 0 : *value % 100;
  if (hours > 14 || minutes > 59)
    return std::nullopt;
  return (text[0] == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
}

// "2025-07-01T10:00:00Z" as "2025-07-01 10:00:00 Z", so that blanks alone separate the parts.
std::string spread(std::string_view text) {
  std::string out(text);
  const size_t t = out.find('T');
  if (t != std::string::npos && t > 0 && t + 1 < out.size() && out[t - 1] >= '0' &&
      out[t - 1] <= '9' && out[t + 1] >= '0' && out[t + 1] <= '9') {
    out[t] = ' ';
  }
  const size_t colon = out.find(':');
  if (colon == std::string::npos)
    return out;
  const size_t zone = out.find_first_of("Z+-", colon);
  if (zone != std::string::npos && out[zone - 1] != ' ')
    out.insert(zone, " ");
  return out;
}

bool is_weekday(std::string_view word) {
  const std::string low = lower(word);
  for (const std::string_view day : kWeekdays) {
    if (low == day)
      return true;
  }
  return false;
}

int64_t compose(const TimeContext& context, const std::optional<Date>& date,
                std::optional<TimeOfDay> time, const Zone& zone) {
  std::tm tm = zone.to_civil(context.now_ms / kSecond);
  const bool now_of_day = context.end_of_range && date && date->american;
  if (!time && !now_of_day)
    time = TimeOfDay{};
  if (date) {
    tm.tm_year = date->year - 1900;
    tm.tm_mon = date->month - 1;
    tm.tm_mday = date->day;
  }
  if (time) {
    tm.tm_hour = time->hour;
    tm.tm_min = time->minute;
    tm.tm_sec = time->second;
  }
  return zone.to_epoch(tm) * kSecond + (time ? time->ms : 0);
}

// [WEEKDAY] [DATE] [TIME] [ZONE], at least one of date and time.
Time parse_calendar(std::string_view text, const TimeContext& context) {
  const std::string wide = spread(text);
  std::vector<std::string_view> words;
  for (const std::string_view word : split(wide, ' ')) {
    if (!word.empty())
      words.push_back(word);
  }
  size_t at = 0;
  if (at < words.size() && is_weekday(words[at]))
    ++at;
  std::optional<Date> date;
  std::optional<TimeOfDay> time;
  Zone zone = context.zone;
  if (at < words.size() && (date = parse_date(words[at])))
    ++at;
  if (at < words.size() && (time = parse_time_of_day(words[at])))
    ++at;
  if (!date && !time)
    return std::nullopt;
  if (at < words.size()) {
    const auto offset = parse_offset(words[at++]);
    if (!offset)
      return std::nullopt;
    zone = fixed_zone(*offset);
  }
  if (at != words.size())
    return std::nullopt;
  return compose(context, date, time, zone);
}

Time parse_any(std::string_view text, const TimeContext& context) {
  const std::string low = lower(text);
  for (const Word& word : kWords) {
    if (word.name == low)
      return word.time(context);
  }
  if (low == "boot")
    return context.boot_ms;
  if (const Time time = parse_epoch(text))
    return time;
  if (const Time time = parse_relative(text, context.now_ms))
    return time;
  return parse_calendar(text, context);
}

}  // namespace

Zone utc_zone() {
  return fixed_zone(0);
}

Zone fixed_zone(int offset_s) {
  return Zone{.to_epoch =
                  [offset_s](const std::tm& civil) {
                    std::tm copy = civil;
                    copy.tm_isdst = 0;
                    return static_cast<int64_t>(::timegm(&copy)) - offset_s;
                  },
              .to_civil =
                  [offset_s](int64_t epoch) {
                    const time_t shifted = epoch + offset_s;
                    std::tm tm{};
                    ::gmtime_r(&shifted, &tm);
                    tm.tm_gmtoff = offset_s;
                    return tm;
                  }};
}

Zone local_zone() {
  ::tzset();
  return Zone{.to_epoch =
                  [](const std::tm& civil) {
                    std::tm copy = civil;
                    copy.tm_isdst = -1;
                    return static_cast<int64_t>(::mktime(&copy));
                  },
              .to_civil =
                  [](int64_t epoch) {
                    const time_t t = epoch;
                    std::tm tm{};
                    ::localtime_r(&t, &tm);
                    return tm;
                  }};
}

Result<int64_t> parse_time(std::string_view text, const TimeContext& context) {
  text = trim(text);
  if (text.size() <= kMaxText) {
    const Time time = parse_any(text, context);
    if (time && *time >= 0 && *time <= kLastSecond * kSecond)
      return *time;
  }
  if (text == "boot")
    return fail(Errc::Unsupported, "time 'boot': the boot time is not known");
  return fail(Errc::Invalid,
              "time '" + printable(text.substr(0, kMaxText)) +
                  "' is not understood: use 2025-07-01 10:00:00, 10:00, 07/01/2025, @1751328000, "
                  "-1h, '2 days ago', now, recent, today, yesterday, this-week, this-month, boot");
}

std::string format_time(int64_t time_ms, const Zone& zone) {
  const int64_t seconds = time_ms >= 0 ? time_ms / kSecond : (time_ms - 999) / kSecond;
  const std::tm tm = zone.to_civil(seconds);
  const long offset = tm.tm_gmtoff / 60;
  const long size = offset < 0 ? -offset : offset;
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:03} {}{:02}{:02}", tm.tm_year + 1900,
                     tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                     time_ms - seconds * kSecond, offset < 0 ? '-' : '+', size / 60, size % 60);
}

std::string format_day(int64_t time_ms, const Zone& zone) {
  return format_time(time_ms, zone).substr(0, 10);
}

}  // namespace tenure::reader
