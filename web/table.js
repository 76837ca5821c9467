// SPDX-License-Identifier: Apache-2.0
// The table of tenures. Only the rows that are seen are elements; two empty rows stand for the
// rest.

const kCells = 28;  // height of a row in px, as in report.css
const kTimeless = {
  from: 'before the trail',
  until: 'held'
};
const kColumns = [
  {name: 'Guest', share: 11, text: (t) => t.guest, title: (t) => shown(t.raw.uuid || '')},
  {name: 'Run', share: 4, text: (t) => String(t.raw.run), value: (t) => t.raw.run},
  {name: 'Kind', share: 9, text: (t) => t.kind, chip: true},
  {
    name: 'Resource',
    share: 19,
    text: (t) => (t.amount || t.id) + (t.device ? `  (${t.device})` : '')
  },
  {name: 'Access', share: 6, text: (t) => t.raw.access || ''},
  {
    name: 'From',
    share: 15,
    text: (t) => t.from === null ? kTimeless.from : clock.short(t.from),
    value: (t) => t.from ?? -Infinity,
    title: (t) => t.from === null ? '' : clock.full(t.from)
  },
  {
    name: 'Until',
    share: 15,
    text: (t) => t.until === null ? kTimeless.until : clock.short(t.until),
    value: (t) => t.until ?? Infinity,
    title: (t) => t.until === null ? '' : clock.full(t.until)
  },
  {name: 'End', share: 6, text: (t) => shown(t.raw.until_reason || '')},
  {name: 'Sure', share: 7, text: (t) => t.raw.certainty},
  {name: 'Asked by', share: 8, text: (t) => t.who},
];

class TenureTable {
  constructor(choose) {
    this.choose = choose;
    this.scroller = byId('table-scroller');
    this.body = byId('table').tBodies[0];
    this.tenures = [];
    this.column = kColumns.findIndex((column) => column.name === 'From');
    this.down = false;
    this.chosen = null;
    if (data.nodes.size > 1 && !kColumns.some((column) => column.name === 'Host'))
      kColumns.unshift({name: 'Host', share: 9, text: (t) => t.node});
    this.column = kColumns.findIndex((column) => column.name === 'From');
    this.addHeads();
    this.scroller.addEventListener('scroll', () => this.draw());
    this.body.addEventListener('click', (event) => {
      const row = event.target.closest('tr[data-index]');
      if (row)
        this.choose(data.tenures[Number(row.dataset.index)]);
    });
  }

  addHeads() {
    const heads = byId('table').tHead.rows[0];
    kColumns.forEach((column, i) => {
      const head = make('th');
      head.style.width = `${column.share}%`;
      const button = make('button', column.name);
      button.type = 'button';
      button.addEventListener('click', () => {
        this.down = this.column === i && !this.down;
        this.column = i;
        this.sort();
      });
      head.append(button);
      heads.append(head);
    });
  }

  fill(tenures) {
    this.tenures = [...tenures];
    this.sort();
  }

  sort() {
    const {text, value} = kColumns[this.column];
    const order = new Intl.Collator('en', {numeric: true}).compare;
    const sign = this.down ? -1 : 1;
    const by = value ? (a, b) => value(a) < value(b) ? -1 :
            value(a) > value(b)                      ? 1 :
                                                       0 :
                       (a, b) => order(text(a), text(b));
    this.tenures.sort((a, b) => sign * by(a, b) || a.index - b.index);
    [...byId('table').tHead.rows[0].cells].forEach((head, i) => {
      if (i === this.column)
        head.setAttribute('aria-sort', this.down ? 'descending' : 'ascending');
      else
        head.removeAttribute('aria-sort');
    });
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / kCells) - 6);
    const last = Math.min(this.tenures.length, first + Math.ceil(window.innerHeight / kCells) + 12);
    const rows = [this.space(first)];
    for (let i = first; i < last; ++i) rows.push(this.row(this.tenures[i]));
    rows.push(this.space(this.tenures.length - last));
    if (this.tenures.length === 0) {
      const cell = make('td', 'Nothing matches.', 'empty');
      cell.colSpan = kColumns.length;
      rows.push(make('tr'));
      rows.at(-1).append(cell);
    }
    this.body.replaceChildren(...rows);
  }

  space(count) {
    const row = make('tr', undefined, 'space');
    const cell = make('td');
    cell.colSpan = kColumns.length;
    cell.style.height = `${Math.max(0, count) * kCells}px`;
    row.append(cell);
    return row;
  }

  row(tenure) {
    const row = make('tr', undefined, tenure === this.chosen ? 'chosen' : '');
    row.dataset.index = tenure.index;
    for (const column of kColumns) {
      const cell = make('td');
      if (column.chip) {
        const chip = make('i');
        chip.style.background = `var(--${colourName(tenure.kind)})`;
        cell.append(chip);
      }
      cell.append(column.text(tenure));
      cell.title = column.title ? column.title(tenure) : column.text(tenure);
      row.append(cell);
    }
    return row;
  }

  // Scrolls to it.
  show(tenure) {
    this.chosen = tenure;
    const at = this.tenures.indexOf(tenure);
    if (at >= 0) {
      const top = at * kCells;
      const room = this.scroller.clientHeight - 2 * kCells;
      if (top < this.scroller.scrollTop || top > this.scroller.scrollTop + room)
        this.scroller.scrollTop = top - room / 2;
    }
    this.draw();
  }
}
