// Bytes as the tables of the formats write them: big-endian integers, hex, comparison; and reading, from memory or from a file that is larger than memory.

/** Why bytes are not what they claim to be. Its text is for whoever looks for the place, in English; what the page says of it is in the texts. */
export class Malformed extends Error {}

export const hex = (b: Uint8Array): string => Array.from(b, (x) => x.toString(16).padStart(2, '0')).join('');

/** Reads hex digits, two for each byte, with or without 0x before them. */
export function unhex(s: string): Uint8Array {
  const digits = s.startsWith('0x') ? s.slice(2) : s;
  if (digits.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(digits)) throw new Malformed(`not hex: ${s.slice(0, 80)}`);
  const out = new Uint8Array(digits.length / 2);
  for (let i = 0; i < out.length; i++) out[i] = Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16);
  return out;
}

/** Orders byte strings as unsigned bytes from the left, a shorter one before those that begin with it. */
export function compare(a: Uint8Array, b: Uint8Array): number {
  const n = Math.min(a.length, b.length);
  for (let i = 0; i < n; i++) {
    const d = (a[i] ?? 0) - (b[i] ?? 0);
    if (d !== 0) return d;
  }
  return a.length - b.length;
}

export const equal = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && compare(a, b) === 0;

/** Whether b has these bytes at at. Asked of every leaf, so nothing is made for it. */
export function has(b: Uint8Array, at: number, bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i++) if (b[at + i] !== bytes[i]) return false;
  return true;
}

export const isZero = (b: Uint8Array): boolean => b.every((x) => x === 0);

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

/** The bytes of a text of ASCII characters. */
export const ascii = (s: string): Uint8Array => Uint8Array.from(s, (c) => c.charCodeAt(0));

export const u16 = (n: number): Uint8Array => Uint8Array.of(n >>> 8, n);
export const u32 = (n: number): Uint8Array => Uint8Array.of(n >>> 24, n >>> 16, n >>> 8, n);
export function u64(n: bigint): Uint8Array {
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, n);
  return out;
}

/** 16 bytes as they are written everywhere: 8-4-4-4-12 lower-case digits. */
export function uuid(b: Uint8Array): string {
  const h = hex(b);
  return [h.slice(0, 8), h.slice(8, 12), h.slice(12, 16), h.slice(16, 20), h.slice(20)].join('-');
}

/** The same backwards; anything else is refused. */
export function parseUuid(s: string): Uint8Array {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(s)) throw new Malformed(`not a UUID: ${s.slice(0, 80)}`);
  return unhex(s.replaceAll('-', ''));
}

/** Reads one record of known length, field by field. */
export class Fields {
  private at = 0;
  private readonly view: DataView;

  constructor(private readonly b: Uint8Array) {
    this.view = new DataView(b.buffer, b.byteOffset, b.byteLength);
  }

  bytes(n: number): Uint8Array {
    if (this.at + n > this.b.length) throw new Malformed('a record ends early');
    this.at += n;
    return this.b.subarray(this.at - n, this.at);
  }

  u8(): number {
    return this.bytes(1)[0] ?? 0;
  }
  u16(): number {
    this.bytes(2);
    return this.view.getUint16(this.at - 2);
  }
  u32(): number {
    this.bytes(4);
    return this.view.getUint32(this.at - 4);
  }
  u64(): bigint {
    this.bytes(8);
    return this.view.getBigUint64(this.at - 8);
  }
  i64(): bigint {
    this.bytes(8);
    return this.view.getBigInt64(this.at - 8);
  }

  tag(text: string): void {
    if (!equal(this.bytes(text.length), ascii(text))) throw new Malformed(`the tag ${JSON.stringify(text)} is missing`);
  }

  end(): void {
    if (this.at !== this.b.length) throw new Malformed(`${this.b.length - this.at} bytes follow`);
  }
}

const chunk = 4 << 20; // bytes read from a file at once

/** Reads a file from its beginning to its end without ever holding more than a piece of it. */
export class Stream {
  private piece: Uint8Array = new Uint8Array();
  private at = 0;
  private read = 0; // bytes of the file that are in piece or behind it

  constructor(
    private readonly file: Blob,
    private readonly progress: (part: number) => void = () => undefined,
  ) {}

  /** How many bytes have been taken. */
  get offset(): number {
    return this.read - (this.piece.length - this.at);
  }

  /** Whether the next n bytes can be taken at once. */
  has(n: number): boolean {
    return this.at + n <= this.piece.length;
  }

  /** Reads on until the next n bytes can be taken. */
  async need(n: number): Promise<void> {
    while (!this.has(n)) {
      if (this.read >= this.file.size) throw new Malformed(`the file ends early, at byte ${this.file.size}`);
      const missing = this.at + n - this.piece.length;
      if (missing > this.file.size - this.read) throw new Malformed(`the file ends early, at byte ${this.file.size}`);
      const to = Math.min(this.file.size, this.read + Math.max(chunk, missing));
      const next = new Uint8Array(await this.file.slice(this.read, to).arrayBuffer());
      if (next.length !== to - this.read) throw new Malformed('the file changed while it was read');
      this.piece = concat(this.piece.subarray(this.at), next);
      this.at = 0;
      this.read = to;
      this.progress(this.read / this.file.size);
    }
  }

  /** The next n bytes, which need or has said to be there. They stay valid. */
  next(n: number): Uint8Array {
    if (!this.has(n)) throw new Malformed('bytes were taken that were not read');
    this.at += n;
    return this.piece.subarray(this.at - n, this.at);
  }

  /** The number in the next four bytes, of which the same holds. */
  nextU32(): number {
    if (!this.has(4)) throw new Malformed('bytes were taken that were not read');
    const { piece, at } = this;
    this.at += 4;
    return (((piece[at] ?? 0) << 24) | ((piece[at + 1] ?? 0) << 16) | ((piece[at + 2] ?? 0) << 8) | (piece[at + 3] ?? 0)) >>> 0;
  }

  /** The same without taking them. */
  peek(n: number): Uint8Array {
    if (!this.has(n)) throw new Malformed('bytes were looked at that were not read');
    return this.piece.subarray(this.at, this.at + n);
  }

  async take(n: number): Promise<Uint8Array> {
    if (!this.has(n)) await this.need(n);
    return this.next(n);
  }
  async u8(): Promise<number> {
    return (await this.take(1))[0] ?? 0;
  }
  async u16(): Promise<number> {
    return new Fields(await this.take(2)).u16();
  }
  async u32(): Promise<number> {
    return new Fields(await this.take(4)).u32();
  }
  async u64(): Promise<bigint> {
    return new Fields(await this.take(8)).u64();
  }

  /** Refuses whatever follows. */
  end(): void {
    if (this.offset !== this.file.size) throw new Malformed(`${this.file.size - this.offset} bytes follow the end`);
  }
}
