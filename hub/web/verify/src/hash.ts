// SHA-256 and the trees of RFC 6962 over it: 0x00 before an entry, 0x01 before a node.
import { concat, equal } from './bytes';
import { digest, digestPair } from './sha256';

export const hashSize = 32;

/** SHA-256 of the parts, one behind the other. */
export function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  const [only, ...more] = parts;
  return digest(only !== undefined && more.length === 0 ? only : concat(...parts));
}

const leafPrefix = 0;
const nodePrefix = 1;

/** The hash of an entry of a tree. */
export const leafHash = (entry: Uint8Array): Uint8Array => sha256(Uint8Array.of(leafPrefix), entry);

/** The hash of an entry that is two hashes. */
export const leafHashOfPair = (left: Uint8Array, right: Uint8Array): Uint8Array => digestPair(leafPrefix, left, right);

/** The hash of a node above two others. */
export const nodeHash = (left: Uint8Array, right: Uint8Array): Uint8Array => digestPair(nodePrefix, left, right);

/** The largest power of two that is smaller than n, which is at least 2 (RFC 6962 section 2.1). */
export function split(n: bigint): bigint {
  let k = 1n;
  while (k * 2n < n) k *= 2n;
  return k;
}

/**
 * The root that an audit path leads to (RFC 6962 section 2.1.1): the path names the other half of each tree on the way down from the root, the one
 * nearest to the entry first. Undefined where a path of this length leads nowhere.
 */
export function rootFromPath(entry: Uint8Array, index: bigint, size: bigint, path: readonly Uint8Array[]): Uint8Array | undefined {
  if (index < 0n || index >= size) return undefined;
  // Down from the root, noting on which side the entry is; then up again with the path.
  const right: boolean[] = [];
  let at = index;
  for (let n = size; n > 1n; ) {
    const k = split(n);
    const isRight = at >= k;
    right.push(isRight);
    if (isRight) at -= k;
    n = isRight ? n - k : k;
  }
  if (right.length !== path.length) return undefined;
  let h = entry;
  for (const other of path) {
    h = right.pop() === true ? nodeHash(other, h) : nodeHash(h, other);
  }
  return h;
}

/** Whether an entry's hash is at index in the tree of size entries with this root. */
export function included(entry: Uint8Array, index: bigint, size: bigint, path: readonly Uint8Array[], root: Uint8Array): boolean {
  const got = rootFromPath(entry, index, size, path);
  return got !== undefined && equal(got, root);
}

/** One entry that is given: where it is, and its hash. */
export interface Given {
  readonly index: number;
  readonly hash: Uint8Array;
}

/**
 * The root of a tree of size entries of which some are given, in ascending order, and the rest is covered by hashes: the tree is walked from its root, left
 * half first, and a part without any given entry takes the next hash. Undefined where entries and hashes are not exactly those of such a tree.
 */
export function rootFromMany(given: readonly Given[], size: number, hashes: readonly Uint8Array[]): Uint8Array | undefined {
  let entry = 0;
  let hash = 0;
  const walk = (from: number, n: number): Uint8Array | undefined => {
    const next = given[entry];
    if (next === undefined || next.index >= from + n) {
      return hashes[hash++];
    }
    if (n === 1) {
      entry++;
      return next.hash;
    }
    let k = 1;
    while (k * 2 < n) k *= 2;
    const left = walk(from, k);
    const right = left && walk(from + k, n - k);
    return left && right && nodeHash(left, right);
  };
  const root = size < 1 ? undefined : walk(0, size);
  return entry === given.length && hash === hashes.length ? root : undefined;
}
