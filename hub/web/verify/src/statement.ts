// A statement and the records that it names, in canonical JSON: keys in a fixed order, no white space, integers, everything that is not printable ASCII as
// \u and four lower-case digits. Only what a check needs is read, but the bytes must be the one encoding of what they say.
import { Malformed, compare, parseUuid, unhex } from './bytes';
import { slotMS, slotsPerHour } from './evidence';

export interface HourRef {
  readonly site: Uint8Array;
  readonly hour: number;
  readonly spool: Uint8Array;
  readonly root: Uint8Array;
  readonly headerHash: Uint8Array;
  readonly disputed: boolean;
  readonly skewed: boolean; // the hub found the site's clock wrong in a part of it
}

export interface Statement {
  readonly contract: Uint8Array;
  readonly customer: Uint8Array;
  readonly month: number; // counted since January of the year 0
  readonly monthText: string; // 2026-11
  readonly issuedMS: number;
  readonly supersedes: Uint8Array; // zeros for none
  readonly reason: string;
  readonly terms: readonly { readonly version: number; readonly hash: Uint8Array }[];
  readonly assignments: readonly { readonly id: Uint8Array; readonly hash: Uint8Array }[];
  readonly excuses: readonly { readonly id: Uint8Array; readonly hash: Uint8Array; readonly counted: number }[];
  readonly hours: readonly HourRef[];
  readonly metric: string;
  readonly targetPPM: number;
  readonly ppm: number;
  readonly due: boolean; // whether any slot was: without one there is no availability
  readonly met: boolean;
  readonly creditBP: number; // 1/100 %
  readonly creditMinor: number;
  readonly currency: string;
  readonly miners: number;
}

export interface Assignment {
  readonly id: Uint8Array;
  readonly contract: Uint8Array;
  readonly site: Uint8Array;
  readonly miner: Uint8Array;
  readonly fromMS: number;
  readonly toMS: number; // 0: open
}

export interface Excuse {
  readonly id: Uint8Array;
  readonly recordedMS: number;
}

/** What JSON's short escapes stand for. */
const controls: Readonly<Record<string, number>> = { b: 8, t: 9, n: 10, f: 12, r: 13 };

/** Parses the one encoding: what was read is written again and must be the same bytes. */
function canonical(b: Uint8Array): unknown {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(b);
    value = JSON.parse(text);
  } catch {
    throw new Malformed('a document that is not JSON');
  }
  // JSON.stringify has short escapes, and leaves what is beyond ASCII as it is; canonical JSON has one escape for all but quotation mark and backslash.
  const again = JSON.stringify(value).replace(/\\(.)|[\u007f-\uffff]/g, (all, short: string | undefined) => {
    const control = short === undefined ? all.charCodeAt(0) : controls[short];
    return control === undefined ? all : `\\u${control.toString(16).padStart(4, '0')}`;
  });
  if (again !== text) throw new Malformed('a document in another than its one encoding');
  return value;
}

/** Reads the fields of an object, which has these and no others, in this order. */
class Doc {
  private readonly o: Readonly<Record<string, unknown>>;

  constructor(v: unknown, keys: string) {
    if (typeof v !== 'object' || v === null || Array.isArray(v) || Object.keys(v).join(' ') !== keys) {
      throw new Malformed(`a record with other fields than ${keys}`);
    }
    this.o = v as Readonly<Record<string, unknown>>;
  }

  get(key: string): unknown {
    return this.o[key];
  }
  text(key: string): string {
    const v = this.o[key];
    if (typeof v !== 'string' || /\p{Surrogate}/u.test(v)) throw new Malformed(`${key} is not a text`);
    return v;
  }
  int(key: string, from: number, to = Number.MAX_SAFE_INTEGER): number {
    const v = this.o[key];
    if (typeof v !== 'number' || !Number.isSafeInteger(v) || v < from || v > to) throw new Malformed(`${key} is not a number from ${from} to ${to}`);
    return v;
  }
  /** A number in the decimal digits of a text. */
  digits(key: string): bigint {
    const v = this.text(key);
    if (!/^(0|[1-9][0-9]{0,38})$/.test(v)) throw new Malformed(`${key} is not a number`);
    return BigInt(v);
  }
  bool(key: string): boolean {
    const v = this.o[key];
    if (typeof v !== 'boolean') throw new Malformed(`${key} is neither true nor false`);
    return v;
  }
  id(key: string): Uint8Array {
    return parseUuid(this.text(key));
  }
  /** A hash, the zero hash being an empty text. */
  hash(key: string): Uint8Array {
    const v = this.text(key);
    if (v === '') return new Uint8Array(32);
    if (!/^[0-9a-f]{64}$/.test(v) || /^0+$/.test(v)) throw new Malformed(`${key} is not a hash`);
    return unhex(v);
  }
  list<T>(key: string, keys: string, read: (r: Doc) => T): T[] {
    const v = this.o[key];
    if (!Array.isArray(v)) throw new Malformed(`${key} is not a list`);
    return v.map((x: unknown) => read(new Doc(x, keys)));
  }
}

export function parseStatement(b: Uint8Array): Statement {
  const r = new Doc(
    canonical(b),
    'form engine contract customer month issued_ms accept_until_ms supersedes reason terms assignments excuses hours result credit totals miners',
  );
  form(r, 'hsi/statement/v1');
  const monthText = r.text('month');
  const result = new Doc(r.get('result'), 'metric target_ppm num den ppm met');
  const credit = new Doc(r.get('credit'), 'bp minor fee_minor currency');
  r.int('engine', 1);
  r.int('accept_until_ms', 0);
  totals(new Doc(r.get('totals'), 'slots hashes needed'));
  result.digits('num');
  credit.int('fee_minor', 0);
  const s = {
    contract: r.id('contract'),
    customer: r.id('customer'),
    month: parseMonth(monthText),
    monthText,
    issuedMS: r.int('issued_ms', 1),
    supersedes: r.hash('supersedes'),
    reason: r.text('reason'),
    terms: r.list('terms', 'version hash', (t) => ({ version: t.int('version', 1, 0x7fffffff), hash: t.hash('hash') })),
    assignments: r.list('assignments', 'id hash', (a) => ({ id: a.id('id'), hash: a.hash('hash') })),
    excuses: r.list('excuses', 'id hash counted', (x) => ({ id: x.id('id'), hash: x.hash('hash'), counted: x.int('counted', 0) })),
    hours: r.list('hours', 'site hour spool root header_hash state skewed received_ms', hourRef),
    metric: result.text('metric'),
    targetPPM: result.int('target_ppm', 0, 1_000_000),
    ppm: result.int('ppm', 0, 1_000_000),
    due: result.digits('den') > 0n,
    met: result.bool('met'),
    creditBP: credit.int('bp', 0, 10_000),
    creditMinor: credit.int('minor', 0),
    currency: credit.text('currency'),
    miners: r.list('miners', 'site miner slots hashes needed num den ppm', line).length,
  };
  checkOrder(s);
  return s;
}

function line(m: Doc): void {
  m.id('site');
  m.id('miner');
  totals(m);
  m.digits('num');
  m.digits('den');
  m.int('ppm', 0, 1_000_000);
}

function totals(t: Doc): void {
  const keys = 'not_contracted curtailment maintenance up degraded down unknown_down unknown_excused';
  const slots = new Doc(t.get('slots'), keys);
  for (const k of keys.split(' ')) slots.int(k, 0);
  t.digits('hashes');
  t.digits('needed');
}

function form(r: Doc, want: string): void {
  if (r.text('form') !== want) throw new Malformed(`a document of another form than ${want}`);
}

function hourRef(h: Doc): HourRef {
  const state = h.text('state');
  if (state !== 'agreed' && state !== 'disputed') throw new Malformed('an hour that is neither agreed nor disputed');
  h.int('received_ms', 1);
  return {
    site: h.id('site'),
    hour: h.int('hour', 0, 0xffffffff),
    spool: h.id('spool'),
    root: h.hash('root'),
    headerHash: h.hash('header_hash'),
    disputed: state === 'disputed',
    skewed: h.int('skewed', 0, (1 << slotsPerHour) - 1) !== 0,
  };
}

function parseMonth(s: string): number {
  const m = /^([0-9]{4})-(0[1-9]|1[0-2])$/.exec(s);
  if (!m || Number(m[1]) < 1970) throw new Malformed('a month that is none');
  return Number(m[1]) * 12 + Number(m[2]) - 1;
}

function ascending<T>(items: readonly T[], order: (a: T, b: T) => number): boolean {
  return items.every((x, i) => {
    const before = items[i - 1];
    return before === undefined || order(before, x) < 0;
  });
}

/** Lists have one order, and name nothing twice. */
function checkOrder(s: Statement): void {
  const [first, end] = [monthMS(s.month) / 3_600_000, monthMS(s.month + 1) / 3_600_000];
  if (
    !ascending(s.terms, (a, b) => a.version - b.version) ||
    !ascending(s.assignments, (a, b) => compare(a.id, b.id)) ||
    !ascending(s.excuses, (a, b) => compare(a.id, b.id)) ||
    !ascending(s.hours, (a, b) => compare(a.site, b.site) || a.hour - b.hour || compare(a.spool, b.spool) || compare(a.headerHash, b.headerHash))
  ) {
    throw new Malformed('a statement with a list out of order');
  }
  if (s.hours.some((h) => h.hour < first || h.hour >= end)) throw new Malformed('a statement with an hour of another month');
}

/** The first millisecond of a month, counted since January of the year 0. */
export const monthMS = (month: number): number => Date.UTC(Math.floor(month / 12), month % 12, 1);

export function parseAssignment(b: Uint8Array): Assignment {
  const r = new Doc(canonical(b), 'form id contract site miner from_ms to_ms rate_mhs');
  form(r, 'hsi/assignment/v1');
  r.int('rate_mhs', 0);
  return { id: r.id('id'), contract: r.id('contract'), site: r.id('site'), miner: r.id('miner'), fromMS: r.int('from_ms', 1), toMS: r.int('to_ms', 0) };
}

/** The hours in which a slot begins within the assignment: from the first one to before the second, which may be none. */
export function assignedHours(a: Assignment): { readonly from: number; readonly to: number } {
  // The first slot that begins at or after fromMS, and the first one that no longer does before toMS.
  const first = Math.ceil(a.fromMS / slotMS);
  const end = a.toMS === 0 ? Number.POSITIVE_INFINITY : Math.ceil(a.toMS / slotMS);
  const from = Math.floor(first / slotsPerHour);
  return { from, to: first < end ? Math.ceil(end / slotsPerHour) : from };
}

export function parseExcuse(b: Uint8Array): Excuse {
  const r = new Doc(canonical(b), 'form id kind site miners from_ms to_ms recorded_ms ends');
  form(r, 'hsi/excuse/v1');
  r.text('kind');
  r.id('site');
  r.int('from_ms', 0);
  r.int('to_ms', 0);
  r.id('ends');
  return { id: r.id('id'), recordedMS: r.int('recorded_ms', 1) };
}

/** What a check needs of terms: that they are of a contract and version. */
export interface Terms {
  readonly contract: Uint8Array;
  readonly version: number;
}

export function parseTerms(b: Uint8Array): Terms {
  const v = canonical(b);
  if (typeof v !== 'object' || v === null) throw new Malformed('terms that are no record');
  const r = new Doc(v, Object.keys(v).join(' '));
  form(r, 'hsi/terms/v1');
  return { contract: r.id('contract'), version: r.int('version', 1, 0x7fffffff) };
}

