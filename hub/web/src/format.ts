// Values as text. An unknown value is the catalogue's dash and never a zero; units are always named.
import type { Messages } from './text/en';

export type Known = number | null | undefined;

const formats = new Map<number, Intl.NumberFormat>();

/** A number with grouped thousands and a fixed count of decimals. */
export function decimal(n: number, decimals: number): string {
  let f = formats.get(decimals);
  if (!f) {
    f = new Intl.NumberFormat('en', { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
    formats.set(decimals, f);
  }
  return f.format(n);
}

/** A value and its unit, apart so that a cell can show the unit quietly. */
export interface Quantity {
  value: string;
  unit: string;
}

/** A miner's rate, always in TH/s so that a column can be compared by eye. A rate too small for two
 * decimals keeps two digits: it must not look like zero. */
export function rate(hs: Known, t: Messages): Quantity | null {
  if (hs == null) return null;
  const ths = hs / 1e12;
  const small = ths !== 0 && Math.abs(ths) < 0.01;
  return { value: small ? Number(ths.toPrecision(2)).toString() : decimal(ths, 2), unit: t.unit.ths };
}

/** A sum of rates, in the unit that keeps it short. */
export function rateSum(hs: Known, t: Messages): Quantity | null {
  if (hs == null) return null;
  if (hs >= 1e18) return { value: decimal(hs / 1e18, 3), unit: t.unit.ehs };
  if (hs >= 1e15) return { value: decimal(hs / 1e15, 2), unit: t.unit.phs };
  return rate(hs, t);
}

export function power(w: Known, t: Messages): Quantity | null {
  return w == null ? null : { value: decimal(w, 0), unit: t.unit.w };
}

export function powerSum(w: Known, t: Messages): Quantity | null {
  if (w == null) return null;
  if (w >= 1e6) return { value: decimal(w / 1e6, 2), unit: t.unit.mw };
  if (w >= 1e3) return { value: decimal(w / 1e3, 1), unit: t.unit.kw };
  return power(w, t);
}

export function temperature(c: Known, t: Messages): Quantity | null {
  return c == null ? null : { value: decimal(c, 0), unit: t.unit.c };
}

export function efficiency(jPerTh: Known, t: Messages): Quantity | null {
  return jPerTh == null ? null : { value: decimal(jPerTh, 1), unit: t.unit.jth };
}

/** A ratio of 1 is 100 %. */
export function percent(ratio: Known, decimals: number, t: Messages): Quantity | null {
  return ratio == null ? null : { value: decimal(ratio * 100, decimals), unit: t.unit.percent };
}

export function rpm(n: Known, t: Messages): Quantity | null {
  return n == null ? null : { value: decimal(n, 0), unit: t.unit.rpm };
}

export function count(n: Known): Quantity | null {
  return n == null ? null : { value: decimal(n, 0), unit: '' };
}

/** An amount of data, in powers of 1,000. */
export function bytes(n: Known): Quantity | null {
  if (n == null) return null;
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let i = 0;
  let value = n;
  while (value >= 999.5 && i < units.length - 1) {
    value /= 1000;
    i++;
  }
  return { value: decimal(value, i === 0 || value >= 99.95 ? 0 : 1), unit: units[i] ?? '' };
}

export function join(q: Quantity | null, t: Messages): string {
  return q === null ? t.none : q.unit === '' ? q.value : `${q.value} ${q.unit}`;
}

/** A length of time in its two largest units. A negative one (clocks differ a little) counts as zero. */
export function duration(seconds: number, t: Messages): string {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return t.duration.s(s);
  const m = Math.floor(s / 60);
  if (m < 60) return t.duration.m(m);
  const h = Math.floor(m / 60);
  if (h < 10 && m % 60 !== 0) return t.duration.hm(h, m % 60);
  if (h < 48) return t.duration.h(h);
  const d = Math.floor(h / 24);
  return d < 10 && h % 24 !== 0 ? t.duration.dh(d, h % 24) : t.duration.d(d);
}

/** A moment on this computer's wall clock, with the date when it is not today's. */
export function moment(ms: number, nowMs: number, t: Messages): string {
  const at = new Date(ms);
  const sameDay = new Date(nowMs).toDateString() === at.toDateString();
  return at.toLocaleString(t.lang, {
    ...(sameDay ? {} : { year: 'numeric', month: 'short', day: 'numeric' }),
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    hour12: false,
  });
}

/** An RFC 3339 time in ms; null when absent or unreadable. */
export function ms(rfc3339: string | null | undefined): number | null {
  if (!rfc3339) return null;
  const n = Date.parse(rfc3339);
  return Number.isFinite(n) ? n : null;
}
