// A miner's history: which range and step to ask for, how a newer tail joins what is there, and how
// it is read. Pure; the page fetches and draws.
import type { Series } from '../api/types';
import type { Grid } from '../chart/grid';

export const ranges = { '1h': 3_600, '6h': 21_600, '24h': 86_400, '3d': 259_200 } as const; // s
export type RangeId = keyof typeof ranges;
export const rangeIds = Object.keys(ranges) as RangeId[];

export function parseRange(s: string | null): RangeId {
  return rangeIds.find((r) => r === s) ?? '6h';
}

const niceSteps = [15, 30, 60, 120, 300, 600, 900, 1_800, 3_600];
const points: Record<RangeId, number> = { '1h': 120, '6h': 360, '24h': 288, '3d': 432 };

/** The step for a range, in s: at least two poll intervals, or steps that no poll fell into would look
 * like gaps. */
export function stepFor(range: RangeId, pollIntervalS: number): number {
  const least = Math.max(ranges[range] / points[range], 2 * pollIntervalS);
  return niceSteps.find((s) => s >= least) ?? Math.ceil(least / 3_600) * 3_600;
}

export const fieldNames = ['hashrate_hs', 'temp_board_c', 'temp_chip_c', 'power_w', 'polls', 'answered'] as const;
export type Field = (typeof fieldNames)[number];

/** A history on an even grid: a step without a value is null, never left out. */
export interface History extends Grid {
  values: Record<Field, (number | null)[]>;
}

const noValues = (): History['values'] =>
  Object.fromEntries(fieldNames.map((f) => [f, []])) as unknown as History['values'];

/** Reads an answer of the hub; steps that it leaves out become steps without values. */
export function readSeries(s: Series): History {
  const h: History = { stepS: s.step_s, times: [], values: noValues() };
  const times = s.times ?? [];
  times.forEach((time, i) => {
    const previous = h.times.at(-1);
    if (previous !== undefined) {
      for (let t = previous + s.step_s; t < time; t += s.step_s) {
        h.times.push(t);
        for (const f of fieldNames) h.values[f].push(null);
      }
    }
    h.times.push(time);
    for (const f of fieldNames) h.values[f].push(s.fields[f]?.[i] ?? null);
  });
  return h;
}

/** Puts a newer tail over the end of a history and lets go of what is older than fromS. Steps are
 * replaced whole, because the newest step of the old answer was not over yet. */
export function append(old: History, tail: History, fromS: number): History {
  const start = tail.times[0];
  if (start === undefined) return old;
  if (old.stepS !== tail.stepS || old.times.length === 0) return tail;
  const times: number[] = [];
  const values = noValues();
  const put = (h: History, keep: (time: number) => boolean) =>
    h.times.forEach((time, i) => {
      if (!keep(time)) return;
      times.push(time);
      for (const f of fieldNames) values[f].push(h.values[f][i] ?? null);
    });
  put(old, (time) => time >= fromS && time < start);
  // What lies between the two was never asked for, and is shown as what it is: nothing.
  const last = times.at(-1);
  if (last !== undefined) {
    for (let t = last + old.stepS; t < start; t += old.stepS) {
      times.push(t);
      for (const f of fieldNames) values[f].push(null);
    }
  }
  put(tail, () => true);
  return { stepS: old.stepS, times, values };
}

/** Answered polls in percent, where there were polls. */
export function answeredPercent(h: History): (number | null)[] {
  return h.times.map((_, i) => {
    const polls = h.values.polls[i] ?? 0;
    return polls > 0 ? ((h.values.answered[i] ?? 0) / polls) * 100 : null;
  });
}
