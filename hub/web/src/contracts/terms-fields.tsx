// The fields of a contract's terms, in the units that people use.
import { useId, type ReactNode } from 'react';
import { useContractText } from '../text/contracts';
import { Field } from '../ui/dialog';
import { UtcField } from './area';
import type { TermsField, TermsForm } from './terms';

interface Props {
  form: TermsForm;
  onChange: (form: TermsForm) => void;
}

export function TermsFields({ form, onChange }: Props) {
  const t = useContractText();
  const f = t.terms.fields;
  const u = t.terms.units;
  const set = (field: TermsField) => (value: string) => onChange({ ...form, [field]: value });
  const number = (field: Exclude<TermsField, 'tiers'>, label: string, unit: string, hint?: string, required = true) => (
    <NumberField label={label} unit={unit} hint={hint} required={required} value={form[field]} onChange={set(field)} />
  );
  return (
    <>
      <div className="field-row">
        <UtcField label={f.from} value={form.from} onChange={set('from')} hint={t.terms.hints.from} />
        {number('rate', f.rate_mhs, u.rate)}
        {number('target', f.target_ppm, u.percent)}
        <Choice label={f.metric} value={form.metric} of={['time', 'hashrate']} names={t.terms.metrics} onChange={set('metric')} />
      </div>
      <Tiers form={form} onChange={onChange} />
      <div className="field-row">
        {number('fee', f.fee_minor, '', t.terms.hints.fee, false)}
        <TextField label={f.currency} hint={t.terms.hints.currency} value={form.currency} onChange={set('currency')} />
        {number('creditCap', f.credit_cap_bp, u.ofFee)}
      </div>
      <details className="more-terms">
        <summary>{t.terms.more}</summary>
        <div className="field-row">
          {number('theta', f.theta_ppm, u.ofRate)}
          {number('degraded', f.degraded_ppm, u.ofRate)}
          <Choice label={f.unknown} value={form.unknown} of={['down', 'excused', 'pool']} names={t.terms.policies} onChange={set('unknown')} />
          {number('backfill', f.backfill_s, u.afterHour)}
          {number('curtailLate', f.curtail_late_s, u.afterStart)}
          {number('notice', f.maintenance_notice_s, u.beforeStart)}
          {number('curtailCap', f.curtail_cap_slots, u.cap, t.terms.hints.cap, false)}
          {number('maintenanceCap', f.maintenance_cap_slots, u.cap, t.terms.hints.cap, false)}
        </div>
      </details>
    </>
  );
}

function NumberField({ label, unit, hint, required, value, onChange }: { label: string; unit: string; hint: string | undefined; required: boolean; value: string; onChange: (v: string) => void }) {
  const id = useId();
  return (
    <Field label={unit === '' ? label : `${label}, ${unit}`} htmlFor={id} hint={hint} hintId={`${id}-hint`}>
      <input
        id={id}
        className="input"
        inputMode="decimal"
        autoComplete="off"
        required={required}
        maxLength={24}
        value={value}
        aria-describedby={hint ? `${id}-hint` : undefined}
        onChange={(e) => onChange(e.target.value)}
      />
    </Field>
  );
}

function TextField({ label, hint, value, onChange }: { label: string; hint: string; value: string; onChange: (v: string) => void }) {
  const id = useId();
  return (
    <Field label={label} htmlFor={id} hint={hint} hintId={`${id}-hint`}>
      <input id={id} className="input" autoComplete="off" spellCheck={false} maxLength={3} value={value} aria-describedby={`${id}-hint`} onChange={(e) => onChange(e.target.value)} />
    </Field>
  );
}

function Choice({ label, value, of, names, onChange }: { label: string; value: string; of: readonly string[]; names: Record<string, string>; onChange: (v: string) => void }) {
  const id = useId();
  return (
    <Field label={label} htmlFor={id}>
      <select id={id} className="select" value={value} onChange={(e) => onChange(e.target.value)}>
        {of.map((x) => (
          <option key={x} value={x}>
            {names[x] ?? x}
          </option>
        ))}
      </select>
    </Field>
  );
}

/** The hub takes no more. */
const maxTiers = 16;

function Tiers({ form, onChange }: Props) {
  const t = useContractText();
  const set = (i: number, change: Partial<TermsForm['tiers'][number]>) => onChange({ ...form, tiers: form.tiers.map((x, j) => (j === i ? { ...x, ...change } : x)) });
  return (
    <fieldset className="fieldset">
      <legend>{t.terms.fields.tiers}</legend>
      {form.tiers.map((tier, i) => (
        <div key={i} className="tier" role="group" aria-label={t.terms.tierOf(i + 1)}>
          <Labelled label={t.terms.tierBelow}>{(id) => <input id={id} className="input" inputMode="decimal" autoComplete="off" required value={tier.below} onChange={(e) => set(i, { below: e.target.value })} />}</Labelled>
          <Labelled label={t.terms.tierCredit}>{(id) => <input id={id} className="input" inputMode="decimal" autoComplete="off" required value={tier.credit} onChange={(e) => set(i, { credit: e.target.value })} />}</Labelled>
          <button type="button" className="button button-quiet" aria-label={t.terms.dropTier(i + 1)} onClick={() => onChange({ ...form, tiers: form.tiers.filter((_, j) => j !== i) })}>
            ✕
          </button>
        </div>
      ))}
      {form.tiers.length < maxTiers && (
        <div>
          <button type="button" className="button" onClick={() => onChange({ ...form, tiers: [...form.tiers, { below: '', credit: '' }] })}>
            {t.terms.addTier}
          </button>
        </div>
      )}
    </fieldset>
  );
}

function Labelled({ label, children }: { label: string; children: (id: string) => ReactNode }) {
  const id = useId();
  return (
    <div className="tier-field">
      <label htmlFor={id} className="small">
        {label}
      </label>
      {children(id)}
    </div>
  );
}

/** Which fields of a form cannot be read, in words. */
export function useWrongText(): (wrong: readonly TermsField[]) => string {
  const t = useContractText();
  const f = t.terms.fields;
  const names: Record<TermsField, string> = {
    from: f.from, rate: f.rate_mhs, metric: f.metric, target: f.target_ppm, theta: f.theta_ppm, degraded: f.degraded_ppm, unknown: f.unknown, backfill: f.backfill_s,
    curtailLate: f.curtail_late_s, notice: f.maintenance_notice_s, curtailCap: f.curtail_cap_slots, maintenanceCap: f.maintenance_cap_slots, tiers: f.tiers,
    creditCap: f.credit_cap_bp, fee: f.fee_minor, currency: f.currency,
  };
  return (wrong) => t.terms.wrong(wrong.map((w) => names[w]).join('; '));
}
