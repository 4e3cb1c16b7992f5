import { expect, it } from 'vitest';
import { burnDown, usedPpm } from './burn-down';

it('has a place for every day of the month, and nothing where nothing is known yet', () => {
  const b = burnDown({ month: '2028-02', allowance: 290, burn_down: [{ day: '2028-02-01', missed: 4, allowance_left: 286 }, { day: '2028-02-02', missed: 300, allowance_left: -14 }] });
  expect(b?.times).toHaveLength(29);
  expect(b?.times[0]).toBe(Date.UTC(2028, 1, 1) / 1000);
  expect(b?.left.slice(0, 3)).toEqual([286, -14, null]);
  expect(b?.even[0]).toBe(280);
  expect(b?.even.at(-1)).toBe(0);
});

it('is none before anything happened', () => {
  expect(burnDown({ month: '2026-11', allowance: 10, burn_down: [] })).toBeNull();
  expect(burnDown({ month: '2026-11', allowance: 0, burn_down: [{ day: '2026-11-01', missed: 0, allowance_left: 0 }] })).toBeNull();
});

it('never says that less is used than is', () => {
  expect(usedPpm(3, 1)).toBe(333_334);
  expect(usedPpm(0, 1)).toBeNull();
});
