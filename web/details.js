// SPDX-License-Identifier: Apache-2.0
// One tenure, mark, run or gap in full, with its proof.

const kSure = {
  'exact': 'Beginning and end have a record each.',
  'inferred':
      'No record of its own ended it: it ended with its run, or gave way to a later record.',
  'bounded':
      'It ended between two records: the host crashed or rebooted, or the end was found later.',
  'open': 'Still held when the trail ends.',
  'unknown-start': 'The trail begins later: it was held before the first record of it.',
};

class Details {
  constructor() {
    this.panel = byId('details');
    this.clear();
  }

  clear() {
    this.panel.replaceChildren(
        make('h2', 'Proof'),
        make(
            'p',
            'Choose a bar, a sign or a line of the table. What is known of it stands here, with the records that prove it.',
            'quiet'));
  }

  fill(title, kind, facts, sure, after) {
    const parts = [make('h2', title), make('span', kind, 'quiet')];
    const list = make('dl');
    for (const [name, value] of facts) {
      if (value)
        list.append(make('dt', name), make('dd', value));
    }
    parts.push(list);
    if (sure)
      parts.push(make('div', sure, 'sure'));
    this.panel.replaceChildren(...parts, ...after);
    this.panel.scrollTop = 0;
  }

  proofs(node, ids, title = 'Proof') {
    const out = [make('h3', title)];
    for (const id of ids) {
      const line = make('div', undefined, 'proof');
      const serial = /^audit\(.*:(\d+)\)$/.exec(id);
      const entry = /^ledger\((\d+)\)$/.exec(id);
      line.append(make('code', id));
      line.append(make(
          'span',
          serial ? `ausearch -a ${serial[1]}` :
              entry ? `tenure prove ${entry[1]}` :
                      '',
          'quiet'));
      out.push(line);
      const text = recordText(node, id);
      if (text)
        out.push(make('pre', shown(text)));
    }
    return out;
  }

  asker(requester) {
    if (!requester)
      return '';
    const words = [
      askerName(requester), requester.exe && `with ${requester.exe}`,
      requester.tty && `on ${requester.tty}`,
      requester.ses !== null && requester.ses !== undefined && `session ${requester.ses}`
    ];
    return shown(words.filter(Boolean).join(', '));
  }

  guess(guess) {
    const who = whoName(guess.auid ?? guess.uid) || 'somebody';
    return shown(
        `${who} ran "${guess.command}" ${span(guess.before_ms)} before` +
        `${guess.names_guest ? ', naming the guest' : ''}. A guess, not evidence.`);
  }

  tenure(t) {
    const until = t.until === null ? 'still held' :
        t.after === null           ? clock.full(t.until) :
                                     `${clock.full(t.after)} .. ${clock.full(t.until)}`;
    const after = this.proofs(t.raw.node, t.raw.proof);
    if (t.raw.guess)
      after.push(
          make('h3', 'Who may have asked'), make('div', this.guess(t.raw.guess)),
          ...this.proofs(t.raw.node, t.raw.guess.evidence, 'What the guess rests on'));
    this.fill(
        t.amount || t.id || t.kind, `${t.kind}${t.device ? '  ' + t.device : ''}`,
        [
          ['Guest', t.guest],
          ['Uuid', shown(t.raw.uuid || '')],
          ['Run', String(t.raw.run)],
          ['Host', t.node],
          ['Access', t.raw.access],
          ['For', t.raw.device && shown(t.raw.device)],
          [
            'From',
            t.from === null ? 'before the trail' :
                              `${clock.full(t.from)}  (${shown(t.raw.from_reason || '?')})`
          ],
          ['Until', t.until === null ? until : `${until}  (${shown(t.raw.until_reason || '?')})`],
          [
            'Held',
            t.from !== null && t.until !== null ?
                (t.after === null ? span(t.until - t.from) : `at least ${span(t.after - t.from)}`) :
                                    ''
          ],
          ['Asked by', this.asker(t.raw.requester)],
          ['Ended by', this.asker(t.raw.until_requester)],
          ['Grant', t.raw.grant === undefined ? '' : `ledger entry ${t.raw.grant}`],
        ],
        `${t.raw.certainty}: ${kSure[t.raw.certainty] || ''}`, after);
  }

  mark(m) {
    this.fill(
        `${kSigns[m.sign]}: ${shown(m.raw.action || m.raw.type)}`, m.kind,
        [
          ['Guest', m.guest],
          ['Uuid', shown(m.raw.uuid || '')],
          ['Host', m.node],
          ['Resource', [shown(m.raw.id || ''), m.device].filter(Boolean).join('  ')],
          ['Access', m.raw.access],
          ['At', clock.full(m.time)],
          ['Detail', shown(m.raw.detail || '')],
          ['Why', shown(m.raw.why || '')],
          ['Asked by', this.asker(m.raw.requester)],
        ],
        'Nothing was gained or lost by this.', this.proofs(m.raw.node, [m.raw.proof]));
    if (m.sign === 'outside')
      this.panel.querySelector('.sure').textContent =
          'Somebody changed a rule behind the registrar\'s back.';
  }

  run(r) {
    this.fill(
        `${r.guest}, run ${r.raw.run}`, 'one life of the guest',
        [
          ['Uuid', shown(r.raw.uuid || '')],
          ['Host', r.node],
          [
            'Start',
            r.from === null ?
                'before the trail' :
                `${clock.full(r.from)}  (${shown(r.raw.start_reason || 'start not seen')})`
          ],
          [
            'End',
            r.until === null ? 'running' :
                               `${clock.full(r.until)}  (${shown(r.raw.end_reason || '?')})`
          ],
          ['Lasted', r.from !== null && r.until !== null ? span(r.until - r.from) : ''],
          ['Process', r.raw.pid ? String(r.raw.pid) : ''],
        ],
        `${r.raw.certainty}: ${kSure[r.raw.certainty] || ''}`, []);
  }

  gap(g) {
    this.fill(
        'Gap in the trail', shown(g.what),
        [
          ['Host', shown(g.node || '')],
          ['From', g.from === null ? 'before the trail' : clock.full(g.from)],
          ['Until', g.until === null ? 'the end of the trail' : clock.full(g.until)],
          ['Lost', g.lost === null ? '' : plural(g.lost, 'record')],
        ],
        'Not seen in this time does not mean not had.', this.proofs(g.node, [g.proof]));
  }

  show(thing) {
    if (thing.tenure)
      this.tenure(thing.tenure);
    else if (thing.mark)
      this.mark(thing.mark);
    else if (thing.gap)
      this.gap(thing.gap);
    else if (thing.run)
      this.run(thing.run);
    else
      this.clear();
  }
}
