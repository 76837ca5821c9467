// SPDX-License-Identifier: Apache-2.0
// Text for people: names that cannot disturb the page, times, durations. Nothing in this page is
// ever made from markup: elements come from make(), their text is textContent.

const byId = (id) => document.getElementById(id);

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined)
    element.textContent = text;
  if (className)
    element.className = className;
  return element;
}

// Control characters and those that turn or hide text (Unicode bidi controls, zero width) as \u{…}.
const kUnsafe = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
function shown(text) {
  return String(text).replace(
      kUnsafe, (c) => '\\u{' + c.codePointAt(0).toString(16).toUpperCase() + '}');
}

const two = (n) => String(n).padStart(2, '0');
const kMonths =
    ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const kDays = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];

// Times in UTC or in the browser's zone; the zone is always named.
const clock = {
  utc: false,
  // Minutes east of UTC at that time.
  offset(ms) { return this.utc ? 0 : -new Date(ms).getTimezoneOffset(); },
  // A Date whose getUTC…() are the civil time in the zone.
  civil(ms) { return new Date(ms + this.offset(ms) * 60000); },
  // The moment of a civil time; of one that a change to summer time skips, the next.
  moment(
      year, month,
      day) { return this.utc ? Date.UTC(year, month, day) : new Date(year, month, day).getTime(); },
  zone(ms) {
    const minutes = this.offset(ms);
    if (this.utc)
      return 'UTC';
    const size = Math.abs(minutes);
    return (minutes < 0 ? '-' : '+') + two(Math.floor(size / 60)) + two(size % 60);
  },
  day(ms) {
    const date = this.civil(ms);
    return `${kDays[date.getUTCDay()]} ${date.getUTCDate()} ${kMonths[date.getUTCMonth()]} ${
        date.getUTCFullYear()}`;
  },
  full(ms) {
    const date = this.civil(ms);
    const rest = Math.round(date.getTime() % 1000 + 1000) % 1000;
    return `${date.getUTCFullYear()}-${two(date.getUTCMonth() + 1)}-${two(date.getUTCDate())} ` +
        `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())}` +
        `.${String(rest).padStart(3, '0')} ${this.zone(ms)}`;
  },
  // Without milliseconds and zone.
  short(ms) { return this.full(ms).slice(0, 19); },
};

// "2 d 4 h", "3 min 12 s", "250 ms".
function span(ms) {
  const units = [[86400000, 'd'], [3600000, 'h'], [60000, 'min'], [1000, 's'], [1, 'ms']];
  const out = [];
  let rest = Math.max(0, Math.round(ms));
  for (const [size, name] of units) {
    if (rest < size || (name === 'ms' && out.length > 0))
      continue;
    out.push(`${Math.floor(rest / size)} ${name}`);
    rest %= size;
    if (out.length === 2)
      break;
  }
  return out.join(' ') || '0 s';
}

const number = (n) => n.toLocaleString('en');
const plural = (n, one, many) => `${number(n)} ${n === 1 ? one : many || one + 's'}`;
