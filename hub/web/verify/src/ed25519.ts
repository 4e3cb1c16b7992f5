// Ed25519 as Go's crypto/ed25519 verifies it, for two verifiers that disagree on one signature would be worse than one: the scalar must be below the order
// (RFC 8032 section 5.1.7), the equation is the one without the cofactor, R is compared as bytes (so it must be canonical), and the public key may be any
// encoding of a point. The library's own verify multiplies by the cofactor and would accept what Go refuses.
import { sha512 } from '@noble/hashes/sha2.js';
import { Point } from '@noble/ed25519';
import { concat, equal, hex } from './bytes';

const order = Point.CURVE().n;

function littleEndian(b: Uint8Array): bigint {
  let n = 0n;
  for (let i = b.length - 1; i >= 0; i--) n = (n << 8n) | BigInt(b[i] ?? 0);
  return n;
}

const publicKeySize = 32;
const signatureSize = 64;

// A key is used so often before multiples of it are prepared, which takes as long as some four signatures and makes each further one twice as quick.
const usesBeforeTable = 8;
const windowBits = 4n;
const windows = 64; // of 4 bits, for scalars below 2^256

/** Verifies signatures, of which many may be by few keys: a month of a site has hundreds. */
export class Signatures {
  private readonly keys = new Map<string, PublicKey>();

  verify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
    if (publicKey.length !== publicKeySize || signature.length !== signatureSize) return false;
    const s = littleEndian(signature.subarray(32));
    if (s >= order) return false;
    const name = hex(publicKey);
    let key = this.keys.get(name);
    if (key === undefined) {
      key = new PublicKey(publicKey);
      this.keys.set(name, key);
    }
    const r = signature.subarray(0, 32);
    const k = littleEndian(sha512(concat(r, publicKey, message))) % order;
    const product = key.times(k);
    return product !== undefined && equal(Point.BASE.multiply(s, false).subtract(product).toBytes(), r);
  }
}

class PublicKey {
  private readonly point: Point | undefined; // undefined: no point of the curve
  private uses = 0;
  private table: readonly (readonly Point[])[] | undefined; // [i][d] is d · 16^i times the point

  constructor(b: Uint8Array) {
    try {
      this.point = Point.fromBytes(b, true);
    } catch {
      // It verifies nothing.
    }
  }

  times(k: bigint): Point | undefined {
    if (this.point === undefined) return undefined;
    if (this.table === undefined && ++this.uses > usesBeforeTable) this.table = multiples(this.point);
    if (this.table === undefined) return this.point.multiply(k, false);
    let sum = Point.ZERO;
    for (let i = 0, rest = k; rest > 0n; i++, rest >>= windowBits) {
      const p = this.table[i]?.[Number(rest & 15n)];
      if (p !== undefined) sum = sum.add(p);
    }
    return sum;
  }
}

function multiples(point: Point): Point[][] {
  const table: Point[][] = [];
  for (let i = 0, base = point; i < windows; i++) {
    const row = [Point.ZERO];
    for (let d = 1; d < 16; d++) row.push((row[d - 1] ?? Point.ZERO).add(base));
    table.push(row);
    base = (row[15] ?? Point.ZERO).add(base);
  }
  return table;
}
