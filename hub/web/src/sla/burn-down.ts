// The allowance of a month as it is used up: what was left after each day, and what an even pace would have left. Pure.
import type { Sla } from '../api/types';
import type { Grid, Values } from '../chart/grid';
import { dayMs, dayStart, readMonth } from '../utc';

export interface BurnDown extends Grid {
  left: Values; // slots that may still be missed after the day; below zero the target is missed
  even: Values;
}

export function burnDown(sla: Pick<Sla, 'month' | 'burn_down' | 'allowance'>): BurnDown | null {
  const month = readMonth(sla.month);
  if (month === null || sla.burn_down.every((d) => d.allowance_left === 0)) return null; // nothing to use up, and nothing used
  const left = new Map(sla.burn_down.map((d) => [dayStart(d.day), d.allowance_left]));
  const days = Array.from({ length: month.days }, (_, i) => month.fromMs + i * dayMs);
  return {
    stepS: dayMs / 1000,
    times: days.map((d) => d / 1000),
    left: days.map((d) => left.get(d) ?? null),
    // Rounded down: a pace that is shown must not allow more than there is.
    even: days.map((_, i) => Math.floor((sla.allowance * (month.days - i - 1)) / month.days)),
  };
}

/** How much of the allowance is used, in ppm and rounded up; null where there was none. */
export const usedPpm = (allowance: number, missed: number): number | null => (allowance <= 0 ? null : Math.ceil((missed * 1_000_000) / allowance));
