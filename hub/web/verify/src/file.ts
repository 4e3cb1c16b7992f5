// The form of proof files, by the byte tables of the hub's package proof. Reading checks the form alone; check.ts says what it proves.
import { Malformed, type Stream } from './bytes';
import type { Anchor } from './chain';
import { parseCheckpoint, type Checkpoint } from './checkpoint';
import { entryHead, entrySize, kindNumbers, parseEntryOf, type Entry, type EntryKind, type Of } from './entry';
import { checkLeaf, leafSize } from './evidence';
import { hashSize } from './hash';

export const kinds = [undefined, 'hour', 'statement', 'bundle', 'entry'] as const;
export type Kind = Exclude<(typeof kinds)[number], undefined>;

const tag = 'hsi/proof/v1\0';
const maxCheckpoint = 512; // bytes
const maxPath = 64; // hashes
const maxStatement = 64 << 20; // bytes
const maxDocument = 4 << 20; // bytes

export interface Head {
  readonly kind: Kind;
  readonly checkpoint: Checkpoint;
  readonly logKey: Uint8Array;
  readonly anchor: Anchor | 'none-yet' | 'none-made';
}

export async function readHead(s: Stream): Promise<Head> {
  const head = await s.take(tag.length);
  if (String.fromCharCode(...head) !== tag) throw new Malformed('not a proof file of this version');
  const kind = kinds[await s.u8()];
  if (kind === undefined) throw new Malformed('a proof of a kind that is not known: is the file newer than this page?');
  const length = await s.u16();
  if (length > maxCheckpoint) throw new Malformed(`a checkpoint of ${length} bytes`);
  const checkpoint = parseCheckpoint(await s.take(length));
  const logKey = await s.take(32);
  return { kind, checkpoint, logKey, anchor: await readAnchor(s) };
}

async function readAnchor(s: Stream): Promise<Head['anchor']> {
  const state = await s.u8();
  if (state === 0) return 'none-yet';
  if (state === 2) return 'none-made';
  if (state !== 1) throw new Malformed(`an anchor of state ${state}`);
  return { chainId: await s.u64(), contract: await s.take(20), seq: await s.u64(), block: await s.u64(), tx: await s.take(hashSize) };
}

/** Hashes one behind the other. */
async function readHashes(s: Stream, n: number): Promise<readonly Uint8Array[]> {
  await s.need(n * hashSize);
  return Array.from({ length: n }, () => s.next(hashSize));
}

async function readPath(s: Stream): Promise<readonly Uint8Array[]> {
  const n = await s.u8();
  if (n > maxPath) throw new Malformed(`a path of ${n} hashes`);
  return readHashes(s, n);
}

/** Where in the log an entry stands, for the checkpoint of its file. */
export interface Place {
  readonly index: bigint;
  readonly path: readonly Uint8Array[];
}

export async function readPlace(s: Stream): Promise<Place> {
  return { index: await s.u64(), path: await readPath(s) };
}

export interface Placed<E extends Entry = Entry> {
  readonly entry: E;
  readonly place: Place;
}

/** An entry of one of the kinds that may stand here, which all have the same length. */
export async function readPlacedOf<K extends EntryKind>(s: Stream, kind: K, ...others: readonly K[]): Promise<Placed<Entry<Of<K>>>> {
  const entry = parseEntryOf(await s.take(entrySize(kindNumbers[kind])), kind, ...others);
  return { entry, place: await readPlace(s) };
}

/** An entry of any kind: which one stands in the entry itself. */
export async function readPlaced(s: Stream): Promise<Placed> {
  await s.need(entryHead);
  const head = s.peek(entryHead);
  const entry = parseEntryOf(await s.take(entrySize(head[11] ?? 0)), ...(Object.keys(kindNumbers) as EntryKind[]));
  return { entry, place: await readPlace(s) };
}

/** A leaf in the fixed form, which is checked. */
export async function readLeaf(s: Stream): Promise<Uint8Array> {
  const leaf = await s.take(leafSize);
  checkLeaf(leaf);
  return leaf;
}

export interface LeafPlace {
  readonly index: number;
  readonly path: readonly Uint8Array[];
}

export async function readLeafPlace(s: Stream): Promise<LeafPlace> {
  return { index: await s.u32(), path: await readPath(s) };
}

async function readSized(s: Stream, most: number): Promise<Uint8Array> {
  const length = await s.u32();
  if (length > most) throw new Malformed(`a document of ${length} bytes`);
  return s.take(length);
}

export const readStatement = (s: Stream): Promise<Uint8Array> => readSized(s, maxStatement);
export const readDocument = (s: Stream): Promise<Uint8Array> => readSized(s, maxDocument);

/** A number of things, which something that was read before has said. */
export async function readCount(s: Stream, width: 2 | 4, want: number, what: string): Promise<void> {
  const n = width === 2 ? await s.u16() : await s.u32();
  if (n !== want) throw new Malformed(`${n} ${what}, the statement names ${want}`);
}

/** An entry of an hour's tree: a leaf, or only the hashes of a miner's id and its leaf. */
export interface TreeEntry {
  readonly index: number;
  readonly leaf: Uint8Array | undefined;
  readonly minerHash: Uint8Array | undefined; // of a bare one
  readonly leafHash: Uint8Array | undefined;
}

/** The entries that a bundle gives of an hour's tree, and the hashes that cover the rest of it. At most miners of them are leaves. */
export async function readTree(s: Stream, miners: number): Promise<{ readonly entries: readonly TreeEntry[]; readonly hashes: readonly Uint8Array[] }> {
  const full = await s.u32();
  const bare = await s.u32();
  if (full > miners || bare > 2 * miners) throw new Malformed(`${full} leaves and ${bare} neighbours for ${miners} miners`);
  const entries: TreeEntry[] = [];
  let leaves = 0;
  for (let i = 0; i < full + bare; i++) {
    // Waiting for each of very many entries would take longer than reading them.
    if (!s.has(5 + leafSize)) await s.need(5 + 2 * hashSize);
    const index = s.nextU32();
    const form = s.next(1)[0];
    if (form === 1) {
      if (!s.has(leafSize)) await s.need(leafSize);
      const leaf = s.next(leafSize);
      checkLeaf(leaf);
      entries.push({ index, leaf, minerHash: undefined, leafHash: undefined });
      leaves++;
    } else if (form === 2) {
      entries.push({ index, leaf: undefined, minerHash: s.next(hashSize), leafHash: s.next(hashSize) });
    } else throw new Malformed(`an entry of form ${form}`);
  }
  if (leaves !== full) throw new Malformed(`${leaves} leaves, ${full} are announced`);
  const n = await s.u32();
  // Each entry has at most 32 hashes beside its way to the root, and a tree of which nothing is given has one.
  if (n > 1 + 32 * entries.length) throw new Malformed(`${n} hashes for ${entries.length} entries`);
  return { entries, hashes: await readHashes(s, n) };
}

/** The miners of a disputed hour. */
export async function readMiners(s: Stream, most: number): Promise<readonly Uint8Array[]> {
  const n = await s.u32();
  if (n > most) throw new Malformed(`${n} miners in an hour of ${most}`);
  await s.need(16 * n);
  return Array.from({ length: n }, () => s.next(16));
}
