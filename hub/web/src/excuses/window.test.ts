import { expect, it } from 'vitest';
import { endOf, marginS, phaseOf } from './window';

const at = (time: string) => `2026-11-26T${time}:00Z`;
const window = { from: at('10:00'), to: at('12:00'), recorded_at: at('10:20') };

it.each([
  ['09:59', 'planned'],
  ['10:00', 'running'],
  ['11:59', 'running'],
  ['12:00', 'over'],
] as const)('at %s it is %s', (time, phase) => {
  expect(phaseOf(window, Date.parse(at(time)))).toBe(phase);
});

it('ends where a later record ends it, which never makes it longer', () => {
  expect(endOf({ ...window, ended_at: at('11:00') })).toBe(Date.parse(at('11:00')));
  expect(endOf({ ...window, ended_at: at('13:00') })).toBe(Date.parse(at('12:00')));
  expect(phaseOf({ ...window, ended_at: at('11:00') }, Date.parse(at('11:00')))).toBe('over');
  expect(phaseOf({ ...window, ended_at: at('10:00') }, Date.parse(at('09:00')))).toBe('calledOff');
});

it('tells before from after', () => {
  expect(marginS(window)).toBe(-1_200);
  expect(marginS({ ...window, recorded_at: at('09:00') })).toBe(3_600);
});
