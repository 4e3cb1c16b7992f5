import { keccak_256 } from '@noble/hashes/sha3.js';
import { describe, expect, test } from 'vitest';
import { ascii, hex, unhex } from './bytes';
import { anchorLogCode, chainOf, headAnchoredTopic, type Ask, type ChainError } from './chain';
import { readContract, readEndpoints } from './form';
import { readFileSync } from 'node:fs';
import { sha256 } from './hash';

const contract = unhex('00112233445566778899aabbccddeeff00112233');
const anchor = { chainId: 31_337n, contract, seq: 7n, block: 0x1000n, tx: unhex('ee'.repeat(32)) };
const runtime = readFileSync(new URL('../../../contracts/out/AnchorLog.runtime.bin', import.meta.url), 'utf8').trim().replace(/^0x/, '');
const word = (n: number) => n.toString(16).padStart(64, '0');
const hash = `0x${'77'.repeat(32)}`;
const block = { number: '0x1000', hash, timestamp: '0x6b12f2d8' };
const log = {
  address: '0x00112233445566778899aabbccddeeff00112233', topics: [headAnchoredTopic, `0x${word(7)}`], data: `0x${word(498_900)}${word(0)}${'ab'.repeat(32)}${word(8)}`,
  blockNumber: '0x1000', blockHash: hash, transactionHash: `0x${'ee'.repeat(32)}`, removed: false,
};
type Answers = Record<string, unknown>;
const right: Answers = {
  eth_chainId: '0x7a69', eth_getCode: `0x${runtime}`, eth_getLogs: [log], latest: { ...block, number: '0x1020' }, finalized: { ...block, number: '0x1000' }, '0x1000': block,
};
const asks = (...by: readonly Answers[]): Ask => (url, method, params) => {
  const answers = { ...right, ...by[Number(url)] };
  return Promise.resolve(method === 'eth_getBlockByNumber' ? answers[String(params[0])] : answers[method]);
};
const why = (...by: readonly Answers[]) =>
  chainOf(by.map((_, i) => String(i)), asks(...by)).event(anchor).then((e) => (e.finalized ? 'final' : 'early'), (e: unknown) => (e as ChainError).why);

describe('asking a chain', () => {
  test('the constants are those of the contract', () => {
    expect(headAnchoredTopic).toBe(`0x${hex(keccak_256(ascii('HeadAnchored(uint64,uint64,bytes32,bytes32,uint64)')))}`);
    expect(anchorLogCode).toBe(hex(sha256(unhex(runtime))));
  });
  test('an event is read from the words of the ABI', async () => {
    const e = await chainOf(['0'], asks({})).event(anchor);
    expect(e).toMatchObject({ seq: 7n, hour: 498_900n, size: 8n, block: 0x1000n, blockTime: 0x6b12f2d8n, finalized: true });
    expect([hex(e.root), hex(e.tx)]).toEqual(['ab'.repeat(32), 'ee'.repeat(32)]);
  });
  test('what an endpoint says decides what follows', async () => {
    expect(await why({ finalized: { ...block, number: '0xfff' } })).toBe('early');
    expect(await why({ finalized: null })).toBe('early');
    expect(await why({ eth_chainId: '0x1' })).toBe('wrong-chain');
    expect(await why({ eth_getCode: '0x' })).toBe('wrong-code');
    expect(await why({ eth_getCode: `0x${runtime}00` })).toBe('wrong-code');
    expect(await why({ eth_getLogs: [] })).toBe('no-event');
    expect(await why({ eth_getLogs: [{ ...log, removed: true }] })).toBe('no-event');
    expect(await why({ eth_getLogs: [{ ...log, address: `0x${'11'.repeat(20)}` }] })).toBe('no-event');
    expect(await why({ eth_getLogs: [{ ...log, topics: [headAnchoredTopic, `0x${word(8)}`] }] })).toBe('no-event');
    expect(await why({ eth_getLogs: [{ ...log, blockHash: `0x${'78'.repeat(32)}` }] })).toBe('disagree');
  });
  test('an answer that is none shows nothing', async () => {
    const bad: Answers[] = [
      { eth_chainId: 31_337 }, { eth_chainId: null }, { latest: null }, { latest: { ...block, number: '0xfff' } }, { '0x1000': null }, { eth_getLogs: null },
      { eth_getLogs: [{ ...log, data: `${log.data}00` }] }, { eth_getLogs: [{ ...log, topics: [hash, hash] }] }, { eth_getLogs: [{ ...log, data: log.data.replace('0x0', '0xf') }] },
      { eth_getLogs: [log, log] }, { eth_getCode: '0xzz' },
    ];
    for (const b of bad) expect(await why(b), JSON.stringify(b).slice(0, 80)).toBe('unreachable');
  });
  test('several endpoints must say the same', async () => {
    expect(await why({}, {})).toBe('final');
    expect(await why({}, { finalized: { ...block, number: '0xfff' } })).toBe('early');
    expect(await why({}, { eth_getLogs: [] })).toBe('disagree');
    expect(await why({ eth_getLogs: [] }, {})).toBe('disagree');
    expect(await why({ eth_getLogs: [] }, { eth_getLogs: [] })).toBe('no-event');
    expect(await why({}, { eth_chainId: null })).toBe('unreachable');
    expect(await why({}, { '0x1000': { ...block, timestamp: '0x6b12f2d9' } })).toBe('disagree');
  });
});

test('fields are read strictly', () => {
  expect(readContract(' ')).toBeUndefined();
  expect(readContract('0x00112233445566778899aAbBcCdDeEfF00112233')).toEqual(contract);
  for (const s of ['0x', '00112233445566778899aabbccddeeff00112233', '0x00112233445566778899aabbccddeeff0011223g', `0x${'0'.repeat(41)}`]) expect(readContract(s)).toBe('bad');
  expect(readEndpoints('https://a.example/x \n\nhttp://127.0.0.1:8545\nhttp://localhost:1 https://a.example/x https://A.example:443/y https://a.example.')).toEqual({
    urls: ['https://a.example/x', 'http://127.0.0.1:8545', 'http://localhost:1'],
  });
  for (const s of ['http://a.example', 'ftp://a.example', 'a.example', 'http://127.0.0.1.example', 'https://user:secret@a.example', 'javascript:alert(1)']) expect(readEndpoints(s)).toEqual({ bad: s });
  expect(readEndpoints([1, 2, 3, 4, 5, 6].map((n) => `https://${n}.example`).join(' '))).toBe('too many');
});
