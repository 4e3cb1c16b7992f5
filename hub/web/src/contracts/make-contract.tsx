// The dialogs that record terms: a new contract, or a new version of one.
import { useId, useState, type FormEvent } from 'react';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { call, http } from '../api/client';
import type { ContractDetail, Customer } from '../api/types';
import { useLive } from '../app/live';
import { contractPath, navigate } from '../app/router';
import { useContractText } from '../text/contracts';
import { Dialog, Field } from '../ui/dialog';
import { Problem } from '../ui/parts';
import { monthOf, readMonth, rfc3339, shiftMonth } from '../utc';
import { contractKeys } from './queries';
import { fillForm, newTerms, readForm } from './terms';
import { TermsFields, useWrongText } from './terms-fields';

export function MakeContract({ customers, customer, onClose }: { customers: readonly Customer[]; customer: string | null; onClose: () => void }) {
  const t = useContractText();
  const id = useId();
  const wrongText = useWrongText();
  const queries = useQueryClient();
  const { clock } = useLive();
  // From the month that runs: what it has been so far can still be counted.
  const [base] = useState(() => newTerms(readMonth(monthOf(clock.exact()))?.fromMs ?? clock.exact()));
  const [filled] = useState(() => fillForm(base));
  const [form, setForm] = useState(filled);
  const [name, setName] = useState('');
  const [of, setOf] = useState(customer ?? customers[0]?.id ?? '');
  const [tried, setTried] = useState(false);
  const { terms, wrong } = readForm(form, filled, base);
  const make = useMutation({
    mutationFn: () => call(http.POST('/api/contracts', { body: { customer_id: of, name: name.trim(), terms } })),
    onSuccess: async (made) => {
      await queries.invalidateQueries({ queryKey: contractKeys.contracts });
      onClose();
      navigate(contractPath(made.id, 'miners'));
    },
  });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    setTried(true);
    if (name.trim() !== '' && wrong.length === 0 && !make.isPending) make.mutate();
  };
  return (
    <Dialog title={t.contracts.make} onClose={onClose}>
      <p className="quiet">{t.contracts.lead}</p>
      <form onSubmit={submit}>
        <div className="field-row">
          <Field label={t.contracts.nameField} htmlFor={`${id}-name`}>
            <input id={`${id}-name`} className="input" required maxLength={100} autoComplete="off" value={name} onChange={(e) => setName(e.target.value)} />
          </Field>
          <Field label={t.contracts.customer} htmlFor={`${id}-of`}>
            <select id={`${id}-of`} className="select" value={of} onChange={(e) => setOf(e.target.value)}>
              {customers.map((c) => (
                <option key={c.id} value={c.id}>
                  {c.name}
                </option>
              ))}
            </select>
          </Field>
        </div>
        <TermsFields form={form} onChange={setForm} />
        {tried && wrong.length > 0 && (
          <p role="alert" className="form-error">
            {wrongText(wrong)}
          </p>
        )}
        {make.error && <Problem title={t.contracts.failed} error={make.error} />}
        <div className="dialog-buttons">
          <button type="button" className="button" onClick={onClose}>
            {t.cancel}
          </button>
          <button type="submit" className="button button-main" disabled={name.trim() === '' || make.isPending}>
            {make.isPending ? t.contracts.making : t.contracts.makeDo}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

export function AmendContract({ contract, onClose }: { contract: ContractDetail; onClose: () => void }) {
  const t = useContractText();
  const wrongText = useWrongText();
  const queries = useQueryClient();
  const { clock } = useLive();
  const newest = contract.versions.reduce<ContractDetail['versions'][number] | undefined>((a, b) => (a === undefined || b.version > a.version ? b : a), undefined);
  const [base] = useState(() => {
    const next = readMonth(shiftMonth(monthOf(clock.exact()), 1))?.fromMs ?? clock.exact();
    return { ...(newest?.terms ?? newTerms(next)), from: rfc3339(Math.max(next, Date.parse(newest?.from ?? '') || 0)) };
  });
  const [filled] = useState(() => fillForm(base));
  const [form, setForm] = useState(filled);
  const [tried, setTried] = useState(false);
  const { terms, wrong } = readForm(form, filled, base);
  const amend = useMutation({
    mutationFn: () => call(http.POST('/api/contracts/{id}/versions', { params: { path: { id: contract.id } }, body: { terms } })),
    onSuccess: async () => {
      await queries.invalidateQueries({ queryKey: contractKeys.contract(contract.id) });
      void queries.invalidateQueries({ queryKey: contractKeys.contracts });
      onClose();
    },
  });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    setTried(true);
    if (wrong.length === 0 && !amend.isPending) amend.mutate();
  };
  return (
    <Dialog title={t.terms.amendTitle(contract.name)} onClose={onClose}>
      <p className="quiet">{t.terms.amendLead}</p>
      <form onSubmit={submit}>
        <TermsFields form={form} onChange={setForm} />
        {tried && wrong.length > 0 && (
          <p role="alert" className="form-error">
            {wrongText(wrong)}
          </p>
        )}
        {amend.error && <Problem title={t.terms.amendFailed} error={amend.error} />}
        <div className="dialog-buttons">
          <button type="button" className="button" onClick={onClose}>
            {t.cancel}
          </button>
          <button type="submit" className="button button-main" disabled={amend.isPending}>
            {amend.isPending ? t.terms.amending : t.terms.amendDo}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
