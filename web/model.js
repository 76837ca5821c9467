// SPDX-License-Identifier: Apache-2.0
// The data of the page: JSON lines of tenure-json(5), with what drawing and filtering need added.

const kKinds = [
  'disk', 'net', 'net-open', 'fs', 'file', 'dev', 'hostdev', 'chardev', 'mem', 'vcpu', 'iothread',
  'tpm', 'cgroup', 'acl'
];
// Kinds without a colour of their own share one.
const kKin = {
  'tpm-emulator': 'tpm',
  'tpm-external': 'tpm',
  'smartcard': 'chardev',
  'rng': 'chardev',
  'evdev': 'dev',
  'shmem': 'mem',
  'ivshmem-socket': 'mem'
};
const colourName = (kind) => kKinds.includes(kind) ? kind : kKin[kind] || 'other';

function jsonLines(id) {
  const out = [];
  for (const line of byId(id).textContent.split('\n')) {
    if (line)
      out.push(JSON.parse(line));
  }
  return out;
}

const about = JSON.parse(byId('data-about').textContent);
const timeOf = (position) => Math.round(parseFloat(position.time) * 1000);

function whoName(id) {
  return id === null || id === undefined ? '' : about.users[id] || String(id);
}

function askerName(requester) { return requester ? whoName(requester.auid ?? requester.uid) : ''; }

// "b 8:16" from devtype and hex rdev; "" where the trail tells no number.
function deviceText(devtype, rdev) {
  const match = /^([0-9a-f]+):([0-9a-f]+|\*)$/i.exec(rdev || '');
  if (!match)
    return '';
  const minor = match[2] === '*' ? '*' : parseInt(match[2], 16);
  return `${devtype ? devtype + ' ' : ''}${parseInt(match[1], 16)}:${minor}`;
}

// Numbers (memory, CPUs) are no names of things: their lane is the kind.
const kCounted = new Set(['mem', 'vcpu', 'iothread']);
function resourceName(kind, id) {
  if (kCounted.has(kind) || !id)
    return kind;
  return kind === 'cgroup' && !id.startsWith('/') ? `cgroup ${id}` : id;
}

// "2 GiB" of memory (which the trail counts in KiB), "4" CPUs; "" for what is not counted.
function amountOf(kind, id) {
  if (!kCounted.has(kind))
    return '';
  let size = Number(id);
  if (kind !== 'mem' || !(size > 0))
    return shown(id);
  const units = ['KiB', 'MiB', 'GiB', 'TiB'];
  while (size >= 1024 && size % 256 === 0 && units.length > 1) {
    size /= 1024;
    units.shift();
  }
  return `${size} ${units[0]}`;
}

function addTenure(raw, index) {
  const guest = shown(raw.guest || raw.uuid || '');
  const tenure = {
    raw,
    index,
    guest,
    node: shown(raw.node || ''),
    kind: raw.kind,
    id: shown(raw.id),
    device: deviceText(raw.devtype, raw.rdev),
    amount: amountOf(raw.kind, raw.id),
    resource: shown(resourceName(raw.kind, raw.id)),
    from: raw.from ? timeOf(raw.from) : null,
    until: raw.until ? timeOf(raw.until) : null,
    after: raw.until_after ? timeOf(raw.until_after) : null,
    who: raw.requester ? shown(askerName(raw.requester)) :
        raw.guess      ? shown(whoName(raw.guess.auid ?? raw.guess.uid)) + '?' :
                         '',
  };
  tenure.words = [
    guest, raw.uuid, raw.kind, raw.id, tenure.device, raw.from_reason, raw.until_reason,
    raw.certainty, raw.device, raw.node, tenure.who, raw.proof.join(' ')
  ].join('\n').toLowerCase();
  return tenure;
}

const kSigns = {
  failed: 'failed',
  refused: 'refused',
  outside: 'changed by others'
};
function addMark(raw) {
  const sign = raw.action === 'out-of-band'               ? 'outside' :
      raw.action === 'denied' || raw.detail === 'refused' ? 'refused' :
                                                            'failed';
  const mark = {
    raw,
    sign,
    guest: shown(raw.guest || raw.uuid || ''),
    node: shown(raw.node || ''),
    kind: raw.kind,
    device: deviceText(raw.devtype, raw.rdev),
    resource: raw.id ? shown(resourceName(raw.kind, raw.id)) : '',
    time: timeOf(raw),
  };
  mark.words = [
    mark.guest, raw.uuid, raw.kind, raw.id, mark.device, raw.action, raw.detail, raw.why, sign,
    raw.node
  ].join('\n').toLowerCase();
  return mark;
}

function addRun(raw) {
  return {
    raw,
    guest: shown(raw.guest || raw.uuid || ''),
    node: shown(raw.node || ''),
    from: raw.start ? timeOf(raw.start) : null,
    until: raw.end ? timeOf(raw.end) : null,
  };
}

const data = {
  tenures: jsonLines('data-tenures').map(addTenure),
  runs: jsonLines('data-runs').map(addRun),
  marks: jsonLines('data-marks').map(addMark),
  gaps: about.gaps,
  nodes: new Set(),
  first: Infinity,
  last: -Infinity,
};

function measureData() {
  const see = (ms) => {
    if (ms === null || ms === undefined)
      return;
    data.first = Math.min(data.first, ms);
    data.last = Math.max(data.last, ms);
  };
  for (const one of [...data.tenures, ...data.runs]) {
    see(one.from);
    see(one.until);
    data.nodes.add(one.node);
  }
  for (const mark of data.marks) {
    see(mark.time);
    data.nodes.add(mark.node);
  }
  see(about.first);
  see(about.last);
  if (data.first > data.last)
    data.first = data.last = about.made;
  if (data.last - data.first < 1000) {
    data.first -= 500;
    data.last += 500;
  }
}
measureData();

// The lines of the log, looked at only when the first proof is wanted.
let recordTexts = null;
function recordText(node, proof) {
  if (recordTexts === null) {
    recordTexts = new Map();
    for (const one of jsonLines('data-records'))
      recordTexts.set(`${one.node || ''}\n${one.proof}`, one.text);
  }
  return recordTexts.get(`${node || ''}\n${proof}`);
}

// "web disk" wants both words, "-cgroup" none of it, "who:alice" that field only.
const kFields = {
  guest: (t) => t.guest,
  uuid: (t) => t.raw.uuid || '',
  kind: (t) => t.kind || '',
  resource: (t) => `${t.raw.id || ''} ${t.device}`,
  who: (t) => t.who || '',
  sure: (t) => t.raw.certainty || '',
  node: (t) => t.node,
  end: (t) => t.raw.until_reason || '',
  proof: (t) => t.raw.proof ? [].concat(t.raw.proof).join(' ') : '',
};
function filterOf(text) {
  const tests =
      text.toLowerCase().split(/\s+/).filter((word) => word && word !== '-').map((word) => {
        const without = word.startsWith('-');
        const plain = without ? word.slice(1) : word;
        const colon = plain.indexOf(':');
        const field = colon > 0 ? kFields[plain.slice(0, colon)] : undefined;
        const value = field ? plain.slice(colon + 1) : plain;
        return (thing) =>
                   (field ? field(thing).toLowerCase() : thing.words).includes(value) !== without;
      });
  return (thing) => tests.every((test) => test(thing));
}
