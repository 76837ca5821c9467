// SPDX-License-Identifier: Apache-2.0
// Which lanes there are and what lies in them: groups (a guest, or a resource) that unfold into
// rows (the resources of the guest, or the guests of the resource). Places only, no drawing.

const kRowHeight = 22;
const kGroupHeight = 26;
const kMaxTracks = 10;
const kUnfoldAtOnce = 40;  // rows; more would bury the overview

// Bars that overlap lie in tracks one above the other; beyond kMaxTracks they share the last ones.
function pack(tenures) {
  const ends = [];
  const bars = [];
  for (const tenure of [...tenures].sort((a, b) => (a.from ?? -Infinity) - (b.from ?? -Infinity))) {
    const from = tenure.from ?? -Infinity;
    let track = ends.findIndex((end) => end <= from);
    if (track < 0 && ends.length < kMaxTracks)
      track = ends.length;
    if (track < 0)
      track = ends.indexOf(Math.min(...ends));
    ends[track] = Math.max(ends[track] ?? -Infinity, tenure.until ?? Infinity);
    bars.push({tenure, track});
  }
  return {bars, tracks: Math.max(1, ends.length)};
}

function trackHeight(tracks) { return tracks === 1 ? 14 : tracks <= 3 ? 8 : 4; }

class Lanes {
  constructor() {
    this.by = 'guest';
    this.unfolded = new Set();  // names of groups
    this.groups = [];
    this.rows = [];
    this.height = 0;
  }

  names(thing) {
    const host = data.nodes.size > 1 && thing.node ? `${thing.node}: ` : '';
    if (this.by === 'guest') {
      const row = thing.resource ? `${thing.resource}\n${thing.kind}` : '';
      return {group: host + thing.guest, row};
    }
    const group = thing.resource ? host + thing.resource : '';
    return {group, row: `${thing.guest}\n${thing.kind}`};
  }

  // What passed the filter.
  fill(tenures, marks, runs) {
    const groups = new Map();
    const groupOf = (thing) => {
      const {group: name, row} = this.names(thing);
      if (!name && !thing.id)
        return [null, row];
      if (!groups.has(name))
        groups.set(
            name, {name, node: thing.node, tenures: [], marks: [], runs: [], rows: new Map()});
      return [groups.get(name), row];
    };
    const rowOf = (group, name) => {
      if (!group.rows.has(name))
        group.rows.set(name, {
          name: name.split('\n')[0],
          kind: name.split('\n')[1],
          node: group.node,
          tenures: [],
          marks: []
        });
      return group.rows.get(name);
    };
    for (const tenure of tenures) {
      const [group, row] = groupOf(tenure);
      group.tenures.push(tenure);
      rowOf(group, row).tenures.push(tenure);
    }
    for (const mark of marks) {
      const [group, row] = groupOf(mark);
      if (group)
        group.marks.push(mark);
      if (group && row)
        rowOf(group, row).marks.push(mark);
    }
    if (this.by === 'guest') {
      for (const run of runs) groups.get(this.names(run).group)?.runs.push(run);
    }
    const order = new Intl.Collator('en', {numeric: true}).compare;
    this.groups = [...groups.values()].sort((a, b) => order(a.name, b.name));
    const rank = (kind) => kKinds.indexOf(colourName(kind)) >>> 0;  // unknown kinds last
    for (const group of this.groups) {
      group.rows = [...group.rows.values()].sort(
          (a, b) => rank(a.kind) - rank(b.kind) || order(a.kind, b.kind) || order(a.name, b.name));
    }
    this.place();
  }

  // Unfolds all if that is little enough to be seen at a glance.
  unfoldFew() {
    const rows = this.groups.reduce((sum, group) => sum + 1 + group.rows.length, 0);
    this.unfolded = new Set(rows <= kUnfoldAtOnce ? this.groups.map((group) => group.name) : []);
    this.place();
  }

  toggle(group) {
    if (!this.unfolded.delete(group.name))
      this.unfolded.add(group.name);
    this.place();
  }

  place() {
    this.rows = [];
    let y = 0;
    const push = (row) => {
      this.rows.push({...row, y});
      y += row.height;
    };
    for (const group of this.groups) {
      const open = this.unfolded.has(group.name);
      if (open) {
        push({
          group,
          head: true,
          open,
          label: group.name,
          height: kGroupHeight,
          packed: {bars: [], tracks: 1},
          marks: group.marks.filter((mark) => !this.names(mark).row)
        });
        for (const row of group.rows) {
          row.packed ??= pack(row.tenures);
          push({
            group,
            row,
            label: row.name,
            kind: row.kind,
            packed: row.packed,
            marks: row.marks,
            height: this.rowHeight(row.packed, kRowHeight)
          });
        }
      } else {
        group.packed ??= pack(group.tenures);
        push({
          group,
          head: true,
          open,
          label: group.name,
          packed: group.packed,
          marks: group.marks,
          height: this.rowHeight(group.packed, kGroupHeight)
        });
      }
    }
    this.height = y;
  }

  rowHeight(packed, least) {
    return Math.max(least, packed.tracks * (trackHeight(packed.tracks) + 1) + 8);
  }

  // Index of the row at that height, by binary search; rows.length below the last.
  indexAt(y) {
    let low = 0;
    let high = this.rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.rows[middle].y + this.rows[middle].height <= y)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  }

  at(y) { return this.rows[this.indexAt(y)]; }

  // Rows between two heights.
  * between(top, bottom) {
    for (let i = this.indexAt(top); i < this.rows.length && this.rows[i].y < bottom; ++i)
      yield this.rows[i];
  }
}
