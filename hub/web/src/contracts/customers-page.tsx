// The customers: who has contracts here.
import { useId, useState, type FormEvent } from 'react';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { call, http } from '../api/client';
import { useMay } from '../app/may';
import { Link } from '../app/router';
import { useContractText } from '../text/contracts';
import { useText } from '../text/text';
import { Dialog, Field } from '../ui/dialog';
import { Problem } from '../ui/parts';
import { Area, Utc } from './area';
import { contractKeys, useCustomers } from './queries';

export default function CustomersPage() {
  const t = useContractText();
  const text = useText();
  const may = useMay();
  const list = useCustomers();
  const [adding, setAdding] = useState(false);
  const items = list.data?.items ?? [];
  return (
    <Area
      here="customers"
      title={t.customers.title}
      note={list.data && t.customers.count(items.length)}
      actions={
        may('customers:write') && (
          <button type="button" className="button button-main" onClick={() => setAdding(true)}>
            {t.customers.add}
          </button>
        )
      }
    >
      {list.isPending && <p className="quiet">{text.loading}</p>}
      {list.error && <Problem title={t.customers.loadError} error={list.error} onRetry={() => void list.refetch()} />}
      {list.data && (
        <section className="panel" aria-label={t.customers.title}>
          {items.length === 0 ? (
            <p className="quiet">{t.customers.none}</p>
          ) : (
            <table className="list">
              <thead>
                <tr>
                  <th scope="col">{t.customers.name}</th>
                  <th scope="col">{t.customers.contracts}</th>
                  <th scope="col">{t.customers.since}</th>
                </tr>
              </thead>
              <tbody>
                {items.map((c) => (
                  <tr key={c.id}>
                    <td>
                      <strong>{c.name}</strong>
                    </td>
                    <td data-name={t.customers.contracts}>{may('contracts:read') ? <Link to={`/contracts?customer=${encodeURIComponent(c.id)}`}>{t.contracts.count(c.contracts)}</Link> : t.contracts.count(c.contracts)}</td>
                    <td data-name={t.customers.since}>
                      <Utc at={c.created_at} />
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
        </section>
      )}
      {adding && <AddDialog onClose={() => setAdding(false)} />}
    </Area>
  );
}

function AddDialog({ onClose }: { onClose: () => void }) {
  const t = useContractText();
  const id = useId();
  const queries = useQueryClient();
  const [name, setName] = useState('');
  const add = useMutation({
    mutationFn: () => call(http.POST('/api/customers', { body: { name: name.trim() } })),
    onSuccess: async () => {
      await queries.invalidateQueries({ queryKey: contractKeys.customers });
      onClose();
    },
  });
  const ready = name.trim() !== '';
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (ready && !add.isPending) add.mutate();
  };
  return (
    <Dialog title={t.customers.add} onClose={onClose}>
      <form onSubmit={submit}>
        <Field label={t.customers.name} htmlFor={id}>
          <input id={id} className="input" required maxLength={100} autoComplete="off" value={name} onChange={(e) => setName(e.target.value)} />
        </Field>
        {add.error && <Problem title={t.customers.failed} error={add.error} />}
        <div className="dialog-buttons">
          <button type="button" className="button" onClick={onClose}>
            {t.cancel}
          </button>
          <button type="submit" className="button button-main" disabled={!ready || add.isPending}>
            {t.customers.addDo}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
