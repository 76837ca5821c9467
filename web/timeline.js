// SPDX-License-Identifier: Apache-2.0
// Draws the lanes on a canvas as high as the window onto them, however many there are, and tells
// what lies under the pointer.

const kFont = '12.5px system-ui, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif';
const kBold = '600 ' + kFont;

class Timeline {
  constructor(lanes, view) {
    this.lanes = lanes;
    this.view = view;
    this.canvas = byId('timeline');
    this.axis = byId('axis');
    this.overview = byId('overview');
    this.scroller = byId('scroller');
    this.chosen = null;
    this.hover = null;
    this.density = [];
    this.readColours();
  }

  readColours() {
    const style = getComputedStyle(document.documentElement);
    const names = [
      'card', 'line', 'faint', 'text', 'quiet', 'accent', 'choice', 'run', 'grid', 'grid-strong',
      'failed', 'refused', 'outside', 'gap', 'other', ...kKinds
    ];
    this.colours =
        Object.fromEntries(names.map((name) => [name, style.getPropertyValue('--' + name).trim()]));
  }

  colourOf(kind) { return this.colours[colourName(kind)]; }

  // Black or white, whichever is easier to read on it (WCAG 2.2, relative luminance).
  inkOn(colour) {
    const parts = [1, 3, 5].map((at) => (parseInt(colour.slice(at, at + 2), 16) / 255) ** 2.2);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2] > 0.3 ? '#11161d' : '#ffffff';
  }

  get gutter() { return this.width < 520 ? 104 : 232; }
  get plot() { return this.width - this.gutter; }
  x(ms) { return this.gutter + this.view.x(ms, this.plot); }
  ms(x) { return this.view.ms(x - this.gutter, this.plot); }

  // As high as its lanes, at most half of the screen.
  fit() {
    const most = Math.max(240, Math.round(window.innerHeight * 0.54));
    this.scroller.style.height = `${Math.min(most, Math.max(180, this.lanes.height + 2))}px`;
  }

  // To the sizes on the screen; `scroller` without its scroll bar, so that all three canvases
  // agree.
  resize() {
    this.fit();
    this.width = this.scroller.clientWidth;
    this.height = this.scroller.clientHeight;
    const scale = window.devicePixelRatio || 1;
    for (const [canvas, height] of [
             [this.canvas, this.height], [this.axis, 34], [this.overview, 44]]) {
      canvas.style.width = `${this.width}px`;
      canvas.style.height = `${height}px`;
      canvas.width = Math.round(this.width * scale);
      canvas.height = Math.round(height * scale);
      canvas.getContext('2d').setTransform(scale, 0, 0, scale, 0, 0);
    }
    byId('height').style.height = `${Math.max(0, this.lanes.height - this.height)}px`;
  }

  draw() {
    const began = performance.now();
    this.ticks = ticks(this.view, this.plot, this.width < 520 ? 70 : 96);
    this.drawAxis();
    this.drawOverview();
    this.drawLanes();
    this.lastDraw = performance.now() - began;
  }

  clear(canvas) {
    const pen = canvas.getContext('2d');
    pen.clearRect(0, 0, this.width, canvas.height);
    pen.font = kFont;
    pen.textBaseline = 'middle';
    return pen;
  }

  drawAxis() {
    const pen = this.clear(this.axis);
    const {text, quiet} = this.colours;
    pen.fillStyle = quiet;
    pen.textAlign = 'left';
    pen.fillText(clock.zone(this.view.from), 2, 25);
    pen.fillStyle = text;
    pen.fillText(clock.day(this.view.from), this.gutter, 9);
    const last = clock.day(this.view.until);
    if (last !== clock.day(this.view.from) && this.plot > 260) {
      pen.textAlign = 'right';
      pen.fillText(last, this.width - 4, 9);
    }
    for (const tick of this.ticks) {
      const x = this.x(tick.ms);
      pen.font = tick.strong ? kBold : kFont;
      pen.fillStyle = tick.strong ? text : quiet;
      const half = pen.measureText(tick.text).width / 2;
      if (x - half < this.gutter - 8 || x + half > this.width)
        continue;
      pen.textAlign = 'center';
      pen.fillText(tick.text, x, 25);
    }
  }

  // How many were held at once, over the whole time; what is seen of it stands out.
  drawOverview() {
    const pen = this.clear(this.overview);
    const {faint, accent, quiet, gap} = this.colours;
    const whole = this.view.whole;
    const x = (ms) => this.gutter + (ms - whole[0]) / (whole[1] - whole[0]) * this.plot;
    pen.fillStyle = faint;
    pen.fillRect(this.gutter, 0, this.plot, 44);
    pen.fillStyle = quiet;
    pen.fillText('held at once', 2, 14);
    pen.fillText(`at most ${number(this.most)}`, 2, 30);
    pen.globalAlpha = 0.55;
    const step = this.plot / this.density.length;
    pen.beginPath();
    pen.moveTo(this.gutter, 44);
    this.density.forEach((count, i) => {
      const height = 44 - count / Math.max(1, this.most) * 38;
      pen.lineTo(this.gutter + i * step, height);
      pen.lineTo(this.gutter + (i + 1) * step, height);
    });
    pen.lineTo(this.width, 44);
    pen.fill();
    pen.globalAlpha = 1;
    for (const one of data.gaps) {
      const from = x(one.from ?? whole[0]);
      pen.fillStyle = gap;
      pen.fillRect(from, 0, Math.max(2, x(one.until ?? whole[1]) - from), 3);
    }
    for (const mark of this.marks) {
      pen.fillStyle = this.colours[mark.sign];
      pen.fillRect(x(mark.time) - 1, 4, 2, 5);
    }
    const left = x(this.view.from);
    const right = Math.max(left + 3, x(this.view.until));
    pen.fillStyle = accent;
    pen.globalAlpha = 0.13;
    pen.fillRect(left, 0, right - left, 44);
    pen.globalAlpha = 1;
    pen.strokeStyle = accent;
    pen.lineWidth = 1.5;
    pen.strokeRect(left + 0.75, 0.75, Math.max(1, right - left - 1.5), 42.5);
  }

  // Counts by buckets of the whole time, from beginnings and ends.
  measure(tenures, marks) {
    const buckets = 400;
    const [first, last] = this.view.whole;
    const place = (ms) =>
        Math.min(buckets, Math.max(0, Math.floor((ms - first) / (last - first) * buckets)));
    const change = new Array(buckets + 2).fill(0);
    for (const tenure of tenures) {
      change[tenure.from === null ? 0 : place(tenure.from)] += 1;
      change[tenure.until === null ? buckets + 1 : place(tenure.until) + 1] -= 1;
    }
    let held = 0;
    this.density = change.slice(0, buckets).map((by) => held += by);
    this.most = this.density.reduce((a, b) => Math.max(a, b), 0);
    this.marks = marks;
  }

  drawLanes() {
    const pen = this.clear(this.canvas);
    const top = this.scroller.scrollTop;
    const rows = [...this.lanes.between(top, top + this.height)];
    pen.save();
    pen.beginPath();
    pen.rect(this.gutter, 0, this.plot, this.height);
    pen.clip();
    for (const row of rows) this.drawBack(pen, row, row.y - top);
    this.drawGrid(pen);
    for (const row of rows) this.drawBars(pen, row, row.y - top);
    this.drawGaps(pen, rows, top);
    for (const row of rows) this.drawMarks(pen, row, row.y - top);
    this.drawHover(pen);
    pen.restore();
    for (const row of rows) this.drawLabel(pen, row, row.y - top);
    pen.fillStyle = this.colours['grid-strong'];
    pen.fillRect(this.gutter - 1, 0, 1, this.height);
    if (rows.length === 0) {
      pen.fillStyle = this.colours.quiet;
      pen.textAlign = 'center';
      pen.fillText('Nothing matches the filter.', this.width / 2, 60);
    }
  }

  drawGrid(pen) {
    for (const tick of this.ticks) {
      pen.fillStyle = this.colours[tick.strong ? 'grid-strong' : 'grid'];
      pen.fillRect(Math.round(this.x(tick.ms)), 0, 1, this.height);
    }
  }

  drawBack(pen, row, y) {
    const {faint, line, run} = this.colours;
    if (row.open) {
      pen.fillStyle = faint;
      pen.fillRect(this.gutter, y, this.plot, row.height);
    }
    if (row.head) {
      pen.fillStyle = line;
      pen.fillRect(this.gutter, Math.round(y), this.plot, 1);
      pen.fillStyle = run;
      for (const one of row.group.runs) {
        const from = this.x(one.from ?? this.view.whole[0]);
        const until = this.x(one.until ?? data.last);
        if (until < this.gutter || from > this.width)
          continue;
        this.box(pen, from, y + 3, Math.max(2, until - from), row.height - 6, 4);
      }
    }
  }

  box(pen, x, y, width, height, radius) {
    const left = Math.max(x, this.gutter - 20);
    const right = Math.min(x + width, this.width + 20);
    pen.beginPath();
    pen.roundRect(
        left, y, Math.max(0.5, right - left), height, Math.min(radius, height / 2, width / 2));
    pen.fill();
  }

  // Where a bar of a row lies.
  place(row, bar, y) {
    const {tenure, track} = bar;
    const height = trackHeight(row.packed.tracks);
    const used = row.packed.tracks * (height + 1) - 1;
    const from = this.x(tenure.from ?? this.view.whole[0]);
    const until = this.x(tenure.until ?? Math.max(data.last, tenure.from ?? data.last));
    return {
      x: from,
      y: y + (row.height - used) / 2 + track * (height + 1),
      width: Math.max(2, until - from),
      height
    };
  }

  drawBars(pen, row, y) {
    let last = null;
    for (const bar of row.packed.bars) {
      const at = this.place(row, bar, y);
      if (at.x + at.width < this.gutter || at.x > this.width)
        continue;
      // What would be drawn over by its neighbour's very pixels is left out.
      if (last && at.width <= 2 && at.x - last.x < 0.5 && at.y === last.y &&
          bar.tenure.kind === last.kind)
        continue;
      last = {x: at.x, y: at.y, kind: bar.tenure.kind};
      this.drawBar(pen, row, bar.tenure, at);
    }
  }

  drawBar(pen, row, tenure, at) {
    const colour = this.colourOf(tenure.kind);
    pen.fillStyle = this.fill(pen, tenure, at, colour);
    if (tenure.until === null && at.height >= 6)
      this.arrow(pen, at);
    else
      this.box(pen, at.x, at.y, at.width, at.height, 3);
    if (tenure === this.chosen) {
      pen.strokeStyle = this.colours.text;
      pen.lineWidth = 2;
      pen.strokeRect(at.x - 1.5, at.y - 1.5, at.width + 3, at.height + 3);
    }
    if (at.height < 12 || at.width < 46)
      return;
    const left = Math.max(at.x, this.gutter) + 6;
    const room = Math.min(at.x + at.width, this.width) - left - (tenure.until === null ? 12 : 4);
    if (room < 34)
      return;
    pen.fillStyle = this.inkOn(colour);
    pen.textAlign = 'left';
    pen.font = '11px system-ui, "DejaVu Sans", sans-serif';
    pen.fillText(this.cut(pen, this.barText(row, tenure), room), left, at.y + at.height / 2 + 0.5);
    pen.font = kFont;
  }

  barText(row, tenure) {
    if (row.head)
      return this.lanes.by === 'guest' ? tenure.resource : tenure.guest;
    const words =
        [tenure.amount, tenure.raw.access, tenure.device, tenure.who && `by ${tenure.who}`];
    return words.filter(Boolean).join('  ') || tenure.raw.from_reason || '';
  }

  // A beginning or an end that no record tells fades.
  fill(pen, tenure, at, colour) {
    const startless = tenure.from === null;
    const bounded = tenure.raw.certainty === 'bounded';
    if ((!startless && !bounded) || at.width < 6)
      return colour;
    const left = Math.max(at.x, -1e6);
    const right = Math.min(at.x + at.width, 1e6);
    const fade = pen.createLinearGradient(left, 0, right, 0);
    const clear = colour + '26';
    const part = (px) => Math.min(1, Math.max(0, px / (right - left)));
    fade.addColorStop(0, startless ? clear : colour);
    if (startless)
      fade.addColorStop(part(Math.min(60, (right - left) / 3)), colour);
    if (bounded) {
      const after = tenure.after === null ? right - 30 : this.x(tenure.after);
      fade.addColorStop(
          Math.min(part(after - left), 1 - part(Math.min(14, (right - left) / 3))), colour);
      fade.addColorStop(1, clear);
    } else {
      fade.addColorStop(1, colour);
    }
    return fade;
  }

  arrow(pen, at) {
    const left = Math.max(at.x, this.gutter - 20);
    const right = at.x + at.width;
    const point = Math.min(7, at.width / 2);
    pen.beginPath();
    pen.moveTo(left, at.y);
    pen.lineTo(right - point, at.y);
    pen.lineTo(right, at.y + at.height / 2);
    pen.lineTo(right - point, at.y + at.height);
    pen.lineTo(left, at.y + at.height);
    pen.fill();
  }

  drawGaps(pen, rows, top) {
    if (!this.hatch || this.hatchColour !== this.colours.gap)
      this.makeHatch(pen);
    for (const gap of data.gaps) {
      const from = this.x(gap.from ?? this.view.whole[0]);
      const width = Math.max(3, this.x(gap.until ?? this.view.whole[1]) - from);
      if (from + width < this.gutter || from > this.width)
        continue;
      for (const row of rows) {
        if (gap.node && row.group.node && gap.node !== row.group.node)
          continue;
        pen.fillStyle = this.hatch;
        pen.fillRect(from, row.y - top, width, row.height);
      }
    }
  }

  makeHatch() {
    const tile = document.createElement('canvas');
    tile.width = tile.height = 8;
    const pen = tile.getContext('2d');
    pen.strokeStyle = this.hatchColour = this.colours.gap;
    pen.globalAlpha = 0.6;
    pen.lineWidth = 1.4;
    for (const shift of [-8, 0, 8]) {
      pen.moveTo(shift, 8);
      pen.lineTo(shift + 8, 0);
    }
    pen.stroke();
    this.hatch = this.canvas.getContext('2d').createPattern(tile, 'repeat');
  }

  drawMarks(pen, row, y) {
    let last = null;
    for (const mark of row.marks) {
      const x = this.x(mark.time);
      if (x < this.gutter - 8 || x > this.width + 8)
        continue;
      if (last && Math.abs(x - last.x) < 1 && last.sign === mark.sign)
        continue;
      last = {x, sign: mark.sign};
      this.drawSign(pen, mark.sign, x, y + row.height / 2, mark === this.chosen);
    }
  }

  drawSign(pen, sign, x, y, chosen) {
    const size = 6;
    pen.beginPath();
    if (sign === 'outside') {
      pen.arc(x, y, size - 1, 0, 2 * Math.PI);
    } else {
      const corners = sign === 'failed' ? [[0, -size], [size, size - 1], [-size, size - 1]] :
                                          [[0, -size], [size, 0], [0, size], [-size, 0]];
      corners.forEach(([dx, dy]) => pen.lineTo(x + dx, y + dy));
      pen.closePath();
    }
    pen.fillStyle = this.colours[sign];
    pen.fill();
    pen.strokeStyle = chosen ? this.colours.text : this.colours.card;
    pen.lineWidth = chosen ? 2 : 1.25;
    pen.stroke();
  }

  drawHover(pen) {
    if (this.hover === null)
      return;
    pen.fillStyle = this.colours.accent;
    pen.fillRect(Math.round(this.hover), 0, 1, this.height);
  }

  drawLabel(pen, row, y) {
    const {text, quiet, card, faint, line} = this.colours;
    pen.fillStyle = row.open ? faint : card;
    pen.fillRect(0, y, this.gutter, row.height);
    const middle = y + Math.min(row.height, 40) / 2;
    pen.textAlign = 'left';
    if (row.head) {
      pen.fillStyle = line;
      pen.fillRect(0, Math.round(y), this.gutter, 1);
      pen.fillStyle = quiet;
      pen.fillText(row.open ? '\u25be' : '\u25b8', 4, middle);
      pen.font = kBold;
      pen.fillStyle = text;
      const count = number(row.group.tenures.length);
      const room = this.gutter - 30 - (this.gutter > 150 ? pen.measureText(count).width + 10 : 0);
      pen.fillText(this.cut(pen, row.label, room), 18, middle);
      pen.font = kFont;
      if (this.gutter > 150) {
        pen.textAlign = 'right';
        pen.fillStyle = quiet;
        pen.fillText(count, this.gutter - 8, middle);
      }
      return;
    }
    pen.fillStyle = this.colourOf(row.kind);
    pen.fillRect(18, middle - 4, 8, 8);
    pen.fillStyle = quiet;
    const room = this.gutter - 38;
    const name = row.label === row.kind || row.label.startsWith(row.kind + ' ') ?
        row.label :
        `${row.label}  ${this.gutter > 150 ? row.kind : ''}`;
    const ends = row.label.length > 12 && pen.measureText(name).width > room;
    pen.fillText(ends ? this.cutLeft(pen, row.label, room) : this.cut(pen, name, room), 32, middle);
  }

  // The text with an ellipsis where there is no room for all of it.
  cut(pen, text, room) {
    if (pen.measureText(text).width <= room)
      return text;
    let low = 0;
    let high = text.length;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (pen.measureText(text.slice(0, middle) + '\u2026').width <= room)
        low = middle;
      else
        high = middle - 1;
    }
    return low > 0 ? text.slice(0, low) + '\u2026' : '';
  }

  // Of a path the end tells more.
  cutLeft(pen, text, room) {
    let low = 0;
    while (low < text.length && pen.measureText('\u2026' + text.slice(low)).width > room)
      low += Math.max(1, (text.length - low) >> 4);
    return low === 0 ? text : '\u2026' + text.slice(low);
  }

  // What lies at a place of the canvas: {row} and perhaps {label}, {tenure}, {mark}, {gap}
  // or {run}.
  thingAt(x, y) {
    const top = this.scroller.scrollTop;
    const row = this.lanes.at(y + top);
    if (!row)
      return {};
    if (x < this.gutter)
      return {row, label: true};
    const rowTop = row.y - top;
    const mark = row.marks.findLast((one) => Math.abs(this.x(one.time) - x) <= 7);
    if (mark && Math.abs(rowTop + row.height / 2 - y) <= 8)
      return {row, mark};
    const bar = row.packed.bars.findLast((one) => {
      const at = this.place(row, one, rowTop);
      return x >= at.x - 2 && x <= at.x + at.width + 2 && y >= at.y - 1 &&
          y <= at.y + at.height + 1;
    });
    if (bar)
      return {row, tenure: bar.tenure};
    const ms = this.ms(x);
    const gap = data.gaps.find(
        (one) => ms >= (one.from ?? -Infinity) && ms <= (one.until ?? Infinity) &&
            (!one.node || !row.group.node || one.node === row.group.node));
    if (gap)
      return {row, gap};
    const run = row.head ?
        row.group.runs.find(
            (one) => ms >= (one.from ?? -Infinity) && ms <= (one.until ?? Infinity)) :
        undefined;
    return run ? {row, run} : {row};
  }
}
