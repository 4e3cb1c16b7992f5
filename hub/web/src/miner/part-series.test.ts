import { describe, expect, it } from 'vitest';
import { anyKnown, boardParts, perMinute, poolParts, shareOf } from './part-series';

const steps = { from: '', to: '', step_s: 300, times: [0, 300, 600] };
const grid = { stepS: 300, times: [0, 300, 600, 900, 1_200] };

describe('the boards of a miner', () => {
  it('are lines by their index, with nulls for fields that are not there', () => {
    const [a, b] = boardParts(
      { ...steps, boards: [{ index: 0, fields: { hashrate_hs: [1, null, 3] } }, { index: 3, fields: {} }] },
      (i) => `board ${i}`,
    );
    expect([a?.name, b?.name]).toEqual(['board 0', 'board 3']);
    expect(a?.values('hashrate_hs')).toEqual([1, null, 3]);
    expect(b?.values('hashrate_hs')).toEqual([null, null, null]);
  });
});

describe('the pools of a miner', () => {
  it('are named by worker only where an address has several', () => {
    const pool = (url: string, worker: string) => ({ url, worker, fields: {} });
    const names = (...pools: ReturnType<typeof pool>[]) => poolParts({ ...steps, pools }).map((p) => p.name);
    expect(names(pool('stratum+tcp://a:1', 'w1'), pool('b:2', 'w1'))).toEqual(['a:1', 'b:2']);
    expect(names(pool('a:1', 'w1'), pool('a:1', 'w2'))).toEqual(['a:1 (w1)', 'a:1 (w2)']);
  });
});

describe('a counter per minute', () => {
  it.each([
    ['grows', [100, 110, 110, 140, 150], 1_500, [null, 2, 0, 6, 2]],
    ['begins anew after a restart', [100, 110, 5, 15, 25], 1_500, [null, 2, 1, 2, 2]],
    ['is unknown on both sides of a gap', [100, null, 110, 120, 130], 1_500, [null, null, null, 2, 2]],
    ['is unknown in a step that is not over', [100, 110, 120, 130, 131], 1_499, [null, 2, 2, 2, null]],
  ] as const)('%s', (_, counter, toS, want) => {
    expect(perMinute(counter, grid, toS)).toEqual(want);
  });
});

describe('a share of polls', () => {
  it('is unknown where nobody asked', () => {
    expect(shareOf([4, 0, 0, 1], [4, 4, 0, 2])).toEqual([100, 0, null, 50]);
  });
});

it('knows a chart that says nothing', () => {
  expect([anyKnown([]), anyKnown([[null], [null, 0]]), anyKnown([[null]])]).toEqual([false, true, false]);
});
