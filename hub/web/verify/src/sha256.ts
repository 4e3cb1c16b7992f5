// SHA-256 (FIPS 180-4) for very many short messages: nothing is made for a block, and the hash of two hashes, which trees consist of, takes its second block
// from a table. In a month's bundle hashing is nearly all the work, and the browser's own SHA-256 is of no use there: it is asked for each message by a
// promise, and is missing where a page came without TLS.
import { block, constants, knownBlock } from './sha256-rounds';

const blockSize = 64; // bytes
const digestSize = 32;

/** The first 32 bits of the fractional parts of the square roots of the first eight primes (section 5.3.3). */
const initial = Int32Array.of(0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19);

const state = new Int32Array(8);
const tail = new Uint8Array(2 * blockSize);

/** SHA-256 of a message. */
export function digest(message: Uint8Array): Uint8Array {
  state.set(initial);
  const whole = message.length - (message.length % blockSize);
  for (let at = 0; at < whole; at += blockSize) block(state, message, at);
  // One bit, zeros, and the length in bits: in the last block if nine bytes are left in it.
  const rest = message.length - whole;
  const end = rest + 9 <= blockSize ? blockSize : 2 * blockSize;
  for (let i = 0; i < rest; i++) tail[i] = message[whole + i] ?? 0;
  tail[rest] = 0x80;
  tail.fill(0, rest + 1, end);
  const bits = message.length * 8;
  writeWord(tail, end - 8, Math.floor(bits / 2 ** 32));
  writeWord(tail, end - 4, bits | 0);
  for (let at = 0; at < end; at += blockSize) block(state, tail, at);
  return output();
}

const pair = new Uint8Array(blockSize);

/** SHA-256 of a byte and two hashes behind it: 65 bytes, of which one, the padding and the length are the whole second block. */
export function digestPair(prefix: number, left: Uint8Array, right: Uint8Array): Uint8Array {
  pair[0] = prefix;
  pair.set(left, 1);
  for (let i = 0; i < digestSize - 1; i++) pair[1 + digestSize + i] = right[i] ?? 0;
  const last = right[digestSize - 1] ?? 0;
  if (known[last] === 0) {
    secondBlock(last);
    known[last] = 1;
  }
  state.set(initial);
  block(state, pair, 0);
  knownBlock(state, seconds, last * 64);
  return output();
}

const seconds = new Int32Array(256 * 64); // by last byte of the message: the words of its second block, with the rounds' constants added
const known = new Uint8Array(256); // 1: the words are there

/** Fills in the words of the second block of a message of 65 bytes that ends with last. */
function secondBlock(last: number): void {
  const w = new Int32Array(64);
  w[0] = (last << 24) | 0x800000;
  w[15] = (1 + 2 * digestSize) * 8;
  for (let i = 16; i < 64; i++) {
    const x = w[i - 15] ?? 0;
    const y = w[i - 2] ?? 0;
    w[i] = (w[i - 16] ?? 0) + (w[i - 7] ?? 0) + (rotate(x, 7) ^ rotate(x, 18) ^ (x >>> 3)) + (rotate(y, 17) ^ rotate(y, 19) ^ (y >>> 10));
  }
  for (let i = 0; i < 64; i++) seconds[last * 64 + i] = (w[i] ?? 0) + (constants[i] ?? 0);
}

const rotate = (x: number, n: number): number => (x >>> n) | (x << (32 - n));

function writeWord(b: Uint8Array, at: number, w: number): void {
  b[at] = w >>> 24;
  b[at + 1] = w >>> 16;
  b[at + 2] = w >>> 8;
  b[at + 3] = w;
}

function output(): Uint8Array {
  const out = new Uint8Array(digestSize);
  for (let i = 0; i < 8; i++) writeWord(out, 4 * i, state[i] ?? 0);
  return out;
}
