import { describe, expect, it } from 'vitest';
import { gaps, summarise } from '../chart/grid';
import { answeredPercent, append, parseRange, readSeries, stepFor } from './series';

const series = (times: number[], polls: number[], answered: number[], hashrate: (number | null)[]) =>
  readSeries({ from: '', to: '', step_s: 60, times, fields: { polls, answered, hashrate_hs: hashrate } });

describe('a history', () => {
  it('fills steps that the hub left out with nothing', () => {
    const h = series([0, 60, 240], [6, 6, 6], [6, 6, 6], [1, 2, 3]);
    expect(h.times).toEqual([0, 60, 120, 180, 240]);
    expect(h.values.hashrate_hs).toEqual([1, 2, null, null, 3]);
    expect(h.values.power_w).toEqual([null, null, null, null, null]);
  });

  it('replaces its unfinished end with a newer tail, and lets the oldest go', () => {
    const old = series([0, 60, 120], [6, 6, 2], [6, 6, 2], [1, 2, 3]);
    const joined = append(old, series([120, 180], [6, 1], [6, 1], [30, 4]), 60);
    expect(joined.times).toEqual([60, 120, 180]);
    expect(joined.values.hashrate_hs).toEqual([2, 30, 4]);
    expect(joined.values.polls).toEqual([6, 6, 1]);
  });

  it('does not bridge what was never asked for', () => {
    const joined = append(series([0], [6], [6], [1]), series([180], [6], [6], [2]), 0);
    expect(joined.times).toEqual([0, 60, 120, 180]);
    expect(joined.values.hashrate_hs).toEqual([1, null, null, 2]);
  });

  it('tells not polled from not answered', () => {
    const h = series([0, 60, 120, 180, 240], [6, 0, 0, 6, 6], [6, 0, 0, 0, 1], [1, null, null, null, 2]);
    expect(gaps(h)).toEqual([
      { from: 60, to: 180, kind: 'not-polled' },
      { from: 180, to: 240, kind: 'not-answered' },
    ]);
    expect(answeredPercent(h)).toEqual([100, null, null, 0, (1 / 6) * 100]);
  });

  it('is summed up without its gaps', () => {
    expect(summarise([null, 0, 4, null, 2, null])).toEqual({ min: 0, max: 4, mean: 2, last: 2 });
    expect(summarise([null])).toBeNull();
  });
});

describe('a step', () => {
  it.each([
    ['1h', 10, 30], ['1h', 60, 120], ['6h', 10, 60], ['24h', 10, 300], ['3d', 10, 600], ['1h', 4_000, 10_800],
  ] as const)('for %s polled every %d s', (range, interval, want) => {
    expect(stepFor(range, interval)).toBe(want);
  });
  it('is asked for a range the page knows', () => {
    expect([parseRange('24h'), parseRange('9y'), parseRange(null)]).toEqual(['24h', '6h', '6h']);
  });
});
