// Entries of the transparency log, by their byte tables (package proof of the hub).
import { Fields, Malformed, concat, ascii, isZero, u16, u64 } from './bytes';
import { parseSignedHour, signedHourSize, type SignedHour } from './evidence';
import { leafHash } from './hash';

export const entryHead = 20; // tag, kind, time
const tag = 'hsi/log/v1\0';

export type Body =
  | { readonly kind: 'hour'; readonly signed: SignedHour }
  | { readonly kind: 'siteKey'; readonly site: Uint8Array; readonly event: KeyEvent; readonly key: Uint8Array; readonly replaces: Uint8Array | undefined }
  | { readonly kind: 'hubKey'; readonly role: 'evidence' | 'checkpoint'; readonly event: KeyEvent; readonly key: Uint8Array }
  | { readonly kind: 'terms'; readonly contract: Uint8Array; readonly version: number; readonly hash: Uint8Array }
  | { readonly kind: 'excuse'; readonly id: Uint8Array; readonly hash: Uint8Array }
  | {
      readonly kind: 'statement' | 'restatement';
      readonly contract: Uint8Array;
      readonly month: number; // counted since January of the year 0
      readonly seq: number;
      readonly hash: Uint8Array;
      readonly supersedes: Uint8Array; // zeros for none
      readonly key: Uint8Array;
      readonly signature: Uint8Array;
    }
  | { readonly kind: 'auditHead'; readonly seq: bigint; readonly hash: Uint8Array };

export type KeyEvent = 'added' | 'retired';
export type EntryKind = Body['kind'];
export type Of<K extends EntryKind> = Extract<Body, { kind: K }>;

const keyEvents: readonly (KeyEvent | undefined)[] = [undefined, 'added', 'retired'];

/** By number: the length of the body in bytes, and how it is read. */
const kinds: Record<number, { readonly size: number; readonly read: (b: Uint8Array, f: Fields) => Body }> = {
  1: { size: signedHourSize, read: (b, f) => ({ kind: 'hour', signed: parseSignedHour(f.bytes(b.length)) }) },
  2: {
    size: 81,
    read: (_, f) => {
      const site = f.bytes(16);
      const event = known(keyEvents[f.u8()]);
      const key = f.bytes(32);
      const replaces = f.bytes(32);
      return { kind: 'siteKey', site, event, key, replaces: isZero(replaces) ? undefined : replaces };
    },
  },
  3: {
    size: 34,
    read: (_, f) => {
      const role = known(([undefined, 'evidence', 'checkpoint'] as const)[f.u8()]);
      return { kind: 'hubKey', role, event: known(keyEvents[f.u8()]), key: f.bytes(32) };
    },
  },
  4: { size: 52, read: (_, f) => ({ kind: 'terms', contract: f.bytes(16), version: f.u32(), hash: f.bytes(32) }) },
  5: { size: 48, read: (_, f) => ({ kind: 'excuse', id: f.bytes(16), hash: f.bytes(32) }) },
  6: { size: 184, read: (_, f) => statement('statement', f) },
  7: { size: 184, read: (_, f) => statement('restatement', f) },
  8: { size: 40, read: (_, f) => ({ kind: 'auditHead', seq: f.u64(), hash: f.bytes(32) }) },
};

function known<T>(v: T | undefined): T {
  if (v === undefined) throw new Malformed('a log entry with a role or event that is not known');
  return v;
}

function statement(kind: 'statement' | 'restatement', f: Fields): Body {
  const body = { kind, contract: f.bytes(16), month: f.u32(), seq: f.u32(), hash: f.bytes(32), supersedes: f.bytes(32), key: f.bytes(32), signature: f.bytes(64) };
  if (isZero(body.supersedes) !== (kind === 'statement')) throw new Malformed('a restatement names what it supersedes, and nothing else does');
  return body;
}

export interface Entry<B extends Body = Body> {
  readonly raw: Uint8Array;
  readonly atMS: bigint; // the hub's time of recording
  readonly body: B;
}

/** The length of a whole entry of a kind that is known. */
export function entrySize(kind: number): number {
  const k = kinds[kind];
  if (k === undefined) throw new Malformed(`a log entry of kind ${kind}, which is not known: is the file newer than this page?`);
  return entryHead + k.size;
}

export const kindNumbers = { hour: 1, siteKey: 2, hubKey: 3, terms: 4, excuse: 5, statement: 6, restatement: 7, auditHead: 8 } as const;

export function parseEntry(raw: Uint8Array): Entry {
  const f = new Fields(raw);
  f.tag(tag);
  const kind = f.u8();
  const atMS = f.i64();
  if (raw.length !== entrySize(kind) || atMS < 0n) throw new Malformed(`a log entry of kind ${kind} with ${raw.length} bytes at ${atMS} ms`);
  const k = kinds[kind];
  if (k === undefined) throw new Malformed('unreachable');
  const b = raw.subarray(entryHead);
  const inner = new Fields(b);
  const body = k.read(b, inner);
  inner.end();
  return { raw, atMS, body };
}

/** The same, of the kinds that stand at a place. */
export function parseEntryOf<K extends EntryKind>(raw: Uint8Array, ...wanted: readonly K[]): Entry<Of<K>> {
  const e = parseEntry(raw);
  if (!(wanted as readonly EntryKind[]).includes(e.body.kind)) throw new Malformed(`a log entry of kind ${e.body.kind} where ${wanted.join(' or ')} belongs`);
  return e as Entry<Of<K>>;
}

/** An entry's hash in the log's tree. */
export const entryLeafHash = (raw: Uint8Array): Uint8Array => leafHash(raw);

/** The log entry of terms or an excuse, which a bundle's reader makes from what it names. */
export function makeEntry(kind: 'terms' | 'excuse', atMS: bigint, ...body: readonly Uint8Array[]): Uint8Array {
  const raw = concat(ascii(tag), u16(kindNumbers[kind]).subarray(1), u64(atMS), ...body);
  parseEntryOf(raw, kind);
  return raw;
}
