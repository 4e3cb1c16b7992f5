// A contract's terms as a form that people fill, and what differs between two versions. Pure.
import type { Terms } from '../api/types';
import { fromUtcField, rfc3339, toUtcField } from '../utc';
import { currencyDecimals, fixedText, readFixed, readPercent } from './amounts';

/** The terms as text fields in the units that people use: percent, TH/s, hours, minutes. */
export interface TermsForm {
  from: string; // UTC
  rate: string; // TH/s
  metric: string;
  target: string; // %
  theta: string; // %
  degraded: string; // %
  unknown: string;
  backfill: string; // h
  curtailLate: string; // min
  notice: string; // h
  curtailCap: string; // h of a miner and month; empty is no cap
  maintenanceCap: string;
  tiers: readonly { below: string; credit: string }[]; // %
  creditCap: string; // %
  fee: string; // in the currency
  currency: string;
}

export type TermsField = keyof TermsForm;

const slotsPerHour = 12;

/** What a contract has unless told otherwise: the hub's own defaults, without a rate. */
export const newTerms = (fromMs: number): Terms => ({
  from: rfc3339(fromMs),
  rate_mhs: 0,
  metric: 'time',
  target_ppm: 990_000,
  theta_ppm: 800_000,
  degraded_ppm: 100_000,
  unknown: 'down',
  backfill_s: 259_200,
  curtail_late_s: 900,
  maintenance_notice_s: 86_400,
  curtail_cap_slots: -1,
  maintenance_cap_slots: -1,
  tiers: [
    { below_ppm: 990_000, credit_bp: 500 },
    { below_ppm: 980_000, credit_bp: 1_000 },
    { below_ppm: 950_000, credit_bp: 2_500 },
  ],
  credit_cap_bp: 10_000,
  fee_minor: 0,
  currency: '',
});

/** A length in s as so many units of s each; rounded only where four decimals do not hold it. */
const units = (s: number, unitS: number): string => fixedText(Math.round((s * 10_000) / unitS), 4);

/** Reads a length; null when it is none, or no whole number of seconds. */
function readUnits(text: string, unitS: number): number | null {
  const n = readFixed(text, 4);
  if (n === null) return null;
  const s = (n * unitS) / 10_000;
  return Number.isSafeInteger(s) ? s : null;
}

const cap = (slots: number): string => (slots < 0 ? '' : units(slots, slotsPerHour));
const readCap = (text: string): number | null => {
  if (text.trim() === '') return -1;
  const n = readFixed(text, 4);
  if (n === null) return null;
  const slots = (n * slotsPerHour) / 10_000;
  return Number.isInteger(slots) ? slots : null;
};

export function fillForm(t: Terms): TermsForm {
  const from = Date.parse(t.from);
  return {
    from: Number.isFinite(from) ? toUtcField(from) : '',
    rate: t.rate_mhs === 0 ? '' : fixedText(t.rate_mhs, 6),
    metric: t.metric,
    target: fixedText(t.target_ppm, 4),
    theta: fixedText(t.theta_ppm, 4),
    degraded: fixedText(t.degraded_ppm, 4),
    unknown: t.unknown,
    backfill: units(t.backfill_s, 3_600),
    curtailLate: units(t.curtail_late_s, 60),
    notice: units(t.maintenance_notice_s, 3_600),
    curtailCap: cap(t.curtail_cap_slots),
    maintenanceCap: cap(t.maintenance_cap_slots),
    tiers: t.tiers.map((x) => ({ below: fixedText(x.below_ppm, 4), credit: fixedText(x.credit_bp, 2) })),
    creditCap: fixedText(t.credit_cap_bp, 2),
    fee: fixedText(t.fee_minor, currencyDecimals(t.currency)),
    currency: t.currency,
  };
}

/** Reads a form that began as `filled`, which was made of `base`: a field that nobody touched keeps its exact value, also where the form
 * cannot show all of it. Fields that cannot be read are named. */
export function readForm(form: TermsForm, filled: TermsForm, base: Terms): { terms: Terms; wrong: TermsField[] } {
  const wrong: TermsField[] = [];
  const read = <T>(field: TermsField, old: T, parse: () => T | null): T => {
    if (JSON.stringify(form[field]) === JSON.stringify(filled[field])) return old;
    const value = parse();
    if (value === null) wrong.push(field);
    return value ?? old;
  };
  const bp = (text: string): number | null => {
    const n = readFixed(text, 2);
    return n !== null && n <= 10_000 ? n : null;
  };
  const currency = form.currency.trim().toUpperCase();
  const terms: Terms = {
    from: read('from', base.from, () => {
      const at = fromUtcField(form.from);
      return at === null ? null : rfc3339(at);
    }),
    rate_mhs: read('rate', base.rate_mhs, () => readFixed(form.rate, 6) || null),
    metric: read('metric', base.metric, () => form.metric as Terms['metric']),
    target_ppm: read('target', base.target_ppm, () => readPercent(form.target)),
    theta_ppm: read('theta', base.theta_ppm, () => readPercent(form.theta)),
    degraded_ppm: read('degraded', base.degraded_ppm, () => readPercent(form.degraded)),
    unknown: read('unknown', base.unknown, () => form.unknown as Terms['unknown']),
    backfill_s: read('backfill', base.backfill_s, () => readUnits(form.backfill, 3_600)),
    curtail_late_s: read('curtailLate', base.curtail_late_s, () => readUnits(form.curtailLate, 60)),
    maintenance_notice_s: read('notice', base.maintenance_notice_s, () => readUnits(form.notice, 3_600)),
    curtail_cap_slots: read('curtailCap', base.curtail_cap_slots, () => readCap(form.curtailCap)),
    maintenance_cap_slots: read('maintenanceCap', base.maintenance_cap_slots, () => readCap(form.maintenanceCap)),
    tiers: read('tiers', base.tiers, () => {
      const tiers = form.tiers.map((x) => ({ below_ppm: readPercent(x.below), credit_bp: bp(x.credit) }));
      return tiers.every((x) => x.below_ppm !== null && x.credit_bp !== null) ? (tiers as Terms['tiers']) : null;
    }),
    credit_cap_bp: read('creditCap', base.credit_cap_bp, () => bp(form.creditCap)),
    // None needs a currency where there is no fee.
    currency: read('currency', base.currency, () => (/^[A-Z]{3}$/.test(currency) || (currency === '' && fee(form.fee, '') === 0) ? currency : null)),
    // Of another currency the same text is another number of minor units.
    fee_minor: form.currency === filled.currency ? read('fee', base.fee_minor, () => fee(form.fee, currency)) : (fee(form.fee, currency) ?? base.fee_minor),
  };
  if (terms.rate_mhs === 0) wrong.push('rate');
  if (terms.fee_minor > 0 && terms.currency === '') wrong.push('currency');
  if (form.currency !== filled.currency && fee(form.fee, currency) === null) wrong.push('fee');
  return { terms, wrong: [...new Set(wrong)] };
}

const fee = (text: string, currency: string): number | null => (text.trim() === '' ? 0 : readFixed(text, currencyDecimals(currency)));

export const termFields = [
  'from', 'rate_mhs', 'metric', 'target_ppm', 'theta_ppm', 'degraded_ppm', 'unknown', 'backfill_s', 'curtail_late_s', 'maintenance_notice_s',
  'curtail_cap_slots', 'maintenance_cap_slots', 'tiers', 'credit_cap_bp', 'fee_minor', 'currency',
] as const satisfies readonly (keyof Terms)[];
export type TermField = (typeof termFields)[number];

/** Which terms another version has changed; when it holds from is not a difference in what it says. */
export function differences(before: Terms, after: Terms): TermField[] {
  return termFields.filter((f) => f !== 'from' && JSON.stringify(before[f]) !== JSON.stringify(after[f]));
}
