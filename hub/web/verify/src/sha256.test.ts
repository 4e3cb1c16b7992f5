// SHA-256 is what node says it is, of every length around a block's and of hashes of hashes; and the written rounds are those that the script writes.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { source } from '../../scripts/sha256-rounds.mjs';
import { ascii, concat, hex } from './bytes';
import { digest, digestPair } from './sha256';

const wanted = (b: Uint8Array) => createHash('sha256').update(b).digest('hex');

/** Bytes that look like any others and are the same each time. */
function bytes(n: number, seed: number): Uint8Array {
  let x = seed * 2654435761 + 1;
  return Uint8Array.from({ length: n }, () => (x = (Math.imul(x, 1664525) + 1013904223) >>> 0) >>> 24);
}

describe('SHA-256', () => {
  test('the examples of FIPS 180', () => {
    expect(hex(digest(ascii('abc')))).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
    expect(hex(digest(ascii('abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq')))).toBe('248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1');
    expect(hex(digest(new Uint8Array(1_000_000).fill(0x61)))).toBe('cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0');
  });
  test('every length up to five blocks, one after the other in the same buffers', () => {
    for (let n = 320; n >= 0; n--) expect(hex(digest(bytes(n, n))), `${n} bytes`).toBe(wanted(bytes(n, n)));
  });
  test('two hashes behind each byte, with each last byte', () => {
    for (let i = 0; i < 1024; i++) {
      const left = bytes(32, i);
      const right = bytes(32, i + 5000);
      right[31] = i;
      expect(hex(digestPair(i >> 8, left, right))).toBe(wanted(concat(Uint8Array.of(i >> 8), left, right)));
    }
  });
  test('a digest stays what it was when others are made', () => {
    const first = digest(ascii('abc'));
    digest(ascii('abd'));
    digestPair(1, first, first);
    expect(hex(first)).toBe(wanted(ascii('abc')));
  });
  test('the rounds are those that the script writes', () => {
    expect(readFileSync(new URL('sha256-rounds.ts', import.meta.url), 'utf8')).toBe(source);
  });
});
