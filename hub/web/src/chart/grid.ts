// What every chart stands on: an even grid of steps, the stretches without readings, and sums in words. Pure.

/** Steps of equal length, without holes. */
export interface Grid {
  stepS: number;
  times: number[]; // s since 1970, the start of each step
}

/** A list over a grid; null where nothing is known. */
export type Values = readonly (number | null)[];

/** A grid that knows how often was asked, and how often there was an answer. */
export interface Polled extends Grid {
  values: { polls: Values; answered: Values };
}

/** A stretch of steps, from the start of the first to the end of the last, s. */
export interface Stretch {
  from: number;
  to: number;
  kind: 'not-polled' | 'not-answered';
}

/** The stretches without readings, told apart: nobody asked (or it has not arrived), or the miner gave
 * no answer. */
export function gaps(h: Polled): Stretch[] {
  const out: Stretch[] = [];
  h.times.forEach((from, i) => {
    const polls = h.values.polls[i] ?? 0;
    const answered = h.values.answered[i] ?? 0;
    if (answered > 0) return;
    const kind = polls > 0 ? 'not-answered' : 'not-polled';
    const last = out.at(-1);
    if (last && last.to === from && last.kind === kind) last.to = from + h.stepS;
    else out.push({ from, to: from + h.stepS, kind });
  });
  return out;
}

export interface Summary {
  min: number;
  max: number;
  mean: number;
  last: number;
}

/** Least, greatest, mean and newest of the known values; null when none is known. */
export function summarise(values: Values): Summary | null {
  const known = values.filter((v) => v !== null);
  const last = known.at(-1);
  if (last === undefined) return null;
  return {
    min: known.reduce((a, b) => Math.min(a, b)),
    max: known.reduce((a, b) => Math.max(a, b)),
    mean: known.reduce((a, b) => a + b, 0) / known.length,
    last,
  };
}
