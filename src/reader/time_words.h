// SPDX-License-Identifier: Apache-2.0
// Points in time as people write them: systemd.time(7)'s timestamps (journalctl) and ausearch(8)'s
// words, relative to a given now and a given zone. Pure as far as the zone is: no global state is
// read.
#pragma once

#include <cstdint>
#include <ctime>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace tenure::reader {

// Civil time here means struct tm without tm_isdst, tm_wday, tm_yday.
struct Zone {
  // Out-of-range fields are normalised (day 0, minute 70), as timegm(3) does.
  std::function<int64_t(const std::tm&)> to_epoch;  // seconds since 1970 UTC
  std::function<std::tm(int64_t)> to_civil;         // tm_gmtoff is set
};

Zone utc_zone();
Zone fixed_zone(int offset_s);  // seconds east of UTC
// The process's zone (TZ, /etc/localtime), through localtime_r(3) and mktime(3).
Zone local_zone();

struct TimeContext {
  int64_t now_ms = 0;  // since 1970 UTC
  Zone zone;
  std::optional<int64_t> boot_ms;  // for "boot"
  // The end of a range: "07/01/2025" without a time of day then means that day at this time of day,
  // as ausearch(8) has it for -te.
  bool end_of_range = false;
};

// Milliseconds since 1970 UTC. Invalid, with the forms that are understood, for anything else.
Result<int64_t> parse_time(std::string_view text, const TimeContext& context);

// "2025-07-01 00:00:00.250 +0200"
std::string format_time(int64_t time_ms, const Zone& zone);
// "2025-07-01", the day in that zone.
std::string format_day(int64_t time_ms, const Zone& zone);

}  // namespace tenure::reader
