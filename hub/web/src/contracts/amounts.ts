// Amounts of contracts as text and back: shares in ppm, credits in 1/100 %, money in minor units. All of it integer arithmetic:
// a share that is shown must not be better than the one that was computed.
import { decimal } from '../format';
import type { Messages } from '../text/en';

/** A share in ppm as percent with all of its four decimals: what was rounded down stays so. */
export function ppmText(ppm: number): string {
  const whole = Math.floor(ppm / 10_000);
  return `${decimal(whole, 0)}.${String(ppm - whole * 10_000).padStart(4, '0')} %`;
}

/** A bound as people write it: without the zeros at its end. */
export const boundText = (ppm: number): string => `${fixedText(ppm, 4)} %`;

/** 1/100 % as percent with both decimals. */
export function bpText(bp: number): string {
  const whole = Math.floor(bp / 100);
  return `${decimal(whole, 0)}.${String(bp - whole * 100).padStart(2, '0')} %`;
}

/** An integer of so many decimals as people type it: 995000 with 4 is 99.5. */
export function fixedText(n: number, decimals: number): string {
  const sign = n < 0 ? '-' : '';
  const digits = String(Math.abs(n)).padStart(decimals + 1, '0');
  const whole = digits.slice(0, digits.length - decimals);
  const fraction = digits.slice(digits.length - decimals).replace(/0+$/, '');
  return fraction === '' ? `${sign}${whole}` : `${sign}${whole}.${fraction}`;
}

/** Reads what was typed as an integer of so many decimals, exactly; null when it is no such number. A comma counts as the point. */
export function readFixed(text: string, decimals: number): number | null {
  const m = /^(\d+)(?:[.,](\d*))?$/.exec(text.trim());
  if (!m) return null;
  const fraction = (m[2] ?? '').replace(/0+$/, '');
  if (fraction.length > decimals) return null; // it would have to be rounded
  const n = Number(`${m[1] ?? ''}${fraction.padEnd(decimals, '0')}`);
  return Number.isSafeInteger(n) ? n : null;
}

export const readPercent = (text: string): number | null => {
  const ppm = readFixed(text, 4);
  return ppm !== null && ppm <= 1_000_000 ? ppm : null;
};

/** How many decimals a currency has; 2 for one that this browser does not know. */
export function currencyDecimals(currency: string): number {
  try {
    return new Intl.NumberFormat('en', { style: 'currency', currency }).resolvedOptions().maximumFractionDigits ?? 2;
  } catch {
    return 2; // not three letters
  }
}

/** Money with its currency's code, from integer minor units. */
export function moneyText(minor: number, currency: string): string {
  const decimals = currencyDecimals(currency);
  const unit = 10 ** decimals;
  const whole = Math.floor(Math.abs(minor) / unit);
  const fraction = decimals === 0 ? '' : `.${String(Math.abs(minor) - whole * unit).padStart(decimals, '0')}`;
  return `${minor < 0 ? '−' : ''}${decimal(whole, 0)}${fraction} ${currency}`;
}

/** A rate in MH/s as TH/s, with as many decimals as it needs. */
export function rateText(mhs: number): string {
  const [whole, fraction] = fixedText(mhs, 6).split('.');
  return `${decimal(Number(whole), 0)}${fraction ? `.${fraction}` : ''} TH/s`;
}

/** Hashes in MH, a decimal string of any length, as TH rounded down. */
export function hashesText(mh: string | number): string {
  const th = BigInt(mh) / 1_000_000n;
  return `${th.toLocaleString('en')} TH`;
}

/** Slots as the hours of one miner that they are, rounded down to a minute. */
export function slotHours(slots: number): { h: number; m: number } {
  const minutes = slots * 5;
  return { h: Math.floor(minutes / 60), m: minutes % 60 };
}

/** A length of time with all of its units: a deadline must not be shown as shorter than it is. */
export function wholeDuration(seconds: number, t: Messages): string {
  const d = t.duration;
  const parts = [
    [Math.floor(seconds / 86_400), d.d],
    [Math.floor(seconds / 3_600) % 24, d.h],
    [Math.floor(seconds / 60) % 60, d.m],
    [seconds % 60, d.s],
  ] as const;
  const told = parts.filter(([n]) => n > 0).map(([n, unit]) => unit(n));
  return told.length === 0 ? d.s(0) : told.join(' ');
}
