import { describe, expect, it } from 'vitest';
import { rowReader, type MinerRow } from './row';
import { formatView, parseView, plainView, select, type View } from './view';
import { columns, now, raw } from './testdata';

const read = rowReader(columns);
const sites = [
  { id: 'site-a', name: 'North' },
  { id: 'site-b', name: 'South' },
];
const fleet: MinerRow[] = [
  raw('m1', { address: '10.0.0.10:4028', hashrate_hs: 90e12, power_w: 3_000 }),
  raw('m2', { address: '10.0.0.9:4028', hashrate_hs: 120e12, power_w: null, worker: 'farm.big', site: 1 }),
  raw('m3', { address: '10.0.0.11:4028', hashrate_hs: null, power_w: null, state: 'unknown', outcome: 'timeout', firmware: 'Avalon' }),
  raw('m4', { address: '10.0.0.12:4028', hashrate_hs: 70e12, power_w: 2_000, at_ms: now - 60_000, site: 1 }),
  raw('m5', { address: '10.0.0.13:4028', hashrate_hs: 0, power_w: 100, state: 'sleeping' }),
].map(read);

const ids = (view: Partial<View>) => select(fleet, { ...plainView, ...view }, sites, now).rows.map((r) => r.id);

describe('filters', () => {
  it.each<[string, Partial<View>, string[]]>([
    ['nothing', {}, ['m2', 'm1', 'm3', 'm4', 'm5']],
    ['a word of the worker', { q: 'BIG' }, ['m2']],
    ['words in any order, one of them the site', { q: 'south farm' }, ['m2', 'm4']],
    ['a site', { site: 'site-b' }, ['m2', 'm4']],
    ['a site that is gone', { site: 'site-z' }, []],
    ['several states', { states: ['unknown', 'sleeping'] }, ['m3', 'm5']],
    ['a firmware', { firmware: 'Avalon' }, ['m3']],
    ['only stale ones', { age: 'stale' }, ['m4']],
    ['only fresh ones', { age: 'fresh', site: 'site-b' }, ['m2']],
    ['markup, which is only text', { q: '<script>' }, []],
  ])('by %s', (_, view, want) => {
    expect(ids(view)).toEqual(want);
  });
});

describe('sorting', () => {
  it('puts unknown last in both directions, and zero where it belongs', () => {
    expect(ids({ sort: 'hashrate' })).toEqual(['m5', 'm4', 'm1', 'm2', 'm3']);
    expect(ids({ sort: 'hashrate', desc: true })).toEqual(['m2', 'm1', 'm4', 'm5', 'm3']);
  });

  it('goes from the youngest sample to the oldest', () => {
    expect(ids({ sort: 'age' }).at(-1)).toBe('m4');
    expect(ids({ sort: 'age', desc: true })[0]).toBe('m4');
  });

  it('orders equal values by address', () => {
    expect(ids({ sort: 'site' })).toEqual(['m1', 'm3', 'm5', 'm2', 'm4']);
  });
});

describe('totals', () => {
  it('count only what is fresh and known', () => {
    const { totals } = select(fleet, plainView, sites, now);
    expect(totals).toEqual({
      miners: 5, stale: 1, hashrate: 210e12, hashrateKnown: 3, power: 3_100, powerKnown: 2, bothHashrate: 90e12, bothPower: 3_100,
    });
  });

  it('count states under all other filters, so that a chip says what it would show', () => {
    const { byState, rows } = select(fleet, { ...plainView, site: 'site-a', states: ['sleeping'] }, sites, now);
    expect(rows).toHaveLength(1);
    expect([byState.hashing, byState.unknown, byState.sleeping]).toEqual([1, 1, 1]);
  });
});

describe('the address bar', () => {
  it('is empty for the plain view', () => {
    expect(formatView(plainView)).toBe('');
    expect(parseView('')).toEqual(plainView);
  });

  it('gives back every view that it was given', () => {
    const view: View = {
      q: 'a&b=<script> 10.0', site: 'site-a', states: ['degraded', 'no_pool'], firmware: 'Braiins OS', age: 'stale',
      sort: 'hashrate', desc: true, columns: ['address', 'age', 'hashrate'],
    };
    expect(parseView(formatView(view))).toEqual(view);
  });

  it('ignores what it does not understand', () => {
    expect(parseView('?state=flying&sort=-password&age=old&cols=a,b&x=1')).toEqual(plainView);
  });

  it('bounds what a link can put into the search box', () => {
    expect(parseView(`?q=${'x'.repeat(5_000)}`).q).toHaveLength(200);
  });
});
