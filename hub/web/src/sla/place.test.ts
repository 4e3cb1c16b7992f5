import { expect, it } from 'vitest';
import { formatPlace, parsePlace, type SlotsPlace } from './place';

const today = '2026-11-26';
const atMs = Date.parse('2026-11-26T14:35:00Z');

it.each<[string, SlotsPlace]>([
  ['all miners of a day', { day: '2026-11-03', miner: null, why: null }],
  ['one miner', { day: '2026-11-03', miner: { site: 's', id: 'm&1' }, why: null }],
  ['why, among all', { day: today, miner: null, why: { site: 's', miner: 'm', atMs } }],
  ['why, of the one', { day: today, miner: { site: 's', id: 'm' }, why: { site: 's', miner: 'm', atMs } }],
  ['why, of another', { day: today, miner: { site: 's', id: 'm' }, why: { site: 's2', miner: 'm2', atMs } }],
])('leads back: %s', (_, place) => {
  expect(parsePlace(formatPlace(place), today)).toEqual(place);
});

it('begins with today, and takes what is wrong as not there', () => {
  const plain = { day: today, miner: null, why: null };
  for (const bad of ['', '?day=2026-02-30', '?at=x', '?at=2026-11-26T14:35:00Z', '?miner=m']) expect(parsePlace(bad, today)).toEqual(plain);
});

it('takes a month for its first day, and the one that runs for today', () => {
  expect(parsePlace('?month=2026-10', today).day).toBe('2026-10-01');
  expect(parsePlace('?month=2026-11', today).day).toBe(today);
});

it('asks about the slot that a moment lies in', () => {
  expect(parsePlace('?why_site=s&why=m&at=2026-11-26T14:37:12Z', today).why?.atMs).toBe(atMs);
});
