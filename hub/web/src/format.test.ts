import { describe, expect, it } from 'vitest';
import { bytes, duration, join, percent, power, powerSum, rate, rateSum, temperature } from './format';
import { en } from './text/en';
import { zhCN } from './text/zh-CN';
import { initialLanguage } from './text/text';

describe('values', () => {
  it.each([
    ['a rate', join(rate(104.5e12, en), en), '104.50 TH/s'],
    ['an unknown rate', join(rate(null, en), en), '—'],
    ['an absent rate', join(rate(undefined, en), en), '—'],
    ['a rate of zero', join(rate(0, en), en), '0.00 TH/s'],
    ['a rate too small for two decimals', join(rate(504e6, en), en), '0.0005 TH/s'],
    ['a sum', join(rateSum(18.434e15, en), en), '18.43 PH/s'],
    ['a large sum', join(rateSum(1.2345e18, en), en), '1.235 EH/s'],
    ['power', join(power(3250, en), en), '3,250 W'],
    ['a sum of power', join(powerSum(478_400, en), en), '478.4 kW'],
    ['frost', join(temperature(-4.6, en), en), '-5 °C'],
    ['a share', join(percent(0.0123, 2, en), en), '1.23 %'],
  ])('%s', (_, got, want) => {
    expect(got).toBe(want);
  });
});

describe('lengths of time', () => {
  it.each([
    [-3, '0 s'], [0, '0 s'], [59.9, '59 s'], [60, '1 min'], [3_599, '59 min'], [3_600, '1 h'], [7_260, '2 h 1 min'],
    [100_000, '27 h'], [180_000, '2 d 2 h'], [2_000_000, '23 d'],
  ])('%d s', (s, want) => {
    expect(duration(s, en)).toBe(want);
  });
});

describe('languages', () => {
  it('are chosen by the operator, else by the browser', () => {
    expect(initialLanguage('zh-CN', ['en'])).toBe('zh-CN');
    expect(initialLanguage(null, ['de-DE', 'zh-TW', 'en'])).toBe('zh-CN');
    expect(initialLanguage('xx', ['fr'])).toBe('en');
  });

  const paths = (o: object, at = ''): string[] =>
    Object.entries(o).flatMap(([k, v]) => (typeof v === 'object' && v !== null ? paths(v as object, `${at}${k}.`) : [`${at}${k}`]));
  it('say everything', () => {
    expect(paths(zhCN).sort()).toEqual(paths(en).sort());
  });
});

it.each([
  [0, '0 B'],
  [999, '999 B'],
  [1_000, '1.0 kB'],
  [99_960, '100 kB'],
  [999_600, '1.0 MB'],
  [1_234_567, '1.2 MB'],
  [5e15, '5,000 TB'],
  [null, '—'],
])('%s bytes', (n, want) => {
  expect(join(bytes(n), en)).toBe(want);
});
