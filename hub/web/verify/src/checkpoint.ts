// A checkpoint of the log: a signed note (C2SP signed-note and tlog-checkpoint) of exactly three lines and one signature.
import { Malformed, ascii, concat, equal } from './bytes';
import type { Signatures } from './ed25519';
import { sha256 } from './hash';

const maxCheckpoint = 512; // bytes

export interface Checkpoint {
  readonly origin: string;
  readonly size: bigint;
  readonly root: Uint8Array;
  readonly text: Uint8Array; // what is signed
  readonly keyHash: Uint8Array;
  readonly signature: Uint8Array;
}

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

/** Base64 with padding, RFC 4648 section 4. */
export function base64(b: Uint8Array): string {
  let out = '';
  for (let i = 0; i < b.length; i += 3) {
    const n = ((b[i] ?? 0) << 16) | ((b[i + 1] ?? 0) << 8) | (b[i + 2] ?? 0);
    const left = b.length - i;
    out += [18, 12, 6, 0].map((shift, digit) => (digit > left ? '=' : alphabet.charAt((n >> shift) & 63))).join('');
  }
  return out;
}

function unbase64(s: string): Uint8Array {
  const digits = s.replace(/=+$/, '');
  const out = new Uint8Array(Math.floor((digits.length * 3) / 4));
  let bits = 0;
  let at = 0;
  let have = 0;
  for (const c of digits) {
    const d = alphabet.indexOf(c);
    if (d < 0) throw new Malformed('a checkpoint with base64 that is none');
    bits = ((bits << 6) | d) & 0xffff;
    have += 6;
    if (have >= 8) {
      have -= 8;
      out[at++] = (bits >> have) & 255;
    }
  }
  return out;
}

/** Reads the one encoding: what was read is written again and must be the same bytes. */
export function parseCheckpoint(b: Uint8Array): Checkpoint {
  if (b.length > maxCheckpoint) throw new Malformed(`a checkpoint of ${b.length} bytes`);
  let note: string;
  try {
    note = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(b);
  } catch {
    throw new Malformed('a checkpoint that is not UTF-8');
  }
  const m = /^(hashinsight\.log\/[0-9a-f]{32})\n([0-9]{1,20})\n([A-Za-z0-9+/=]{44})\n\n\u2014 (\S+) ([A-Za-z0-9+/=]+)\n$/.exec(note);
  if (!m) throw new Malformed('a checkpoint of another form');
  const [, origin = '', digits = '', rootText = '', , signatureText = ''] = m;
  const size = BigInt(digits);
  const root = unbase64(rootText);
  const signed = unbase64(signatureText);
  if (root.length !== 32 || signed.length !== 4 + 64 || size >= 1n << 64n) throw new Malformed('a checkpoint with a size, root or signature that is none');
  const text = `${origin}\n${size}\n${base64(root)}\n`;
  if (!equal(b, new TextEncoder().encode(`${text}\n\u2014 ${origin} ${base64(signed)}\n`))) throw new Malformed('a checkpoint in another than its one encoding');
  return { origin, size, root, text: ascii(text), keyHash: signed.subarray(0, 4), signature: signed.subarray(4) };
}

/** What notes name a key by: the key's name and algorithm 1, Ed25519, are hashed with it. */
export const noteKeyHash = (name: string, key: Uint8Array): Uint8Array => sha256(concat(ascii(`${name}\n\x01`), key)).subarray(0, 4);

export const verifyCheckpoint = (s: Signatures, c: Checkpoint, key: Uint8Array): boolean => equal(c.keyHash, noteKeyHash(c.origin, key)) && s.verify(key, c.text, c.signature);
