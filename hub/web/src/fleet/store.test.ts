import { describe, expect, it } from 'vitest';
import { addressKey, isStale, rowReader } from './row';
import { FleetStore } from './store';
import { columns, now, patch, raw, snapshot } from './testdata';

describe('a fleet store', () => {
  it('takes nothing before its first snapshot', () => {
    const store = new FleetStore();
    expect(store.apply(patch(1, [raw('m1')]))).toBe(false);
    expect(store.size).toBe(0);
  });

  it('replaces patched rows and leaves the others the same object', () => {
    const store = new FleetStore();
    store.load(snapshot([raw('m1'), raw('m2')]));
    const [m1, m2] = [store.get('m1'), store.get('m2')];
    expect(store.apply(patch(101, [raw('m2', { hashrate_hs: 50e12 })]))).toBe(true);
    expect(store.get('m1')).toBe(m1);
    expect(store.get('m2')).not.toBe(m2);
    expect(store.get('m2')?.hashrate).toBe(50e12);
    expect(store.version).toBe(101);
  });

  it('does not go back to what a newer snapshot has overtaken', () => {
    const store = new FleetStore();
    store.load(snapshot([raw('m1', { hashrate_hs: 2e12 })], 200));
    expect(store.apply(patch(150, [raw('m1', { hashrate_hs: 1e12 })]))).toBe(true);
    expect(store.get('m1')?.hashrate).toBe(2e12);
    expect(store.version).toBe(200);
  });

  it('adds miners that appear, and asks for a snapshot when their site is new', () => {
    const store = new FleetStore();
    store.load(snapshot([raw('m1')]));
    const members = store.membership();
    expect(store.apply(patch(101, [raw('m9', { firmware: 'Braiins OS' })]))).toBe(true);
    expect(store.membership()).toBeGreaterThan(members);
    expect(store.firmwares).toEqual(['Braiins OS', 'stock']);
    store.apply(patch(101, [raw('m1', { maker: 'Bitmain' }), raw('m9', { maker: 'MicroBT' })]));
    expect(store.firmwares).toEqual(['Bitmain stock', 'MicroBT stock']);
    expect(store.apply(patch(102, [raw('m10', { site: 7 })]))).toBe(false);
    expect(store.get('m10')).toBeUndefined();
    expect(store.version).toBe(101);
  });

  it('starts over with a snapshot of a lower version, as after a restart of the hub', () => {
    const store = new FleetStore();
    store.load(snapshot([raw('m1'), raw('m2')], 900));
    store.load(snapshot([raw('m1')], 3));
    expect([store.version, store.size]).toEqual([3, 1]);
    expect(store.apply(patch(4, [raw('m2')]))).toBe(true);
    expect(store.size).toBe(2);
  });

  it('calls its listeners once a change', () => {
    const store = new FleetStore();
    let calls = 0;
    const stop = store.subscribe(() => calls++);
    store.load(snapshot([raw('m1')]));
    store.apply(patch(101, [raw('m1'), raw('m2')]));
    stop();
    store.apply(patch(102, [raw('m1')]));
    expect(calls).toBe(2);
  });
});

describe('a row', () => {
  it('keeps unknown apart from zero', () => {
    const read = rowReader(columns);
    expect(read(raw('a', { hashrate_hs: null })).hashrate).toBeNull();
    expect(read(raw('a', { hashrate_hs: 0 })).hashrate).toBe(0);
  });

  it('is read by column name, whatever their order', () => {
    const read = rowReader(['at_ms', 'later_column', 'state', 'address', 'site', 'id']);
    const row = read([now, 'x', 'sleeping', '10.0.0.2:4028', 1, 'm']);
    expect([row.id, row.site, row.state, row.atMs, row.hashrate]).toEqual(['m', 1, 'sleeping', now, null]);
  });

  it('shows a state that this page does not know as unknown', () => {
    expect(rowReader(columns)(raw('a', { state: 'levitating' })).state).toBe('unknown');
  });

  it('refuses a snapshot without the columns it lives on', () => {
    expect(() => rowReader(['id', 'address'])).toThrow(/no column site/);
  });
});

describe('staleness', () => {
  it.each([
    ['just polled', now - 1_000, 10, false],
    ['exactly two intervals old', now - 20_000, 10, false],
    ['older than two intervals', now - 20_001, 10, true],
    ['judged by its own site’s interval', now - 20_001, 60, false],
    ['with an interval nobody told', now - 60_001, null, true],
    ['never polled', null, 10, true],
    ['from a clock a little ahead', now + 2_000, 10, false],
    ['from a clock far ahead', now + 120_001, 10, true],
  ])('%s', (_, at, interval, stale) => {
    expect(isStale(at, interval, now)).toBe(stale);
  });
});

it('sorts addresses by their numbers', () => {
  const sorted = ['10.0.0.10:4028', '10.0.0.9:4028', '9.200.0.1:4028', 'rig-2:4028', 'rig-10:4028'].sort((a, b) =>
    addressKey(a) < addressKey(b) ? -1 : 1,
  );
  expect(sorted).toEqual(['9.200.0.1:4028', '10.0.0.9:4028', '10.0.0.10:4028', 'rig-2:4028', 'rig-10:4028']);
});
