// When an excuse counts, and how far from its start it was recorded. Pure.
import { ms } from '../format';

interface Recorded {
  from: string;
  to: string;
  ended_at?: string | undefined;
  recorded_at: string;
}

/** When the window ends, a later record that shortens it included. */
export const endOf = (x: Recorded): number => Math.min(ms(x.to) ?? 0, ms(x.ended_at) ?? Infinity);

export type Phase = 'planned' | 'running' | 'over' | 'calledOff';

export function phaseOf(x: Recorded, nowMs: number): Phase {
  const from = ms(x.from) ?? 0;
  const end = endOf(x);
  if (end <= from) return 'calledOff';
  if (nowMs < from) return 'planned';
  return nowMs < end ? 'running' : 'over';
}

/** Seconds from the record to the window's start: below zero it was recorded after it. */
export const marginS = (x: Recorded): number => ((ms(x.from) ?? 0) - (ms(x.recorded_at) ?? 0)) / 1000;
