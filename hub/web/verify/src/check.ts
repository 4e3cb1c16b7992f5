// What a proof file proves, step by step. The steps' ids and the verdict are those of `hashinsight-verify`, which shares no line with this.
import { Malformed, Stream, compare, equal, hex, isZero, u32, uuid } from './bytes';
import { ChainError, type Chain, type ChainEvent } from './chain';
import { verifyCheckpoint } from './checkpoint';
import { Signatures } from './ed25519';
import { entryLeafHash, makeEntry, type Entry, type Of } from './entry';
import { belongs, hourEntryHash, hourMS, keyIdOf, leafMiner, parseLeaf, verifyHeader, verifyStatement, type Leaf, type SignedHour } from './evidence';
import {
  readCount, readDocument, readHead, readLeaf, readLeafPlace, readMiners, readPlace, readPlaced, readPlacedOf, readStatement, readTree,
  type Head, type Kind, type Place, type Placed, type TreeEntry,
} from './file';
import { included, rootFromMany, rootFromPath, sha256, type Given } from './hash';
import { name, rosters, type Assigned } from './roster';
import { assignedHours, monthMS, parseAssignment, parseExcuse, parseStatement, parseTerms, type HourRef, type Statement } from './statement';

export type StepId = 'decode' | 'leaf' | 'site-signature' | 'site-key' | 'log' | 'checkpoint' | 'anchor' | 'time' | 'statement' | 'sla';

/** ok: shown. wrong: shown to be false. not-yet: may still come. unknown: could not be asked. note: not shown here, and nothing follows from it. */
export type State = 'ok' | 'wrong' | 'not-yet' | 'unknown' | 'note';

/** Why a step is in its state. Every reason has a sentence in each language. */
export type Reason =
  | 'ok' | 'malformed' | 'leaf-elsewhere' | 'leaf-path' | 'tree-root' | 'tree-order' | 'tree-missing' | 'tree-foreign' | 'disputed-foreign'
  | 'signature' | 'key-id' | 'key-event' | 'key-site' | 'key-unused' | 'key-missing' | 'not-in-log' | 'checkpoint-signature' | 'log-key'
  | 'no-anchor-yet' | 'no-anchor-made' | 'no-contract' | 'other-contract' | 'no-chain' | 'no-event' | 'wrong-chain' | 'wrong-code' | 'not-final'
  | 'unreachable' | 'disagree' | 'event-differs' | 'too-early'
  | 'statement-hash' | 'statement-names' | 'statement-signature' | 'hub-key' | 'inputs-differ' | 'excuse-late' | 'hours-differ' | 'recompute';

export interface Step {
  readonly id: StepId;
  readonly state: State;
  readonly reason: Reason;
  readonly detail: string; // for whoever looks for the place; not translated
}

/** What a file does not prove, and what is remarkable about it. */
export type Note =
  | 'note-site' | 'note-site-key' | 'note-key-late' | 'note-beacon' | 'note-log-key' | 'note-hub-key' | 'note-chain' | 'note-history' | 'note-superseded'
  | 'note-figures' | 'note-contract' | 'note-terms-late' | 'note-hours' | 'note-disputed' | 'note-received' | 'note-entry';

/** 0 proven, 1 false, 2 not yet final, 3 could not check: the exit codes of hashinsight-verify. */
export type Verdict = 0 | 1 | 2 | 3;

/** What a file says, as far as it could be read. */
export interface Facts {
  readonly kind?: Kind;
  readonly head?: Head;
  readonly event?: ChainEvent;
  readonly leaf?: Leaf;
  readonly signed?: SignedHour;
  readonly statement?: { readonly hash: Uint8Array; readonly says: Statement };
  readonly entry?: { readonly index: bigint; readonly entry: Entry };
  readonly hours?: { readonly agreed: number; readonly disputed: number; readonly leaves: number };
}

export interface Report {
  readonly steps: readonly Step[];
  readonly notes: readonly Note[];
  readonly verdict: Verdict;
  readonly facts: Facts;
}

/** What the one who checks brings himself. */
export interface Trust {
  readonly contract?: Uint8Array | undefined;
  readonly chain?: Chain | undefined;
  readonly logKey?: Uint8Array | undefined;
  readonly hubKey?: Uint8Array | undefined;
}

const order: Record<Kind, readonly StepId[]> = {
  hour: ['decode', 'leaf', 'site-signature', 'site-key', 'log', 'checkpoint', 'anchor', 'time'],
  statement: ['decode', 'log', 'checkpoint', 'anchor', 'time', 'statement'],
  bundle: ['decode', 'leaf', 'site-signature', 'site-key', 'log', 'checkpoint', 'anchor', 'time', 'statement', 'sla'],
  entry: ['decode', 'log', 'checkpoint', 'anchor', 'time'],
};

/** Collects what steps find: the first thing that is wrong with one stays. */
class Findings {
  private readonly found = new Map<StepId, Step>();
  readonly notes = new Set<Note>();

  wrong(id: StepId, reason: Reason, detail = ''): void {
    this.set(id, 'wrong', reason, detail);
  }
  set(id: StepId, state: State, reason: Reason, detail = ''): void {
    if (!this.found.has(id)) this.found.set(id, { id, state, reason, detail });
  }
  steps(kind: Kind, without: readonly StepId[]): Step[] {
    return order[kind].filter((id) => !without.includes(id)).map((id) => this.found.get(id) ?? { id, state: 'ok', reason: 'ok', detail: '' });
  }
}

/** False beats everything, then what could not be checked, then what is not final. */
export function verdictOf(steps: readonly Step[]): Verdict {
  const has = (s: State) => steps.some((x) => x.state === s);
  if (has('wrong')) return 1;
  if (has('unknown')) return 3;
  return has('not-yet') ? 2 : 0;
}

/** Checks a file. It throws only where the file could not be read; what is not a proof is a report. */
export async function check(file: Blob, trust: Trust, progress?: (part: number) => void): Promise<Report> {
  const facts: { -readonly [K in keyof Facts]: Facts[K] } = {};
  const f = new Findings();
  const s = new Stream(file, progress);
  const signatures = new Signatures();
  let notBefore: bigint; // ms: what is proven was not over before
  try {
    const head = await readHead(s);
    facts.kind = head.kind;
    facts.head = head;
    if (!verifyCheckpoint(signatures, head.checkpoint, head.logKey)) f.wrong('checkpoint', 'checkpoint-signature');
    else if (trust.logKey !== undefined && !equal(trust.logKey, head.logKey)) f.wrong('checkpoint', 'log-key');
    notBefore = await { hour: checkHour, statement: checkStatement, bundle: checkBundle, entry: checkEntry }[head.kind](s, { head, trust, f, facts, signatures });
    s.end();
  } catch (err) {
    if (!(err instanceof Malformed)) throw err;
    const steps: Step[] = [{ id: 'decode', state: 'wrong', reason: 'malformed', detail: `${err.message} (near byte ${s.offset})` }];
    return { steps, notes: [], verdict: 1, facts: facts.kind === undefined ? {} : { kind: facts.kind } };
  }
  const { kind } = facts.head;
  const event = await checkAnchor(facts.head, trust, f);
  if (event !== undefined) {
    facts.event = event;
    // A block's time is in whole seconds.
    if (event.blockTime < notBefore / 1000n) f.wrong('time', 'too-early');
  }
  if (kind === 'bundle') f.set('sla', 'note', 'recompute');
  const steps = f.steps(kind, event === undefined ? ['time'] : []);
  return { steps, notes: notesOf(facts.head, trust, f, event !== undefined), verdict: verdictOf(steps), facts };
}

interface Work {
  readonly signatures: Signatures;
  readonly head: Head;
  readonly trust: Trust;
  readonly f: Findings;
  readonly facts: { -readonly [K in keyof Facts]: Facts[K] };
}

function checkPlace({ head, f }: Work, raw: Uint8Array, place: Place, what: string, step: StepId = 'log'): void {
  if (!included(entryLeafHash(raw), place.index, head.checkpoint.size, place.path, head.checkpoint.root)) f.wrong(step, 'not-in-log', what);
}

const checkPlaced = (w: Work, p: Placed): void => {
  checkPlace(w, p.entry.raw, p.place, p.entry.body.kind, p.entry.body.kind === 'siteKey' && w.head.kind !== 'entry' ? 'site-key' : 'log');
};

async function checkHour(s: Stream, w: Work): Promise<bigint> {
  const raw = await readLeaf(s);
  const at = await readLeafPlace(s);
  const hour = await readPlacedOf(s, 'hour');
  const key = await readPlacedOf(s, 'siteKey');
  const { signed } = hour.entry.body;
  w.facts.leaf = parseLeaf(raw);
  w.facts.signed = signed;
  if (!belongs(raw, signed)) w.f.wrong('leaf', 'leaf-elsewhere');
  const root = rootFromPath(hourEntryHash(sha256(leafMiner(raw)), sha256(raw)), BigInt(at.index), BigInt(signed.hour.leaves), at.path);
  if (root === undefined || !equal(root, signed.hour.root)) w.f.wrong('leaf', 'leaf-path');
  checkSiteKey(w, signed, key.entry.body);
  checkPlaced(w, hour);
  checkPlaced(w, key);
  if (key.place.index > hour.place.index) w.f.notes.add('note-key-late');
  if (signed.header.beacon !== undefined) w.f.notes.add('note-beacon');
  return hourEndMS(signed.hour.hour);
}

const hourEndMS = (hour: number): bigint => (BigInt(hour) + 1n) * BigInt(hourMS);

function checkSiteKey({ f, signatures }: Work, signed: SignedHour, key: Of<'siteKey'>): void {
  if (key.event !== 'added') f.wrong('site-key', 'key-event');
  if (!equal(key.site, signed.hour.site)) f.wrong('site-key', 'key-site');
  if (!equal(keyIdOf(key.key), signed.header.keyId)) f.wrong('site-key', 'key-id');
  if (!verifyHeader(signatures, key.key, signed.rawHeader, signed.signature)) f.wrong('site-signature', 'signature');
}

async function checkStatement(s: Stream, w: Work): Promise<bigint> {
  return monthEndMS((await readSignedStatement(s, w)).says);
}

const monthEndMS = (says: Statement): bigint => BigInt(monthMS(says.month + 1));

async function readSignedStatement(s: Stream, w: Work): Promise<{ readonly says: Statement }> {
  const raw = await readStatement(s);
  const says = parseStatement(raw);
  const entry = await readPlacedOf(s, 'statement', 'restatement');
  const hubKey = await readPlacedOf(s, 'hubKey');
  const logged = entry.entry.body;
  const key = hubKey.entry.body;
  const hash = sha256(raw);
  w.facts.statement = { hash, says };
  if (!equal(hash, logged.hash)) w.f.wrong('statement', 'statement-hash');
  if (!equal(says.contract, logged.contract) || says.month !== logged.month || !equal(says.supersedes, logged.supersedes)) w.f.wrong('statement', 'statement-names');
  if ((logged.seq === 1) !== isZero(logged.supersedes)) w.f.wrong('statement', 'statement-names');
  if (key.role !== 'evidence' || key.event !== 'added' || !equal(key.key, logged.key)) w.f.wrong('statement', 'hub-key');
  if (w.trust.hubKey !== undefined && !equal(w.trust.hubKey, logged.key)) w.f.wrong('statement', 'hub-key');
  if (!verifyStatement(w.signatures, logged.key, raw, logged.signature)) w.f.wrong('statement', 'statement-signature');
  checkPlaced(w, entry);
  checkPlaced(w, hubKey);
  return { says };
}

async function checkEntry(s: Stream, w: Work): Promise<bigint> {
  const p = await readPlaced(s);
  w.facts.entry = { index: p.place.index, entry: p.entry };
  checkPlaced(w, p);
  return p.entry.atMS;
}

/** A site's key, and whether an hour of the bundle was signed with it. */
interface SiteKey {
  readonly key: Of<'siteKey'>;
  readonly index: bigint;
  used: boolean;
}

async function checkBundle(s: Stream, w: Work): Promise<bigint> {
  const { says } = await readSignedStatement(s, w);
  const terms = await readTerms(s, w, says);
  const assignments = await readAssignments(s, w, says);
  const excuses = await readExcuses(s, w, says);
  const keys = await readSiteKeys(s, w, says.hours.length);
  await readCount(s, 4, says.hours.length, 'hours');
  const counts = { agreed: 0, disputed: 0, leaves: 0 };
  const clock: Clock[] = [];
  const sites = rosters(assignments);
  const most = Math.max(0, ...[...sites.values()].map((r) => r.size));
  const none = new Map<string, Uint8Array>();
  for (const ref of says.hours) {
    clock.push(await readBundleHour(s, w, ref, sites.get(name(ref.site))?.at(ref.hour) ?? none, most, keys, counts));
  }
  checkOrder(w, clock, terms, excuses);
  for (const k of keys.values()) if (!k.used) w.f.wrong('site-key', 'key-unused');
  w.facts.hours = counts;
  return monthEndMS(says);
}

// How long before its end an hour may come into the log where the site's clock is wrong: hubs keep hours that begin at most a day ahead of their own clock.
const maxAheadMS = 25n * 3_600_000n;

/** The hour's end; what the entry says of its own time is the hub's word, and counts only where the statement tells of a wrong clock, within bounds. */
function notBeforeMS(ref: HourRef, atMS: bigint): bigint {
  const ended = hourEndMS(ref.hour);
  if (!ref.skewed) return ended;
  const least = ended - maxAheadMS;
  return atMS < least ? least : atMS < ended ? atMS : ended;
}

/** A place in the log, and a time before which nothing can have come there. */
interface Clock {
  readonly index: bigint;
  readonly ms: bigint;
}

// How far an entry's time may lie before that of entries with lower indexes: transactions end in another order than they begin.
const maxOrderSkewMS = 15n * 60_000n;

/**
 * What stands in the log behind an hour that had not ended cannot have been recorded before that: whoever excuses in hindsight has to put the excuse behind
 * what is anchored already.
 */
function checkOrder(w: Work, clock: readonly Clock[], terms: readonly Recorded[], excuses: readonly Recorded[]): void {
  const late = (r: Recorded) => clock.some((c) => c.index < r.index && c.ms > r.atMS + maxOrderSkewMS);
  for (const x of excuses) if (late(x)) w.f.wrong('statement', 'excuse-late', x.what);
  if (terms.some(late)) w.f.notes.add('note-terms-late');
}

async function readTerms(s: Stream, w: Work, says: Statement): Promise<Recorded[]> {
  await readCount(s, 2, says.terms.length, 'terms');
  const out: Recorded[] = [];
  for (const ref of says.terms) {
    const raw = await readDocument(s);
    const terms = parsed(raw, parseTerms);
    const atMS = BigInt.asIntN(64, await s.u64());
    const place = await readPlace(s);
    const hash = sha256(raw);
    const what = `terms ${ref.version}`;
    if (!equal(hash, ref.hash) || terms === undefined || !equal(terms.contract, says.contract) || terms.version !== ref.version) w.f.wrong('statement', 'inputs-differ', what);
    checkPlace(w, makeEntry('terms', atMS, says.contract, u32(ref.version), ref.hash), place, what);
    out.push({ what, index: place.index, atMS });
  }
  return out;
}

/** What a document says, undefined where it is not one. */
function parsed<T>(raw: Uint8Array, parse: (b: Uint8Array) => T): T | undefined {
  try {
    return parse(raw);
  } catch (err) {
    if (err instanceof Malformed) return undefined;
    throw err;
  }
}

/** An input with its place in the log and the time that its entry names. */
interface Recorded {
  readonly what: string;
  readonly index: bigint;
  readonly atMS: bigint;
}

async function readAssignments(s: Stream, w: Work, says: Statement): Promise<Assigned[]> {
  await readCount(s, 4, says.assignments.length, 'assignments');
  const out: Assigned[] = [];
  for (const ref of says.assignments) {
    const raw = await readDocument(s);
    const a = parsed(raw, parseAssignment);
    if (a === undefined || !equal(sha256(raw), ref.hash) || !equal(a.id, ref.id) || !equal(a.contract, says.contract)) {
      w.f.wrong('statement', 'inputs-differ', `assignment ${uuid(ref.id)}`);
    }
    if (a !== undefined) out.push({ ...a, minerHash: sha256(a.miner), hours: assignedHours(a) });
  }
  return out;
}

/** Reads all excuses and returns those that excuse something. */
async function readExcuses(s: Stream, w: Work, says: Statement): Promise<Recorded[]> {
  await readCount(s, 4, says.excuses.length, 'excuses');
  const out: Recorded[] = [];
  for (const ref of says.excuses) {
    const raw = await readDocument(s);
    const x = parsed(raw, parseExcuse);
    const place = await readPlace(s);
    const what = `excuse ${uuid(ref.id)}`;
    if (x === undefined || !equal(sha256(raw), ref.hash) || !equal(x.id, ref.id)) w.f.wrong('statement', 'inputs-differ', what);
    const atMS = BigInt(x?.recordedMS ?? 0);
    checkPlace(w, makeEntry('excuse', atMS, ref.id, ref.hash), place, what);
    if (ref.counted > 0) out.push({ what, index: place.index, atMS });
  }
  return out;
}

async function readSiteKeys(s: Stream, w: Work, hours: number): Promise<Map<string, SiteKey>> {
  const n = await s.u32();
  if (n > hours) throw new Malformed(`${n} keys for ${hours} hours`);
  const keys = new Map<string, SiteKey>();
  let before: Of<'siteKey'> | undefined;
  for (let i = 0; i < n; i++) {
    const p = await readPlacedOf(s, 'siteKey');
    const key = p.entry.body;
    if (before !== undefined && (compare(before.site, key.site) || compare(keyIdOf(before.key), keyIdOf(key.key))) >= 0) throw new Malformed('site keys out of order');
    before = key;
    if (key.event !== 'added') w.f.wrong('site-key', 'key-event');
    keys.set(keyName(key.site, keyIdOf(key.key)), { key, index: p.place.index, used: false });
    checkPlaced(w, p);
  }
  return keys;
}

const keyName = (site: Uint8Array, id: Uint8Array): string => `${hex(site)} ${hex(id)}`;

async function readBundleHour(
  s: Stream,
  w: Work,
  ref: HourRef,
  miners: ReadonlyMap<string, Uint8Array>,
  most: number, // miners of the contract at one site in the month
  keys: ReadonlyMap<string, SiteKey>,
  counts: { agreed: number; disputed: number; leaves: number },
): Promise<Clock> {
  const state = await s.u8();
  if (state !== 1 && state !== 2) throw new Malformed(`an hour of state ${state}`);
  const placed = await readPlacedOf(s, 'hour');
  const { signed } = placed.entry.body;
  const { hour } = signed;
  const what = `hour ${hour.hour} of site ${uuid(hour.site)}`;
  if (
    (state === 2) !== ref.disputed || !equal(hour.site, ref.site) || hour.hour !== ref.hour || !equal(hour.spool, ref.spool) ||
    !equal(hour.root, ref.root) || !equal(sha256(signed.rawHeader), ref.headerHash)
  ) {
    w.f.wrong('statement', 'hours-differ', what);
  }
  const key = keys.get(keyName(hour.site, signed.header.keyId));
  if (key === undefined) w.f.wrong('site-key', 'key-missing', what);
  else {
    key.used = true;
    if (key.index > placed.place.index) w.f.notes.add('note-key-late');
    if (!verifyHeader(w.signatures, key.key.key, signed.rawHeader, signed.signature)) w.f.wrong('site-signature', 'signature', what);
  }
  checkPlaced(w, placed);
  if (signed.header.beacon !== undefined) w.f.notes.add('note-beacon');
  const clock = { index: placed.place.index, ms: notBeforeMS(ref, placed.entry.atMS) };
  if (state === 2) {
    counts.disputed++;
    w.f.notes.add('note-disputed');
    const named = await readMiners(s, most);
    named.forEach((id, i) => {
      const before = named[i - 1];
      if (before !== undefined && compare(before, id) >= 0) w.f.wrong('leaf', 'tree-order', what);
      if (!miners.has(name(id))) w.f.wrong('leaf', 'disputed-foreign', what);
    });
    return clock;
  }
  counts.agreed++;
  const { entries, hashes } = await readTree(s, most);
  counts.leaves += checkTree(w, signed, entries, hashes, miners, what);
  return clock;
}

/** Whether the entries lead to the root that the site signed, every miner is among them or shown to be absent, and nothing else is. */
function checkTree(
  { f }: Work,
  signed: SignedHour,
  entries: readonly TreeEntry[],
  hashes: readonly Uint8Array[],
  miners: ReadonlyMap<string, Uint8Array>,
  what: string,
): number {
  const { leaves, root } = signed.hour;
  const given: Given[] = [];
  const minerHashes: Uint8Array[] = [];
  const present = new Set<string>();
  let before: Uint8Array | undefined;
  for (const e of entries) {
    let minerHash = e.minerHash;
    let sum = e.leafHash;
    if (e.leaf !== undefined) {
      const id = name(leafMiner(e.leaf));
      minerHash = miners.get(id);
      sum = sha256(e.leaf);
      present.add(id);
      if (!belongs(e.leaf, signed)) f.wrong('leaf', 'leaf-elsewhere', what);
    }
    if (minerHash === undefined || sum === undefined) {
      f.wrong('leaf', 'tree-foreign', what);
      return 0;
    }
    const last = given.at(-1);
    if (e.index >= leaves || (last !== undefined && e.index <= last.index) || (before !== undefined && compare(before, minerHash) >= 0)) {
      f.wrong('leaf', 'tree-order', what);
      return 0;
    }
    before = minerHash;
    minerHashes.push(minerHash);
    given.push({ index: e.index, hash: hourEntryHash(minerHash, sum) });
  }
  const got = rootFromMany(given, leaves, hashes);
  if (got === undefined || !equal(got, root)) f.wrong('leaf', 'tree-root', what);
  const neighbours = new Set<number>();
  for (const [id, minerHash] of present.size < miners.size ? miners : []) {
    if (present.has(id)) continue;
    // The first entry behind where the miner's would be.
    let low = 0;
    for (let high = minerHashes.length; low < high; ) {
      const mid = (low + high) >> 1;
      if (compare(minerHashes[mid] ?? minerHash, minerHash) < 0) low = mid + 1;
      else high = mid;
    }
    const after = given[low];
    const hidden = after !== undefined && equal(minerHashes[low] ?? root, minerHash);
    if (hidden || (given[low - 1]?.index ?? -1) + 1 !== (after?.index ?? leaves)) {
      f.wrong('leaf', 'tree-missing', what);
      return 0;
    }
    neighbours.add(low - 1).add(low);
  }
  if (entries.some((e, i) => e.leaf === undefined && !neighbours.has(i))) f.wrong('leaf', 'tree-foreign', what);
  return present.size;
}

/** Compares the checkpoint with the contract's event. Undefined where there is none: then there is no time to compare either. */
async function checkAnchor(head: Head, trust: Trust, f: Findings): Promise<ChainEvent | undefined> {
  const { anchor, checkpoint } = head;
  const without = (state: State, reason: Reason, detail = ''): undefined => {
    f.set('anchor', state, reason, detail);
  };
  if (anchor === 'none-yet' || anchor === 'none-made') return without('not-yet', anchor === 'none-yet' ? 'no-anchor-yet' : 'no-anchor-made');
  // A contract that the file alone names binds nobody.
  if (trust.contract === undefined) return without('unknown', 'no-contract');
  if (!equal(trust.contract, anchor.contract)) return without('wrong', 'other-contract');
  if (trust.chain === undefined) return without('unknown', 'no-chain');
  let event: ChainEvent;
  try {
    event = await trust.chain.event(anchor);
  } catch (err) {
    const [why, detail] = err instanceof ChainError ? ([err.why, err.detail] as const) : (['unreachable', String(err)] as const);
    return without(why === 'not-final' ? 'not-yet' : why === 'unreachable' || why === 'disagree' ? 'unknown' : 'wrong', why, detail);
  }
  const same =
    event.seq === anchor.seq && equal(event.root, checkpoint.root) && event.size === checkpoint.size && event.block === anchor.block && equal(event.tx, anchor.tx);
  if (!same) f.wrong('anchor', 'event-differs');
  else if (!event.finalized) f.set('anchor', 'not-yet', 'not-final');
  return event;
}

/** What a file of its kind does not prove, behind what is remarkable about this one. */
function notesOf(head: Head, trust: Trust, f: Findings, asked: boolean): Note[] {
  const notes = new Set<Note>(f.notes);
  if (head.kind === 'hour' || head.kind === 'bundle') notes.add('note-site').add('note-site-key');
  if (head.kind === 'statement' || head.kind === 'bundle') {
    if (trust.hubKey === undefined) notes.add('note-hub-key');
    notes.add('note-superseded').add(head.kind === 'statement' ? 'note-figures' : 'note-contract');
  }
  if (head.kind === 'bundle') notes.add('note-hours').add('note-received');
  if (head.kind === 'entry') notes.add('note-entry');
  if (trust.logKey === undefined) notes.add('note-log-key');
  if (asked) notes.add('note-chain');
  return [...notes.add('note-history')];
}
