import { expect, it } from 'vitest';
import { gaps } from '../chart/grid';
import { countedMiners, readSite, scaleOf } from './site-series';

const answer = (to: string) => ({
  from: '1970-01-01T00:00:00.000Z', to, step_s: 300, times: [0, 300, 600, 900],
  fields: {
    hashrate_hs: [1, null, 3, 1], power_w: [null, null, 3, 1], miners: [2, 0, 2, 1], miners_answered: [2, 0, 0, 1], polls: [60, 0, 60, 10],
    answered: [60, 0, 0, 10],
  },
});

it('a site’s newest steps are left out until the hub has surely written them whole', () => {
  expect(readSite(answer('1970-01-01T00:20:00.000Z')).times).toEqual([0, 300, 600]);
  expect(readSite(answer('1970-01-01T00:25:00.000Z')).times).toEqual([0, 300, 600, 900]);
  expect(readSite(answer('1970-01-01T00:05:00.000Z')).times).toEqual([]);
});

it('a site’s steps without a poll are gaps, not zeros', () => {
  const h = readSite(answer('1970-01-01T00:25:00.000Z'));
  expect(countedMiners(h, 'miners')).toEqual([2, null, 2, 1]);
  expect(countedMiners(h, 'miners_answered')).toEqual([2, null, 0, 1]);
  expect(gaps(h).map((g) => g.kind)).toEqual(['not-polled', 'not-answered']);
});

it.each([
  [[5, null], 1, 0], [[null], 1, 0], [[999, 1_000], 1_000, 1], [[2e6, 5], 1e6, 2],
] as const)('the scale of %j is %d', (values, by, index) => {
  expect(scaleOf(values, [1, 1e3, 1e6])).toEqual({ by, index });
});
