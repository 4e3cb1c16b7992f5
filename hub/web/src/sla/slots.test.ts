import { expect, it } from 'vitest';
import { slotsPerDay } from '../utc';
import { countStates, letters, notable, runs, slotOf, stateAt, trouble } from './slots';

const day = (text: string) => text.padEnd(slotsPerDay, 'U');

it('knows every letter, and calls none by another’s name', () => {
  expect(new Set(Object.values(letters)).size).toBe(Object.keys(letters).length);
  for (const [state, letter] of Object.entries(letters)) expect(stateAt(letter, 0)).toBe(state);
});

it('does not guess at a letter that it does not know', () => {
  expect(stateAt('Z', 0)).toBe('other');
  expect(countStates(day('Z')).other).toBe(1);
});

it('takes what is missing at the end as what has not happened yet', () => {
  expect(countStates('UUU')).toMatchObject({ up: 3, future: slotsPerDay - 3 });
});

it('cuts a day where the state changes', () => {
  expect(runs(day('DDD..c'))).toEqual([
    { from: 0, to: 3, state: 'down' },
    { from: 3, to: 5, state: 'none' },
    { from: 5, to: 6, state: 'curtailment' },
    { from: 6, to: slotsPerDay, state: 'up' },
  ]);
});

it('accounts for every slot once', () => {
  const states = day('UdDXx?cm. U?Dz');
  expect(Object.values(countStates(states)).reduce((a, b) => a + b, 0)).toBe(slotsPerDay);
});

it('puts what counts against the contract before what is only open, and excused time nowhere', () => {
  const order = [day(''), day('c'.repeat(100)), day('?'), day('D'), day('DX'), day('DXd')];
  const troubles = order.map(trouble);
  expect(troubles).toEqual([...troubles].sort((a, b) => a - b));
  expect(troubles[1]).toBe(0);
  expect(trouble(day('?'.repeat(288)))).toBeLessThan(trouble(day('D')));
});

it('lists only what is worth a line', () => {
  expect(notable(day('..UD'))).toEqual([{ from: 3, to: 4, state: 'down' }]);
});

it('finds the slot of a moment', () => {
  const start = Date.parse('2026-11-26T00:00:00Z');
  expect(slotOf(start, start)).toBe(0);
  expect(slotOf(start + 299_999, start)).toBe(0);
  expect(slotOf(Date.parse('2026-11-26T23:59:59Z'), start)).toBe(287);
});
