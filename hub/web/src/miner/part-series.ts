// The series of a miner's boards and pools, as lines of charts. Pure.
import type { BoardsSeries, PoolsSeries } from '../api/types';
import type { Grid, Values } from '../chart/grid';

/** One board or pool. */
export interface Part {
  key: string;
  name: string;
  values: (field: string) => Values;
}

const part = (key: string, name: string, fields: Record<string, Values | null>, steps: number): Part => ({
  key,
  name,
  // A field that this hub does not know has no values; it is not an error.
  values: (field) => fields[field] ?? Array.from({ length: steps }, () => null),
});

export const gridOf = (s: { step_s: number; times: number[] }): Grid => ({ stepS: s.step_s, times: s.times });

export function boardParts(s: BoardsSeries, name: (index: number) => string): Part[] {
  return s.boards.map((b) => part(String(b.index), name(b.index), b.fields, s.times.length));
}

/** Pools by their address; by worker too where one address has several. */
export function poolParts(s: PoolsSeries): Part[] {
  const seen = new Map<string, number>();
  for (const p of s.pools) seen.set(p.url, (seen.get(p.url) ?? 0) + 1);
  return s.pools.map((p) => {
    const url = p.url.replace(/^stratum2?\+(tcp|ssl|tls):\/\//, '');
    const name = (seen.get(p.url) ?? 0) > 1 ? `${url} (${p.worker})` : url;
    return part(`${p.url} ${p.worker}`, name, p.fields, s.times.length);
  });
}

/** What a counter grew by per minute in each step. A smaller count means that the miner began anew: what it has counted since then
 * is what is known of that step. Unknown where the step before has no count, and in a step that is not over at toS: it would look
 * like a drop. */
export function perMinute(counter: Values, grid: Grid, toS: number): Values {
  return counter.map((value, i) => {
    const before = i > 0 ? counter[i - 1] : null;
    const over = (grid.times[i] ?? Infinity) + grid.stepS <= toS;
    if (value === null || before == null || !over) return null;
    return ((value >= before ? value - before : value) * 60) / grid.stepS;
  });
}

/** The share of polls in percent that found something so; unknown in steps without a poll. */
export function shareOf(count: Values, polls: Values): Values {
  return polls.map((n, i) => (n === null || n === 0 ? null : ((count[i] ?? 0) / n) * 100));
}

/** Whether any line has a value: a chart without one says nothing. */
export const anyKnown = (lines: readonly Values[]): boolean => lines.some((l) => l.some((v) => v !== null));
