// A site's series as the card of the site shows it. Pure.
import type { SiteSeries } from '../api/types';
import type { Polled, Values } from '../chart/grid';

export const siteFields = ['hashrate_hs', 'power_w', 'miners', 'miners_answered', 'polls', 'answered'] as const;
type SiteField = (typeof siteFields)[number];

export interface SiteHistory extends Polled {
  values: Record<SiteField, Values>;
}

/** How much later than its end the hub may write a step, s. */
const lateS = 300;

/** Reads an answer up to the newest step that is surely whole: one that still lacks some of its miners would look like a drop. */
export function readSite(s: SiteSeries): SiteHistory {
  const to = Date.parse(s.to) / 1000;
  const whole = s.times.findLastIndex((time) => time + s.step_s + lateS <= to) + 1;
  const values = (f: SiteField): Values => s.times.slice(0, whole).map((_, i) => s.fields[f]?.[i] ?? null);
  return {
    stepS: s.step_s,
    times: s.times.slice(0, whole),
    values: Object.fromEntries(siteFields.map((f) => [f, values(f)])) as Record<SiteField, Values>,
  };
}

/** Miners of steps in which any was polled: elsewhere their number is unknown, not zero. */
export const countedMiners = (h: SiteHistory, field: 'miners' | 'miners_answered'): Values =>
  h.values[field].map((n, i) => ((h.values.polls[i] ?? 0) > 0 ? n : null));

export interface Scale {
  by: number; // a value is divided by it
  index: number; // into the steps given, 0 for the smallest
}

/** The largest step that leaves the greatest value at 1 or more. */
export function scaleOf(values: Values, steps: readonly number[]): Scale {
  const greatest = values.reduce<number>((max, v) => Math.max(max, v ?? 0), 0);
  const index = Math.max(0, steps.findLastIndex((s) => greatest >= s));
  return { by: steps[index] ?? 1, index };
}
