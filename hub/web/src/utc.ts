// Times as contracts count them: in UTC, and saying so. A miner's day and month are the contract's, never this computer's.

export const slotMs = 300_000;
export const dayMs = 86_400_000;
export const slotsPerDay = 288;

const two = (n: number) => String(n).padStart(2, '0');

/** A day as 2026-11-26. */
export function utcDay(ms: number): string {
  const d = new Date(ms);
  return `${String(d.getUTCFullYear()).padStart(4, '0')}-${two(d.getUTCMonth() + 1)}-${two(d.getUTCDate())}`;
}

/** A time of day as 14:35. */
export function utcTime(ms: number): string {
  const d = new Date(ms);
  return `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}`;
}

/** A moment as 2026-11-26 14:35 UTC; with its seconds where they are not zero, so that nothing is rounded away. */
export function utcMoment(ms: number): string {
  const s = new Date(ms).getUTCSeconds();
  return `${utcDay(ms)} ${utcTime(ms)}${s === 0 ? '' : `:${two(s)}`} UTC`;
}

/** The moment at which a day as 2026-11-26 begins; null when it is none. */
export function dayStart(day: string): number | null {
  if (!/^\d{4}-\d{2}-\d{2}$/.test(day)) return null;
  const at = Date.parse(`${day}T00:00:00Z`);
  return Number.isFinite(at) && utcDay(at) === day ? at : null; // 2026-02-30 is read as 2 March by some
}

export interface Month {
  name: string; // 2026-11
  fromMs: number;
  toMs: number; // the start of the next one
  days: number;
}

/** A month as 2026-11; null when it is none. */
export function readMonth(name: string): Month | null {
  const m = /^(\d{4})-(\d{2})$/.exec(name);
  const month = Number(m?.[2]);
  if (!m || month < 1 || month > 12) return null;
  const fromMs = Date.UTC(Number(m[1]), month - 1, 1);
  const toMs = Date.UTC(Number(m[1]), month, 1);
  return { name, fromMs, toMs, days: (toMs - fromMs) / dayMs };
}

export const monthOf = (ms: number): string => utcDay(ms).slice(0, 7);

/** The month so many months later, or before. */
export function shiftMonth(name: string, by: number): string {
  const m = readMonth(name);
  if (m === null) return name;
  const d = new Date(m.fromMs);
  return monthOf(Date.UTC(d.getUTCFullYear(), d.getUTCMonth() + by, 1));
}

/** A moment as a field for date and time takes it, in UTC. */
export const toUtcField = (ms: number): string => `${utcDay(ms)}T${utcTime(ms)}`;

/** What such a field holds, read as UTC; null while it holds no moment. */
export function fromUtcField(field: string): number | null {
  if (!/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?$/.test(field)) return null;
  const at = Date.parse(`${field}Z`);
  return Number.isFinite(at) ? at : null;
}

/** A moment as the hub's API takes it. */
export const rfc3339 = (ms: number): string => new Date(ms).toISOString().replace('.000Z', 'Z');
