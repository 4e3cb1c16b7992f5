// The records that a site signs, by their byte tables (packages evidence and ident of the hub): the leaf of a miner and hour, the signed hour, the header
// of the batch that carries it. Each has exactly one encoding; anything else is refused.
import { Fields, Malformed, ascii, concat, equal, has, isZero } from './bytes';
import type { Signatures } from './ed25519';
import { leafHashOfPair, sha256 } from './hash';

export const leafSize = 480;
export const headerSize = 204;
export const hourSize = 100;
export const slotsPerHour = 12;
export const slotMS = 300_000;
export const hourMS = slotsPerHour * slotMS;

export const sources = ['none', 'counter', 'rate'] as const;
export type Source = (typeof sources)[number];

/** What polls of a slot have seen, by bit from the lowest. */
export const slotFlags = ['reachable', 'hashing', 'sleeping', 'overheated', 'bridged', 'clockStep', 'curtailSeen', 'skewed'] as const;
export type SlotFlag = (typeof slotFlags)[number];

/** Five minutes of one miner. */
export interface Slot {
  readonly polls: number;
  readonly answered: number;
  readonly source: Source; // of the hashes
  readonly flags: readonly SlotFlag[];
  readonly hashes: bigint; // MH
  readonly shareDiff: bigint;
  readonly energy: bigint; // J
}

export interface Leaf {
  readonly site: Uint8Array;
  readonly miner: Uint8Array;
  readonly hour: number; // since 1970 UTC
  readonly spool: Uint8Array;
  readonly slots: readonly Slot[];
  readonly firstSeq: bigint;
  readonly lastSeq: bigint;
}

/** Where the fields of a leaf stand. */
const leafAt = { tag: 0, site: 12, miner: 28, hour: 44, spool: 48, slots: 64, firstSeq: 448, lastSeq: 456 } as const;
const slotSize = 32;
const leafTag = ascii('hsi/leaf/v1\0');

export const leafMiner = (b: Uint8Array): Uint8Array => b.subarray(leafAt.miner, leafAt.hour);

/** Whether a leaf is of the signed hour's site, hour and chain. */
export const belongs = (leaf: Uint8Array, { hour }: SignedHour): boolean =>
  has(leaf, leafAt.site, hour.site) && has(leaf, leafAt.hour, hour.hourBytes) && has(leaf, leafAt.spool, hour.spool);

/** Refuses whatever is not the one encoding of a leaf. A bundle has very many of them, so nothing is made of them here. */
export function checkLeaf(b: Uint8Array): void {
  if (b.length !== leafSize || !has(b, leafAt.tag, leafTag)) throw new Malformed('not a leaf');
  checkLeafRange(b);
  for (let at = leafAt.slots; at < leafAt.firstSeq; at += slotSize) {
    const source = b[at + 4] ?? 0;
    if (u16At(b, at + 2) > u16At(b, at)) throw new Malformed('a slot with more polls answered than made');
    if (source >= sources.length || b[at + 5] !== 0 || u16At(b, at + 6) >= 1 << slotFlags.length) {
      throw new Malformed('a slot with a source, a byte or a flag that is not known');
    }
    if (source === 0 && !allZero(b, at + 8, at + 16)) throw new Malformed('a slot with hashes and no source');
    // The highest bit of each sum.
    if ((((b[at + 8] ?? 0) | (b[at + 16] ?? 0) | (b[at + 24] ?? 0)) & 0x80) !== 0) throw new Malformed('a slot with a sum beyond 2^63 - 1');
  }
}

const u16At = (b: Uint8Array, at: number): number => ((b[at] ?? 0) << 8) | (b[at + 1] ?? 0);

function allZero(b: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (b[i] !== 0) return false;
  return true;
}

/** The same as checkRange of the two numbers. */
function checkLeafRange(b: Uint8Array): void {
  let less = 0; // whether the last is less than the first, as the first byte that differs says
  for (let i = 0; i < 8 && less === 0; i++) less = (b[leafAt.firstSeq + i] ?? 0) - (b[leafAt.lastSeq + i] ?? 0);
  if (less > 0 || allZero(b, leafAt.firstSeq, leafAt.lastSeq)) throw new Malformed('a leaf whose batches are no range');
}

export function parseLeaf(b: Uint8Array): Leaf {
  checkLeaf(b);
  const v = new DataView(b.buffer, b.byteOffset, b.byteLength);
  return {
    site: b.subarray(leafAt.site, leafAt.miner),
    miner: leafMiner(b),
    hour: v.getUint32(leafAt.hour),
    spool: b.subarray(leafAt.spool, leafAt.slots),
    slots: Array.from({ length: slotsPerHour }, (_, i) => {
      const at = leafAt.slots + i * slotSize;
      const bits = v.getUint16(at + 6);
      return {
        polls: v.getUint16(at),
        answered: v.getUint16(at + 2),
        source: sources[v.getUint8(at + 4)] ?? 'none',
        flags: slotFlags.filter((_, bit) => (bits >> bit) & 1),
        hashes: v.getBigUint64(at + 8),
        shareDiff: v.getBigUint64(at + 16),
        energy: v.getBigUint64(at + 24),
      };
    }),
    firstSeq: v.getBigUint64(leafAt.firstSeq),
    lastSeq: v.getBigUint64(leafAt.lastSeq),
  };
}

function checkRange(first: bigint, last: bigint): void {
  if (first === 0n || last < first) throw new Malformed(`batches ${first} to ${last} are no range`);
}

/** The hash in an hour's tree of what is known of one miner. */
export const hourEntryHash = (minerHash: Uint8Array, leafSum: Uint8Array): Uint8Array => leafHashOfPair(minerHash, leafSum);

/** The header of a batch of kind hour. */
export interface Header {
  readonly site: Uint8Array;
  readonly keyId: Uint8Array; // the first 8 bytes of SHA-256 of the public key
  readonly payload: Uint8Array;
  readonly payloadLength: number;
  readonly beacon: { readonly chainId: bigint; readonly block: bigint; readonly hash: Uint8Array } | undefined;
}

const kindHour = 3;

export function parseHeader(b: Uint8Array): Header {
  const f = new Fields(b);
  f.tag('hsi/batch/v1\0');
  const kind = f.u8();
  const schema = f.u8();
  const codec = f.u8();
  const site = f.bytes(16);
  const keyId = f.bytes(8);
  f.bytes(16); // spool id of the chain that the batch stands in
  const seq = f.u64();
  const before = f.bytes(32);
  const payload = f.bytes(32);
  const payloadLength = f.u32();
  f.u32(); // miners
  f.u32(); // samples
  const first = f.i64();
  const last = f.i64();
  const chainId = f.u64();
  const block = f.u64();
  const hash = f.bytes(32);
  f.end();
  if (kind !== kindHour) throw new Malformed(`a batch of kind ${kind}, not a signed hour`);
  if (schema === 0 || codec > 1) throw new Malformed(`a batch of schema ${schema} and codec ${codec}`);
  if (seq === 0n || (seq === 1n) !== isZero(before)) throw new Malformed('a batch that is first and has one before it, or neither');
  if (last < first) throw new Malformed('a batch that ends before it begins');
  const known = chainId !== 0n || block !== 0n || !isZero(hash);
  return { site, keyId, payload, payloadLength, beacon: known ? { chainId, block, hash } : undefined };
}

/** The root that a site signs for one hour and chain. */
export interface Hour {
  readonly site: Uint8Array;
  readonly hour: number;
  readonly hourBytes: Uint8Array; // the same, as it is written
  readonly spool: Uint8Array;
  readonly leaves: number;
  readonly root: Uint8Array;
}

export function parseHour(b: Uint8Array): Hour {
  const f = new Fields(b);
  f.tag('hsi/hour/v1\0');
  const site = f.bytes(16);
  const hourBytes = f.bytes(4);
  const hour = new Fields(hourBytes).u32();
  const spool = f.bytes(16);
  const first = f.u64();
  const last = f.u64();
  const leaves = f.u32();
  const root = f.bytes(32);
  f.end();
  checkRange(first, last);
  if (leaves === 0) throw new Malformed('an hour without leaves');
  return { site, hour, hourBytes, spool, leaves, root };
}

/** Header, signature and payload of a signed hour, as the log holds them. */
export interface SignedHour {
  readonly rawHeader: Uint8Array;
  readonly signature: Uint8Array;
  readonly header: Header;
  readonly hour: Hour;
}

export const signedHourSize = headerSize + 64 + hourSize;

export function parseSignedHour(b: Uint8Array): SignedHour {
  const f = new Fields(b);
  const rawHeader = f.bytes(headerSize);
  const signature = f.bytes(64);
  const payload = f.bytes(hourSize);
  f.end();
  const header = parseHeader(rawHeader);
  const hour = parseHour(payload);
  if (!equal(header.site, hour.site)) throw new Malformed('a signed hour of two sites');
  if (header.payloadLength !== hourSize || !equal(header.payload, sha256(payload))) throw new Malformed('a signed hour whose header names another payload');
  return { rawHeader, signature, header, hour };
}

/** The signature of a header by the site's key. */
export const verifyHeader = (s: Signatures, key: Uint8Array, header: Uint8Array, signature: Uint8Array): boolean => s.verify(key, concat(ascii('hsi/sig/v1\0'), header), signature);

/** The signature of a statement by the hub's key. */
export const verifyStatement = (s: Signatures, key: Uint8Array, statement: Uint8Array, signature: Uint8Array): boolean =>
  s.verify(key, concat(ascii('hsi/statement/v1\0'), statement), signature);

/** What headers name a key by. */
export const keyIdOf = (key: Uint8Array): Uint8Array => sha256(key).subarray(0, 8);
