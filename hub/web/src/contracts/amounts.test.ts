import { expect, it } from 'vitest';
import { boundText, bpText, fixedText, hashesText, moneyText, ppmText, rateText, readFixed, readPercent, slotHours, wholeDuration } from './amounts';
import { en } from '../text/en';

it('never shows a share as better than it is', () => {
  expect(ppmText(999_999)).toBe('99.9999 %');
  expect(ppmText(949_999)).toBe('94.9999 %');
  expect(ppmText(950_000)).toBe('95.0000 %');
  expect(ppmText(1_000_000)).toBe('100.0000 %');
  expect(ppmText(7)).toBe('0.0007 %');
});

it('shows bounds and credits as people write them', () => {
  expect(boundText(995_000)).toBe('99.5 %');
  expect(boundText(950_000)).toBe('95 %');
  expect(bpText(2_500)).toBe('25.00 %');
  expect(bpText(5)).toBe('0.05 %');
});

it.each([
  ['99.5', 995_000],
  ['99,5', 995_000],
  ['100', 1_000_000],
  ['0.0001', 1],
  ['99.50000', 995_000],
])('reads %s %% exactly', (text, ppm) => {
  expect(readPercent(text)).toBe(ppm);
});

it('refuses what it would have to round, or is no share', () => {
  for (const bad of ['99.99999', '100.0001', '-1', '', 'x', '1e2', '.5', '9 9']) expect(readPercent(bad)).toBeNull();
  expect(readFixed('9007199254740993', 0)).toBeNull();
});

it('leads back to what was read', () => {
  for (const n of [0, 1, 10, 995_000, 123_456_789]) for (const d of [0, 2, 4, 6]) expect(readFixed(fixedText(n, d), d)).toBe(n);
});

it('knows how many decimals money has', () => {
  expect(moneyText(123_456, 'USD')).toBe('1,234.56 USD');
  expect(moneyText(5, 'EUR')).toBe('0.05 EUR');
  expect(moneyText(5, 'JPY')).toBe('5 JPY');
  expect(moneyText(-5, 'USD')).toBe('−0.05 USD');
});

it('shows rates and work', () => {
  expect(rateText(200_000_000)).toBe('200 TH/s');
  expect(rateText(95_500_000)).toBe('95.5 TH/s');
  expect(hashesText('60000000000000000000')).toBe('60,000,000,000,000 TH');
  expect(hashesText(999_999)).toBe('0 TH');
  expect(slotHours(13)).toEqual({ h: 1, m: 5 });
});

it('leaves nothing of a deadline out', () => {
  expect(wholeDuration(259_200, en)).toBe('3 d');
  expect(wholeDuration(90_061, en)).toBe('1 d 1 h 1 min 1 s');
  expect(wholeDuration(0, en)).toBe('0 s');
});
