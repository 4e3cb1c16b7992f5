// Writes verify/src/sha256-rounds.ts: the rounds of SHA-256 one behind the other, with every word in a variable of its own. Written as a loop over an array
// of words, the same arithmetic takes half as long again, and a month's bundle is nine million blocks.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The first 32 bits of the fractional parts of the cube roots of the first 64 primes (FIPS 180-4 section 4.2.2), exactly. */
function constants() {
  const out = [];
  for (let p = 2n; out.length < 64; p++) {
    let prime = true;
    for (let d = 2n; d * d <= p; d++) prime &&= p % d !== 0n;
    if (!prime) continue;
    // The largest x with x³ ≤ p · 2^96 is the cube root of p in units of 2^-32.
    let x = 0n;
    for (let bit = 1n << 40n; bit > 0n; bit >>= 1n) if ((x + bit) ** 3n <= p << 96n) x += bit;
    out.push(Number(BigInt.asIntN(32, x)));
  }
  return out;
}

const k = constants();
const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
const rot = (x, n) => `((${x} >>> ${n}) | (${x} << ${32 - n}))`;

/** One round, section 6.2.2: instead of moving the eight variables on, the next round names them otherwise. */
function round(i, word) {
  const [a, b, c, d, e, f, g, h] = names.map((_, j) => names[(j - (i % 8) + 8) % 8]);
  return [
    `  ${h} = (((${h} + (${rot(e, 6)} ^ ${rot(e, 11)} ^ ${rot(e, 25)})) | 0) + ((${g} ^ (${e} & (${f} ^ ${g}))) + (${word} | 0))) | 0;`,
    `  ${d} = (${d} + ${h}) | 0;`,
    `  ${h} = (((${h} + (${rot(a, 2)} ^ ${rot(a, 13)} ^ ${rot(a, 22)})) | 0) + ((${a} & ${b}) | (${c} & (${a} | ${b})))) | 0;`,
  ];
}

/** The word of round i from those of earlier rounds, 16 variables being enough. */
function schedule(i) {
  const w = (n) => `w${n % 16}`;
  const x = w(i - 15);
  const y = w(i - 2);
  return `  ${w(i)} = (((${w(i)} + ${w(i - 7)}) | 0) + ((${rot(x, 7)} ^ ${rot(x, 18)} ^ (${x} >>> 3)) + (${rot(y, 17)} ^ ${rot(y, 19)} ^ (${y} >>> 10)))) | 0;`;
}

const begin = names.map((n, i) => `  let ${n} = s[${i}]! | 0;`);
const end = names.map((n, i) => `  s[${i}] = (s[${i}]! + ${n}) | 0;`);
const block = Array.from({ length: 64 }, (_, i) => [...(i < 16 ? [] : [schedule(i)]), ...round(i, `w${i % 16} + ${k[i]}`)]).flat();
const words = Array.from({ length: 16 }, (_, i) => `  let w${i} = (m[at${i === 0 ? '' : ` + ${4 * i}`}]! << 24) | (m[at + ${4 * i + 1}]! << 16) | (m[at + ${4 * i + 2}]! << 8) | m[at + ${4 * i + 3}]!;`);
const known = Array.from({ length: 64 }, (_, i) => round(i, `t[at${i === 0 ? '' : ` + ${i}`}]!`)).flat();

export const source = [
  '// Written by scripts/sha256-rounds.mjs; do not edit.',
  '/* eslint-disable */',
  '',
  '/** The constants of the rounds. */',
  `export const constants = Int32Array.of(${k.join(', ')});`,
  '',
  '/** Takes the 64 bytes of m at at into the state s. */',
  'export function block(s: Int32Array, m: Uint8Array, at: number): void {',
  ...begin,
  ...words,
  ...block,
  ...end,
  '}',
  '',
  '/** The same of a block whose 64 words, each with its constant added, are in t at at. */',
  'export function knownBlock(s: Int32Array, t: Int32Array, at: number): void {',
  ...begin,
  ...known,
  ...end,
  '}',
  '',
].join('\n');

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(new URL('../verify/src/sha256-rounds.ts', import.meta.url), source);
