import { describe, expect, test } from 'vitest';
import { concat, unhex } from './bytes';
import { Signatures } from './ed25519';

// RFC 8032 section 7.1, test 3.
const key = unhex('fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025');
const message = unhex('af82');
const signature = unhex('6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a');
const order = 2n ** 252n + 27742317777372353535851937790883648493n;

/** S + n · order, which is the same scalar written otherwise. */
function otherScalar(n: bigint): Uint8Array {
  let s = 0n;
  for (const b of signature.slice(32).reverse()) s = (s << 8n) | BigInt(b);
  s += n * order;
  const out = new Uint8Array(32);
  for (let i = 0; i < 32; i++, s >>= 8n) out[i] = Number(s & 255n);
  return concat(signature.subarray(0, 32), out);
}

describe('Ed25519', () => {
  test('a signature verifies, the first time and the hundredth', () => {
    const s = new Signatures();
    for (let i = 0; i < 20; i++) {
      expect(s.verify(key, message, signature)).toBe(true);
      expect(s.verify(key, unhex('af83'), signature)).toBe(false);
    }
  });
  test('a scalar has one form', () => {
    expect(new Signatures().verify(key, message, otherScalar(0n))).toBe(true);
    expect(new Signatures().verify(key, message, otherScalar(1n))).toBe(false);
    expect(new Signatures().verify(key, message, otherScalar(8n))).toBe(false);
  });
  test('what is no key or no signature verifies nothing', () => {
    const s = new Signatures();
    expect(s.verify(unhex(`02${'00'.repeat(31)}`), message, signature)).toBe(false); // no point of the curve
    expect(s.verify(key.subarray(1), message, signature)).toBe(false);
    expect(s.verify(key, message, signature.subarray(1))).toBe(false);
  });
  test('a point of small order is not taken for zero: the equation holds without the cofactor', () => {
    // R is of order 8 and S zero: with a key of order 8 an equation with the cofactor holds for every message, the one of Go for one in eight.
    const small = unhex('c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a');
    const zero = concat(small, new Uint8Array(32));
    const held = Array.from({ length: 64 }, (_, i) => new Signatures().verify(small, Uint8Array.of(i), zero)).filter(Boolean).length;
    expect(held).toBeLessThan(32);
  });
});
