// SPDX-License-Identifier: Apache-2.0
// The part of time that is seen, and where the axis has its marks.

const kSecond = 1000, kMinute = 60000, kHour = 3600000, kDay = 86400000;
const kSteps = [
  1,
  5,
  20,
  100,
  500,
  kSecond,
  5 * kSecond,
  15 * kSecond,
  30 * kSecond,
  kMinute,
  5 * kMinute,
  15 * kMinute,
  30 * kMinute,
  kHour,
  3 * kHour,
  6 * kHour,
  12 * kHour,
  kDay,
  2 * kDay,
  7 * kDay,
  14 * kDay
];
const kMonthSteps = [1, 3, 6, 12, 24, 60, 120];
const kLeastWindow = 20;  // ms

class TimeWindow {
  constructor(first, last) {
    const margin = (last - first) * 0.02;
    this.whole = [first - margin, last + margin];
    this.from = this.whole[0];
    this.until = this.whole[1];
  }

  get width() { return this.until - this.from; }

  set(from, until) {
    const width = Math.min(Math.max(until - from, kLeastWindow), this.whole[1] - this.whole[0]);
    const middle = (from + until) / 2;
    this.from = Math.min(Math.max(middle - width / 2, this.whole[0]), this.whole[1] - width);
    this.until = this.from + width;
  }

  all() { this.set(...this.whole); }

  // `factor` below 1 shows less; what is at `at` stays in its place.
  zoom(factor, at = (this.from + this.until) / 2) {
    this.set(at - (at - this.from) * factor, at + (this.until - at) * factor);
  }

  move(ms) {
    const width = this.width;
    const from = Math.min(Math.max(this.from + ms, this.whole[0]), this.whole[1] - width);
    this.from = from;
    this.until = from + width;
  }

  x(ms, width) { return (ms - this.from) / this.width * width; }
  ms(x, width) { return this.from + x / width * this.width; }
}

function tickText(ms, step) {
  const date = clock.civil(ms);
  const time = `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}`;
  if (step >= kDay)
    return `${date.getUTCDate()} ${kMonths[date.getUTCMonth()]}`;
  if (step >= kMinute)
    return time;
  const seconds = `${time}:${two(date.getUTCSeconds())}`;
  return step >= kSecond ? seconds :
                           `${seconds}.${String(date.getUTCMilliseconds()).padStart(3, '0')}`;
}

// Months and years, at their first days.
function monthTicks(from, until, months) {
  const out = [];
  const start = clock.civil(from);
  for (let month =
           Math.floor((start.getUTCFullYear() * 12 + start.getUTCMonth()) / months) * months;
       ; month += months) {
    const year = Math.floor(month / 12);
    const ms = clock.moment(year, month % 12, 1);
    if (ms > until)
      return out;
    if (ms >= from)
      out.push({
        ms,
        text: months >= 12 ? String(year) :
                             `${kMonths[month % 12]}${month % 12 === 0 ? ' ' + year : ''}`,
        strong: month % 12 === 0
      });
  }
}

// {ms, text, strong} about `room` pixels apart.
function ticks(view, width, room = 92) {
  const least = view.width / Math.max(1, width / room);
  const step = kSteps.find((one) => one >= least);
  if (!step) {
    const months = kMonthSteps.find((one) => one * 30 * kDay >= least) || 240;
    return monthTicks(view.from, view.until, months);
  }
  const out = [];
  let day = clock.civil(view.from);
  if (step >= kDay) {
    const every = step / kDay;
    for (let n = 0;; n += 1) {
      const ms = clock.moment(day.getUTCFullYear(), day.getUTCMonth(), day.getUTCDate() + n);
      if (ms > view.until)
        return out;
      const date = clock.civil(ms);
      // Counted within the month, so that every month begins with a mark.
      const nth = date.getUTCDate() - 1;
      if (ms >= view.from && nth % every === 0 && (nth === 0 || nth + every / 2 < 31))
        out.push({ms, text: tickText(ms, step), strong: nth === 0});
    }
  }
  const offset = clock.offset(view.from) * kMinute;
  for (let ms = Math.ceil((view.from + offset) / step) * step - offset; ms <= view.until;
       ms += step) {
    const civil = clock.civil(ms);
    const midnight = civil.getTime() % kDay === 0;
    out.push({ms, text: midnight ? tickText(ms, kDay) : tickText(ms, step), strong: midnight});
  }
  return out;
}
