// Files written by hand from the byte tables are proven, and no changed bit of any of them is.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import * as w from '../testdata/world';
import { ChainError, type Chain, type ChainEvent, type NoEvent } from './chain';
import { check, type Trust } from './check';
import { parseLeaf, parseSignedHour } from './evidence';
import { parseEntry } from './entry';
import { parseCheckpoint } from './checkpoint';
import { hex } from './bytes';

const event: ChainEvent = {
  seq: 7n, hour: 498_900n, prevRoot: new Uint8Array(32), root: w.logRoot, size: 8n, blockTime: 1_796_343_000n, block: 0x1000n, tx: w.h(w.anchor.tx), finalized: true,
};
const chain = (over: Partial<ChainEvent> = {}): Chain => ({
  event: (a) => (a.chainId === 31_337n ? Promise.resolve({ ...event, ...over }) : Promise.reject(new ChainError('wrong-chain'))),
});
const broken = (why: NoEvent): Chain => ({ event: () => Promise.reject(new ChainError(why)) });
const trust: Trust = { contract: w.h(w.contract), chain: chain() };
const files = { hour: w.hourFile, statement: w.statementFile, bundle: w.bundleFile, entry: w.entryFile } as const;
const kinds = Object.keys(files) as (keyof typeof files)[];
const run = (b: Uint8Array, t: Trust = trust) => check(new Blob([new Uint8Array(b)]), t);

describe('records, by their byte tables', () => {
  test('a leaf', () => {
    const l = parseLeaf(w.leaf);
    expect(w.leaf.length).toBe(480);
    expect([hex(l.site), hex(l.miner), l.hour, l.firstSeq, l.lastSeq]).toEqual([hex(w.h(w.site)), hex(w.h(w.miner)), 498_193, 5n, 0x169n]);
    expect(l.slots[0]).toEqual({ polls: 30, answered: 29, source: 'counter', flags: ['reachable', 'hashing'], hashes: 30_000_000n, shareDiff: 4000n, energy: 1_037_008n });
    expect(l.slots[1]).toEqual({ polls: 30, answered: 0, source: 'rate', flags: ['sleeping', 'bridged'], hashes: 1n, shareDiff: 0n, energy: (1n << 63n) - 1n });
    expect(l.slots[11]).toEqual({ polls: 0, answered: 0, source: 'none', flags: [], hashes: 0n, shareDiff: 0n, energy: 0n });
  });
  test('no leaf that no site makes', () => {
    for (const [at, value, why] of [
      [0, 0x69, 'the tag'], [66, 0xff, 'more polls answered than made'], [68, 3, 'a source that is not known'], [69, 1, 'the reserved byte'], [70, 1, 'a flag that is not known'],
      [68, 0, 'hashes without a source'], [72, 0x80, 'a sum beyond 2^63 - 1'], [455, 0, 'no first batch'], [463, 4, 'a range that ends before it begins'],
    ] as const) {
      const b = w.leaf.slice();
      b[at] = value;
      if (at === 463) b[462] = 0;
      expect(() => parseLeaf(b), why).toThrow();
    }
    expect(() => parseLeaf(w.h(w.leaf, '00'))).toThrow();
    expect(() => parseLeaf(w.leaf.subarray(0, 479))).toThrow();
  });
  test('a signed hour, and the entries of the log', () => {
    expect([w.header.length, w.hourPayload.length, w.hourEntry.length, w.siteKeyEntry.length]).toEqual([204, 100, 388, 101]);
    const s = parseSignedHour(w.hourEntry.subarray(20));
    expect([s.hour.hour, s.hour.leaves, s.header.beacon?.chainId, s.header.beacon?.block]).toEqual([498_193, 3, 31_337n, 16n]);
    expect(parseEntry(w.siteKeyEntry)).toMatchObject({ atMS: 0x1a195c7bb60n, body: { kind: 'siteKey', event: 'added', replaces: undefined } });
    expect(() => parseEntry(w.h(w.siteKeyEntry, '00'))).toThrow();
    expect(() => parseEntry(w.h(w.siteKeyEntry.subarray(0, 11), '09', w.siteKeyEntry.subarray(12)))).toThrow();
  });
  test('a checkpoint has one encoding', () => {
    const c = parseCheckpoint(w.checkpoint);
    expect([c.size, hex(c.root)]).toEqual([8n, hex(w.logRoot)]);
    const note = Buffer.from(w.checkpoint).toString('utf8');
    for (const other of [
      note.replace('\n8\n', '\n08\n'), note.replace('\n8\n', '\n+8\n'), note.replace(/\n/g, '\r\n'), `${note}\n`, note.replace('\n\n', '\n\n\n'), note.slice(0, -1),
      note.replace('\u2014', '-'), note.replace('hashinsight.log/00', 'hashinsight.log/0A'), note.replace(/=\n\n/, '\n\n'),
      // The last digit of base64 has bits that say nothing: one text stands for one root.
      note.replace(/(.)=\n\n/, (_, d: string) => `${String.fromCharCode(d.charCodeAt(0) + 1)}=\n\n`),
    ]) {
      expect(() => parseCheckpoint(new TextEncoder().encode(other)), JSON.stringify(other)).toThrow();
    }
  });
});

describe('verdicts', () => {
  test.each(kinds)('a file of kind %s that holds is proven, every step of it', async (kind) => {
    const r = await run(files[kind]());
    expect(r.steps.filter((s) => s.state !== 'ok' && s.id !== 'sla')).toEqual([]);
    expect([r.verdict, r.facts.kind]).toEqual([0, kind]);
  });
  test('the file that the browser tests drop is the one of here', () => {
    expect(hex(readFileSync(new URL('../testdata/hour.hsproof', import.meta.url)))).toBe(hex(w.hourFile()));
  });
  test('what is missing is not proven, and not called false', async () => {
    const f = w.hourFile();
    expect((await run(f, {})).verdict).toBe(3);
    expect((await run(f, { chain: chain() })).verdict).toBe(3);
    expect((await run(f, { contract: w.h(w.contract) })).verdict).toBe(3);
    expect((await run(f, { ...trust, chain: broken('unreachable') })).verdict).toBe(3);
    expect((await run(f, { ...trust, chain: broken('disagree') })).verdict).toBe(3);
    expect((await run(f, { ...trust, chain: broken('not-final') })).verdict).toBe(2);
    expect((await run(f, { ...trust, chain: chain({ finalized: false }) })).verdict).toBe(2);
    expect((await run(w.hourFile('00'))).verdict).toBe(2);
    expect((await run(w.hourFile('02'))).verdict).toBe(2);
  });
  test('what the chain contradicts is false', async () => {
    const f = w.hourFile();
    const others: Partial<ChainEvent>[] = [{ root: new Uint8Array(32) }, { size: 9n }, { seq: 8n }, { block: 1n }, { tx: new Uint8Array(32) }, { blockTime: 1_793_498_399n }];
    for (const over of others) expect((await run(f, { ...trust, chain: chain(over) })).verdict, JSON.stringify(Object.keys(over))).toBe(1);
    for (const why of ['no-event', 'wrong-chain', 'wrong-code'] as const) expect((await run(f, { ...trust, chain: broken(why) })).verdict, why).toBe(1);
    expect((await run(f, { ...trust, contract: new Uint8Array(20) })).verdict).toBe(1);
    expect((await run(f, { ...trust, logKey: w.keys.hub })).verdict).toBe(1);
    expect((await run(w.statementFile(), { ...trust, hubKey: w.keys.log })).verdict).toBe(1);
  });
  test('what follows the end, or is not there, makes a file false', async () => {
    for (const kind of kinds) {
      const f = files[kind]();
      expect((await run(w.h(f, '00'))).verdict).toBe(1);
      for (const n of [0, 1, 13, 14, 200, f.length - 1]) expect((await run(f.subarray(0, n))).verdict, `${kind}, ${n} bytes`).toBe(1);
    }
  });
});

// A thousand bits all over each file, and all of those that are nearest to its ends.
test.each(kinds)('no file of kind %s with one changed bit is proven', { timeout: 120_000 }, async (kind) => {
  const f = files[kind]();
  const bits = f.length * 8;
  const tried = new Set<number>();
  for (let i = 0; i < 1000; i++) tried.add(Math.floor((i * bits) / 1000) + ((i * 7) % Math.floor(bits / 1000)));
  for (let i = 0; i < 128; i++) tried.add(i).add(bits - 1 - i);
  expect(tried.size).toBeGreaterThanOrEqual(1000);
  const believed: number[] = [];
  for (const bit of tried) {
    const b = f.slice();
    b[bit >> 3] = (b[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    if ((await run(b)).verdict !== 1) believed.push(bit);
  }
  expect(believed).toEqual([]);
});
