import { expect, it } from 'vitest';
import type { Terms } from '../api/types';
import { differences, fillForm, newTerms, readForm } from './terms';

const from = Date.parse('2026-12-01T00:00:00Z');
const terms: Terms = {
  ...newTerms(from),
  rate_mhs: 95_500_000,
  target_ppm: 995_001,
  backfill_s: 1, // of an hour, no decimal number of four places
  curtail_cap_slots: 100,
  tiers: [{ below_ppm: 990_000, credit_bp: 500 }, { below_ppm: 950_000, credit_bp: 2_500 }],
  fee_minor: 1_234_567,
  currency: 'EUR',
};

it('changes nothing that nobody touched, also what the form cannot show exactly', () => {
  const filled = fillForm(terms);
  expect(readForm(filled, filled, terms)).toEqual({ terms, wrong: [] });
});

it('reads what was typed, in the units of the form', () => {
  const base = newTerms(from);
  const filled = fillForm(base);
  const { terms: got, wrong } = readForm(
    {
      ...filled,
      from: '2026-12-03T10:02', rate: '200', target: '99,5', backfill: '48', curtailLate: '0.5', curtailCap: '8', maintenanceCap: '',
      tiers: [{ below: '99', credit: '5' }, { below: '95', credit: '25.25' }], fee: '1000.50', currency: 'usd',
    },
    filled,
    base,
  );
  expect(wrong).toEqual([]);
  expect(got).toMatchObject({
    from: '2026-12-03T10:02:00Z', rate_mhs: 200_000_000, target_ppm: 995_000, backfill_s: 172_800, curtail_late_s: 30, curtail_cap_slots: 96, maintenance_cap_slots: -1,
    tiers: [{ below_ppm: 990_000, credit_bp: 500 }, { below_ppm: 950_000, credit_bp: 2_525 }], fee_minor: 100_050,
  });
});

it('names each field that cannot be read', () => {
  const base = newTerms(from);
  const filled = fillForm(base);
  const bad = { ...filled, from: '', rate: 'many', target: '101', curtailCap: '0.01', tiers: [{ below: '', credit: '5' }], creditCap: '100.001', currency: 'dollar' };
  expect(readForm(bad, filled, base).wrong.sort()).toEqual(['creditCap', 'currency', 'curtailCap', 'from', 'rate', 'target', 'tiers']);
  expect(readForm(filled, filled, base).wrong).toEqual(['rate']);
});

it('reads a fee anew when its currency changes', () => {
  const base = { ...newTerms(from), rate_mhs: 1, fee_minor: 5_000, currency: 'USD' };
  const filled = fillForm(base);
  expect(filled.fee).toBe('50');
  expect(readForm({ ...filled, currency: 'jpy' }, filled, base).terms).toMatchObject({ fee_minor: 50, currency: 'JPY' });
  expect(readForm({ ...filled, currency: 'JPY', fee: '50.5' }, filled, base).wrong).toEqual(['fee']);
});

it('wants a currency only for a fee', () => {
  const base = { ...newTerms(from), rate_mhs: 1 };
  const filled = fillForm(base);
  expect(readForm(filled, filled, base).wrong).toEqual([]);
  expect(readForm({ ...filled, fee: '10' }, filled, base).wrong).toEqual(['currency']);
});

it('finds what another version says otherwise', () => {
  expect(differences(terms, { ...terms, from: '2027-01-01T00:00:00Z' })).toEqual([]);
  expect(differences(terms, { ...terms, target_ppm: 1, tiers: terms.tiers.slice(1) })).toEqual(['target_ppm', 'tiers']);
});
