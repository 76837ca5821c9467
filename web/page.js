// SPDX-License-Identifier: Apache-2.0
// Joins the parts: what is chosen, filtered and zoomed.

const view = new TimeWindow(data.first, data.last);
const lanes = new Lanes();
const timeline = new Timeline(lanes, view);
const details = new Details();
const hiddenKinds = new Set();
let kept = {tenures: [], marks: []};
let current = {};

const table = new TenureTable((tenure) => {
  choose({tenure});
  if (tenure.until !== null && tenure.until < view.from ||
      tenure.from !== null && tenure.from > view.until)
    showTime(tenure);
  reveal(tenure);
});

let wanted = false;
function redraw() {
  if (wanted)
    return;
  wanted = true;
  requestAnimationFrame(() => {
    wanted = false;
    timeline.draw();
    tellWindow();
  });
}

function tellWindow() {
  byId('window').textContent = `${clock.short(view.from)} to ${clock.short(view.until)} ${
      clock.zone(view.until)}  (${span(view.width)})`;
  if (byId('only-window').checked)
    fillTable();
}

function inWindow(tenure) {
  return (tenure.until ?? Infinity) >= view.from && (tenure.from ?? -Infinity) <= view.until;
}

function fillTable() {
  const rows = byId('only-window').checked ? kept.tenures.filter(inWindow) : kept.tenures;
  const all = data.tenures.length;
  byId('count').textContent = rows.length === all ?
      plural(all, 'tenure') :
      `${number(rows.length)} of ${plural(all, 'tenure')}`;
  table.fill(rows);
}

function refill() {
  const wants = filterOf(byId('filter').value);
  kept = {
    tenures: data.tenures.filter((tenure) => !hiddenKinds.has(tenure.kind) && wants(tenure)),
    marks: data.marks.filter((mark) => !hiddenKinds.has(mark.kind) && wants(mark)),
  };
  lanes.fill(kept.tenures, kept.marks, data.runs);
  lanes.unfoldFew();
  timeline.measure(kept.tenures, kept.marks);
  relayout();
  fillTable();
}

function relayout() {
  timeline.resize();
  byId('unfold').textContent = lanes.unfolded.size > 0 ? 'Fold all' : 'Unfold all';
  redraw();
}

function choose(thing) {
  current = thing;
  timeline.chosen = thing.tenure || thing.mark || null;
  details.show(thing);
  table.show(thing.tenure || null);
  redraw();
}

// Zooms to a tenure, with room on both sides.
function showTime(tenure) {
  const from = tenure.from ?? data.first;
  const until = tenure.until ?? data.last;
  const room = Math.max(1000, (until - from) * 0.4);
  view.set(from - room, until + room);
}

// Scrolls the timeline to the lane of a tenure.
function reveal(tenure) {
  const row = lanes.rows.find((one) => one.packed.bars.some((bar) => bar.tenure === tenure));
  if (!row)
    return;
  const {scroller} = timeline;
  if (row.y < scroller.scrollTop || row.y + row.height > scroller.scrollTop + timeline.height)
    scroller.scrollTop = row.y - timeline.height / 3;
  redraw();
}

function tipFor(thing) {
  if (thing.label)
    return thing.row.open === undefined ? [] : [
      thing.row.label,
      `${plural(thing.row.group.tenures.length, 'tenure')}, ${
          plural(thing.row.group.marks.length, 'sign')}`
    ];
  if (thing.tenure) {
    const t = thing.tenure;
    const until = t.until === null ? 'held' : clock.short(t.until);
    return [
      `${t.guest}: ${t.kind} ${t.id}`,
      `${t.from === null ? 'before the trail' : clock.short(t.from)} to ${until}`,
      [t.raw.access, t.device, t.raw.certainty, t.who && `asked by ${t.who}`].filter(Boolean).join(
          ', ')
    ];
  }
  if (thing.mark)
    return [
      `${kSigns[thing.mark.sign]}: ${shown(thing.mark.raw.action || '')} ${thing.mark.resource}`,
      `${thing.mark.guest}, ${clock.full(thing.mark.time)}`, shown(thing.mark.raw.why || '')
    ];
  if (thing.gap)
    return [shown(thing.gap.what), 'Not seen does not mean not had.'];
  if (thing.run)
    return [
      `${thing.run.guest}, run ${thing.run.raw.run}`,
      shown(thing.run.raw.start_reason || 'start not seen')
    ];
  return [];
}

function showTip(event, lines) {
  const tip = byId('tip');
  tip.hidden = lines.length === 0;
  if (tip.hidden)
    return;
  tip.replaceChildren(
      make('b', lines[0]), ...lines.slice(1).filter(Boolean).map((line) => make('div', line)));
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8))}px`;
  tip.style.top = `${
      event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 12 :
                                                      event.clientY + 18}px`;
}

// --- Pointer: dragging moves, two fingers zoom, a click chooses.
const fingers = new Map();
let dragged = 0;

function onMove(event) {
  const {canvas, plot} = timeline;
  if (!fingers.has(event.pointerId)) {
    const thing = timeline.thingAt(event.offsetX, event.offsetY);
    canvas.classList.toggle(
        'on-thing', Boolean(thing.label || thing.tenure || thing.mark || thing.gap || thing.run));
    timeline.hover = event.offsetX > timeline.gutter ? event.offsetX : null;
    showTip(event, tipFor(thing));
    redraw();
    return;
  }
  const before = [...fingers.values()];
  const old = fingers.get(event.pointerId);
  fingers.set(event.pointerId, {x: event.offsetX, y: event.offsetY});
  if (before.length === 2) {
    const after = [...fingers.values()];
    const spread = (pair) => Math.max(20, Math.abs(pair[0].x - pair[1].x));
    view.zoom(spread(before) / spread(after), timeline.ms((after[0].x + after[1].x) / 2));
  } else {
    view.move((old.x - event.offsetX) / plot * view.width);
  }
  dragged += Math.abs(event.offsetX - old.x) + Math.abs(event.offsetY - old.y);
  if (dragged > 4)
    canvas.classList.add('dragging');
  redraw();
}

function onUp(event) {
  const had = fingers.delete(event.pointerId);
  timeline.canvas.classList.remove('dragging');
  if (!had || dragged > 4)
    return;
  const thing = timeline.thingAt(event.offsetX, event.offsetY);
  if (thing.label) {
    if (thing.row.head)
      lanes.toggle(thing.row.group);
    relayout();
  } else {
    choose(thing);
  }
}

function listenToTimeline() {
  const {canvas, scroller} = timeline;
  canvas.addEventListener('pointerdown', (event) => {
    if (event.button !== 0)
      return;
    if (fingers.size === 0)
      dragged = 0;
    fingers.set(event.pointerId, {x: event.offsetX, y: event.offsetY});
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener('pointermove', onMove);
  canvas.addEventListener('pointerup', onUp);
  canvas.addEventListener('pointercancel', (event) => fingers.delete(event.pointerId));
  canvas.addEventListener('pointerleave', (event) => {
    timeline.hover = null;
    showTip(event, []);
    redraw();
  });
  canvas.addEventListener('dblclick', (event) => {
    const {tenure} = timeline.thingAt(event.offsetX, event.offsetY);
    if (tenure)
      showTime(tenure);
    redraw();
  });
  scroller.addEventListener('scroll', redraw);
  scroller.addEventListener('wheel', (event) => {
    const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    if (event.ctrlKey || event.metaKey)
      view.zoom(Math.exp(event.deltaY * 0.004), timeline.ms(event.offsetX));
    else if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY))
      view.move(sideways / timeline.plot * view.width);
    else
      return;
    event.preventDefault();
    redraw();
  }, {passive: false});
  scroller.addEventListener('keydown', onKey);
}

function onKey(event) {
  const actions = {
    'ArrowLeft': () => view.move(-view.width / 8),
    'ArrowRight': () => view.move(view.width / 8),
    '+': () => view.zoom(0.6),
    '=': () => view.zoom(0.6),
    '-': () => view.zoom(1 / 0.6),
    '0': () => view.all(),
    'Escape': () => choose({}),
  };
  if (!actions[event.key] || event.ctrlKey || event.metaKey || event.altKey)
    return;
  actions[event.key]();
  event.preventDefault();
  redraw();
}

// --- The overview: dragging chooses a part, a click goes there.
function listenToOverview() {
  const {overview} = timeline;
  const ms = (event) => view.whole[0] +
      (event.offsetX - timeline.gutter) / timeline.plot * (view.whole[1] - view.whole[0]);
  let start = null;
  overview.addEventListener('pointerdown', (event) => {
    start = event.offsetX;
    overview.setPointerCapture(event.pointerId);
  });
  overview.addEventListener('pointermove', (event) => {
    if (start === null || Math.abs(event.offsetX - start) < 4)
      return;
    const other =
        view.whole[0] + (start - timeline.gutter) / timeline.plot * (view.whole[1] - view.whole[0]);
    view.set(Math.min(other, ms(event)), Math.max(other, ms(event)));
    redraw();
  });
  overview.addEventListener('pointerup', (event) => {
    if (start !== null && Math.abs(event.offsetX - start) < 4)
      view.move(ms(event) - (view.from + view.until) / 2);
    start = null;
    redraw();
  });
  overview.addEventListener('wheel', (event) => {
    view.zoom(Math.exp(event.deltaY * 0.002));
    event.preventDefault();
    redraw();
  }, {passive: false});
}

function pressOne(group, value) {
  for (const button of group.querySelectorAll('button'))
    button.setAttribute('aria-pressed', String(button.dataset.value === value));
}

function listenToControls() {
  let timer = 0;
  byId('filter').addEventListener('input', () => {
    clearTimeout(timer);
    timer = setTimeout(refill, data.tenures.length > 20000 ? 150 : 0);
  });
  byId('lanes').addEventListener('click', (event) => {
    const {value} = event.target.dataset;
    if (!value)
      return;
    lanes.by = value;
    pressOne(byId('lanes'), value);
    timeline.scroller.scrollTop = 0;
    refill();
  });
  byId('zone').addEventListener('click', (event) => {
    const {value} = event.target.dataset;
    if (!value)
      return;
    clock.utc = value === 'utc';
    pressOne(byId('zone'), value);
    tellSummary();
    fillTable();
    details.show(current);
    redraw();
  });
  byId('unfold').addEventListener('click', () => {
    lanes.unfolded =
        new Set(lanes.unfolded.size > 0 ? [] : lanes.groups.map((group) => group.name));
    lanes.place();
    relayout();
  });
  const zoom = {
    'zoom-in': () => view.zoom(0.5),
    'zoom-out': () => view.zoom(2),
    'zoom-all': () => view.all()
  };
  for (const [id, action] of Object.entries(zoom))
    byId(id).addEventListener('click', () => {
      action();
      redraw();
    });
  byId('only-window').addEventListener('change', fillTable);
  new ResizeObserver(relayout).observe(timeline.scroller);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    timeline.readColours();
    redraw();
  });
}

function addKinds() {
  const counts = new Map();
  for (const thing of [...data.tenures, ...data.marks])
    counts.set(thing.kind, (counts.get(thing.kind) || 0) + ('index' in thing ? 1 : 0));
  const known = (kind) => (kKinds.indexOf(kind) + 100) % 100 || (kind === kKinds[0] ? 0 : 99);
  for (const [kind, count] of [...counts].sort(
           (a, b) => known(a[0]) - known(b[0]) || (a[0] < b[0] ? -1 : 1))) {
    const chip = make('button');
    chip.type = 'button';
    chip.setAttribute('aria-pressed', 'true');
    const dot = make('i');
    dot.style.background = `var(--${colourName(kind)})`;
    chip.append(dot, make('span', shown(kind)), make('b', number(count)));
    chip.addEventListener('click', () => {
      const hidden = hiddenKinds.delete(kind) ? false : Boolean(hiddenKinds.add(kind));
      chip.setAttribute('aria-pressed', String(!hidden));
      refill();
    });
    byId('kinds').append(chip);
  }
}

function tellSummary() {
  const guests =
      new Set(data.tenures.map((tenure) => `${tenure.node}\n${tenure.raw.uuid || tenure.guest}`));
  const ends = `${clock.short(data.first)} to ${clock.short(data.last)} ${clock.zone(data.last)}`;
  byId('summary').textContent =
      `${plural(data.tenures.length, 'tenure')} of ${plural(guests.size, 'guest')}` +
      `${about.guest ? ` (only ${shown(about.guest)})` : ''}, ${ends}`;
  byId('footer').textContent = `Made ${clock.full(about.made)} by ${about.program} from ${
                                   about.sources.map(shown).join(', ') || 'no source'}. ` +
      'What is not shown was not seen in this trail; that does not mean that it was not had. ' +
      'The data stands in this page as JSON lines, described in tenure-json(5).';
}

function tellDoubts() {
  const lines = [...about.doubts];
  if (about.marks_left_out > 0)
    lines.push(`${
        plural(
            about.marks_left_out, 'failure or denial',
            'failures and denials')} more than this page shows`);
  if (lines.length === 0)
    return;
  const box = byId('doubts');
  box.hidden = false;
  box.querySelector('summary').textContent =
      `The answer may be incomplete: ${plural(lines.length, 'reason')}`;
  box.querySelector('ul').append(...lines.map((line) => make('li', shown(line))));
}

addKinds();
tellDoubts();
tellSummary();
lanes.by = about.by === 'resource' ? 'resource' : 'guest';
pressOne(byId('lanes'), lanes.by);
pressOne(byId('zone'), 'local');
listenToTimeline();
listenToOverview();
listenToControls();
refill();
timeline.draw();
tellWindow();
document.documentElement.dataset.ready = 'yes';
