import { expect, it } from 'vitest';
import { dayStart, fromUtcField, monthOf, readMonth, rfc3339, shiftMonth, toUtcField, utcMoment } from './utc';

const at = Date.parse('2026-11-26T14:35:00Z');

it('says that a moment is UTC, whatever this computer’s zone is', () => {
  expect(utcMoment(at)).toBe('2026-11-26 14:35 UTC');
  expect(utcMoment(at + 7_000)).toBe('2026-11-26 14:35:07 UTC');
});

it('fills a field for date and time and reads it back as the same moment', () => {
  expect(toUtcField(at)).toBe('2026-11-26T14:35');
  expect(fromUtcField(toUtcField(at))).toBe(at);
  expect(fromUtcField('')).toBeNull();
  expect(fromUtcField('2026-11-26')).toBeNull();
  expect(rfc3339(at)).toBe('2026-11-26T14:35:00Z');
});

it.each([
  ['2026-11', 30],
  ['2026-12', 31],
  ['2027-02', 28],
  ['2028-02', 29],
])('%s has %d days', (name, days) => {
  expect(readMonth(name)?.days).toBe(days);
});

it('goes over the end of a year', () => {
  expect(shiftMonth('2026-12', 1)).toBe('2027-01');
  expect(shiftMonth('2027-01', -1)).toBe('2026-12');
  expect(monthOf(Date.parse('2026-12-31T23:59:59Z'))).toBe('2026-12');
});

it('refuses what is no day or month', () => {
  for (const bad of ['2026-02-30', '2026-13-01', '26-01-01', 'x']) expect(dayStart(bad)).toBeNull();
  for (const bad of ['2026-13', '2026-00', '2026', 'x']) expect(readMonth(bad)).toBeNull();
  expect(dayStart('2028-02-29')).toBe(Date.UTC(2028, 1, 29));
});
