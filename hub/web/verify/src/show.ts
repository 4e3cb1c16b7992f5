// What a report looks like: the result first, then the steps, then what is not proven, then what the file says.
import { hex, uuid } from './bytes';
import type { Facts, Report, State, Step } from './check';
import { el, table } from './dom';
import type { Entry } from './entry';
import { hourMS, slotMS, type Leaf } from './evidence';
import type { Statement } from './statement';
import type { Messages } from './text/en';

const marks: Record<State, string> = { ok: '✓', wrong: '✕', 'not-yet': '…', unknown: '?', note: '–' };
const verdictLook = [
  ['good', '✓'],
  ['bad', '✕'],
  ['warn', '…'],
  ['warn', '?'],
] as const;

/** The sections of a report. */
export function show(t: Messages, r: Report): HTMLElement[] {
  return [result(t, r), steps(t, r.steps), ...(r.notes.length > 0 ? [notes(t, r)] : []), ...facts(t, r)];
}

/** The first heading of a report, which takes the focus. */
function result(t: Messages, r: Report): HTMLElement {
  const [look, mark] = verdictLook[r.verdict];
  const { kind } = r.facts;
  const undecodable = r.steps.length === 1;
  const says = undecodable || kind === undefined ? t.result.notProof : (t.result.says[kind][r.verdict] ?? '');
  return el(
    'section',
    { class: `panel verdict verdict-${look}`, 'aria-labelledby': 'result' },
    el('h2', { id: 'result', tabindex: -1 }, el('span', { class: 'verdict-mark', 'aria-hidden': 'true' }, mark), ' ', t.result.name[r.verdict] ?? ''),
    el('p', { class: 'verdict-says' }, says),
    el('p', { class: 'quiet small' }, t.result.exit(r.verdict)),
  );
}

function steps(t: Messages, list: readonly Step[]): HTMLElement {
  return el(
    'section',
    { class: 'panel', 'aria-labelledby': 'steps' },
    el('h2', { id: 'steps' }, t.steps.heading),
    el(
      'ol',
      { class: 'steps' },
      ...list.map((s) =>
        el(
          'li',
          { class: `step step-${s.state}`, 'data-step': s.id, 'data-state': s.state },
          el('span', { class: 'step-mark', 'aria-hidden': 'true' }, marks[s.state]),
          el('span', { class: 'step-state' }, t.steps.states[s.state]),
          el(
            'span',
            { class: 'step-text' },
            el('span', {}, t.steps.names[s.id]),
            s.reason !== 'ok' && el('span', { class: 'step-why' }, t.reasons[s.reason]),
            s.detail !== '' && el('span', { class: 'quiet small step-detail' }, `${t.steps.detail}: ${s.detail}`),
          ),
          el('code', { class: 'quiet small step-id' }, s.id),
        ),
      ),
    ),
  );
}

function notes(t: Messages, r: Report): HTMLElement {
  return el(
    'section',
    { class: 'panel', 'aria-labelledby': 'notes' },
    el('h2', { id: 'notes' }, t.notes.heading),
    el('ul', { class: 'notes' }, ...r.notes.map((n) => el('li', { 'data-note': n }, t.notes.list[n]))),
  );
}

type Row = readonly [string, string | Node];

function facts(t: Messages, r: Report): HTMLElement[] {
  const f = r.facts;
  const rows: Row[] = [];
  if (f.leaf !== undefined) rows.push(...leafRows(t, f.leaf));
  if (f.statement !== undefined) rows.push(...statementRows(t, f.statement.says, f.statement.hash), ...hoursRows(t, f));
  if (f.entry !== undefined) rows.push(...entryRows(t, f.entry.entry, f.entry.index));
  rows.push(...logRows(t, f));
  if (rows.length === 0) return [];
  return [
    el(
      'section',
      { class: 'panel', 'aria-labelledby': 'says' },
      el('h2', { id: 'says' }, r.verdict === 1 ? t.facts.headingFalse : t.facts.heading),
      el('dl', { class: 'facts' }, ...rows.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, value)])),
      f.leaf !== undefined && slots(t, f.leaf),
    ),
  ];
}

const lastMS = 253_402_300_799_999n; // the end of the year 9999

/** A time as every language here writes it: UTC, to the second. */
export function time(ms: bigint | number): string {
  const n = BigInt(ms);
  return n < 0n || n > lastMS ? `${n} ms` : `${new Date(Number(n)).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}

const code = (s: string): HTMLElement => el('code', {}, s);
const address = (b: Uint8Array): HTMLElement => code(`0x${hex(b)}`);

function leafRows(t: Messages, l: Leaf): Row[] {
  const from = l.hour * hourMS;
  return [
    [t.facts.site, code(uuid(l.site))],
    [t.facts.miner, code(uuid(l.miner))],
    [t.facts.hour, t.facts.to(time(from), time(from + hourMS))],
  ];
}

/** A sum divided by a number, with decimals, rounded down. */
export function ratio(n: bigint, by: bigint, decimals: number): string {
  const scaled = (n * 10n ** BigInt(decimals)) / by;
  const whole = scaled / 10n ** BigInt(decimals);
  const rest = scaled % 10n ** BigInt(decimals);
  return decimals === 0 ? whole.toLocaleString('en') : `${whole.toLocaleString('en')}.${rest.toString().padStart(decimals, '0')}`;
}

function slots(t: Messages, l: Leaf): HTMLElement {
  const from = l.hour * hourMS;
  return table(
    t.facts.slots,
    [t.facts.slot, t.facts.polls, t.facts.rate, t.facts.hashes, t.facts.source, t.facts.energy, t.facts.seen],
    l.slots.map((s, i) => [
      time(from + i * slotMS).slice(11, 16),
      t.facts.of(s.answered, s.polls),
      s.source === 'none' ? '—' : ratio(s.hashes, 300n * 1_000_000n, 2), // MH in 300 s
      s.source === 'none' ? '—' : t.number(s.hashes),
      t.facts.sources[s.source],
      ratio(s.energy, 1000n, 0),
      s.flags.map((x) => t.facts.flags[x]).join(', ') || '—',
    ]),
  );
}

/** Parts per million as percent, with all their decimals. */
export const percent = (ppm: number): string => `${ratio(BigInt(ppm), 10_000n, 4)} %`;

function money(minor: number, currency: string): string {
  if (!/^[A-Z]{3}$/.test(currency)) return '';
  const digits = new Intl.NumberFormat('en', { style: 'currency', currency }).resolvedOptions().maximumFractionDigits ?? 2;
  return `${ratio(BigInt(minor), 10n ** BigInt(digits), digits)} ${currency}`;
}

function statementRows(t: Messages, s: Statement, hash: Uint8Array): Row[] {
  const f = t.facts;
  const rows: Row[] = [
    [f.contract, code(uuid(s.contract))],
    [f.customer, code(uuid(s.customer))],
    [f.month, s.monthText],
    [f.availability, s.due ? `${percent(s.ppm)} (${s.met ? f.met : f.missed})` : f.nothingDue],
    [f.target, percent(s.targetPPM)],
    [f.credit, f.creditOf(percent(s.creditBP * 100), money(s.creditMinor, s.currency))],
    [f.miners, t.number(s.miners)],
    [f.issued, time(s.issuedMS)],
    [f.hash, code(hex(hash))],
  ];
  if (s.reason !== '') rows.push([f.supersedes, code(hex(s.supersedes))], [f.reason, el('bdi', {}, s.reason)]);
  return rows;
}

function hoursRows(t: Messages, { hours, statement }: Facts): Row[] {
  if (hours === undefined) return statement === undefined ? [] : [[t.facts.hours, t.number(statement.says.hours.length)]];
  return [
    [t.facts.hours, t.facts.hoursOf(hours.agreed, hours.disputed)],
    [t.facts.leaves, t.number(hours.leaves)],
  ];
}

function entryRows(t: Messages, e: Entry, index: bigint): Row[] {
  const f = t.facts;
  const rows: Row[] = [
    [f.entry, f.entryKind[e.body.kind]],
    ['', f.entryAt(index.toString(), time(e.atMS))],
  ];
  const b = e.body;
  switch (b.kind) {
    case 'hour':
      rows.push([f.site, code(uuid(b.signed.hour.site))], [f.hour, time(b.signed.hour.hour * hourMS)], [f.root, code(hex(b.signed.hour.root))]);
      break;
    case 'siteKey':
      rows.push([f.site, code(uuid(b.site))], [f.key, code(hex(b.key))], ['', f.event[b.event]]);
      break;
    case 'hubKey':
      rows.push([f.key, code(hex(b.key))], ['', `${f.role[b.role]}, ${f.event[b.event]}`]);
      break;
    case 'terms':
      rows.push([f.contract, code(uuid(b.contract))], [f.version, String(b.version)], [f.sum, code(hex(b.hash))]);
      break;
    case 'excuse':
      rows.push([f.id, code(uuid(b.id))], [f.sum, code(hex(b.hash))]);
      break;
    case 'auditHead':
      rows.push([f.entry, t.number(b.seq)], [f.sum, code(hex(b.hash))]);
      break;
    default:
      rows.push([f.contract, code(uuid(b.contract))], [f.month, `${Math.floor(b.month / 12)}-${String((b.month % 12) + 1).padStart(2, '0')}`], [f.hash, code(hex(b.hash))]);
  }
  return rows;
}

function logRows(t: Messages, { head, event }: Facts): Row[] {
  if (head === undefined) return [];
  const { anchor, checkpoint } = head;
  const rows: Row[] = [
    [t.facts.log, el('span', {}, code(checkpoint.origin), `, ${t.facts.logOf(t.number(checkpoint.size))}`)],
    [t.facts.root, code(hex(checkpoint.root))],
  ];
  if (typeof anchor === 'string') return [...rows, [t.facts.anchor, t.facts.none]];
  rows.push(
    [t.facts.anchor, t.facts.anchorOf(anchor.seq.toString(), anchor.chainId.toString(), anchor.block.toString())],
    [t.facts.anchorContract, el('span', {}, address(anchor.contract), ' ', el('span', { class: 'quiet' }, t.facts.compare))],
    [t.facts.tx, address(anchor.tx)],
  );
  if (event !== undefined) rows.push([t.facts.blockTime, time(event.blockTime * 1000n)]);
  return rows;
}
