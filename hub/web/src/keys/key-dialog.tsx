// The dialog that makes a key, new or in the place of an old one, and shows it once.
import { useId, useState, type FormEvent } from 'react';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { call, http } from '../api/client';
import type { ApiKey, NewApiKey } from '../api/types';
import { useMay } from '../app/may';
import { keys } from '../app/queries';
import { useCustomers } from '../contracts/queries';
import { useManageText } from '../text/manage';
import { CopyText } from '../ui/copy';
import { Dialog, Field } from '../ui/dialog';
import { Problem } from '../ui/parts';

interface KeyDialogProps {
  /** What the maker may do: a new key may do no more. */
  held: readonly string[];
  isOwner: boolean;
  /** The key whose place the new one takes. */
  from?: ApiKey;
  onClose: () => void;
}

export function KeyDialog({ held, isOwner, from, onClose }: KeyDialogProps) {
  const t = useManageText();
  // The key lives here only: not in a query's cache, and gone with the dialog.
  const [made, setMade] = useState<NewApiKey | null>(null);
  const [copied, setCopied] = useState(false);
  const title = made ? t.keys.madeTitle(made.name) : from ? t.keys.copyTitle(from.name) : t.keys.make;
  return (
    <Dialog title={title} mayClose={!made?.key || copied} onClose={onClose}>
      {made ? (
        <div className="dialog-part">
          {made.key ? (
            <>
              <p>
                <strong>{t.keys.once}</strong>
              </p>
              <CopyText text={made.key} name={t.keys.key} onCopied={() => setCopied(true)} />
            </>
          ) : (
            <p>{t.keys.noSecret}</p>
          )}
          {from && <p className="quiet">{t.keys.grace}</p>}
          <div className="dialog-buttons">
            <button type="button" className="button button-main" onClick={onClose}>
              {t.done}
            </button>
          </div>
        </div>
      ) : (
        <Order held={held} isOwner={isOwner} from={from} onMade={setMade} onClose={onClose} />
      )}
    </Dialog>
  );
}

const maxDays = 366;

/** What a customer's key may do at most; the hub refuses more. */
const customerMay = ['contracts:read', 'sla:read', 'statements:read'] as const;

function Order({ held, isOwner, from, onMade, onClose }: { held: readonly string[]; isOwner: boolean; from: ApiKey | undefined; onMade: (key: NewApiKey) => void; onClose: () => void }) {
  const t = useManageText();
  const id = useId();
  const queries = useQueryClient();
  const [name, setName] = useState(from?.name ?? '');
  const [user, setUser] = useState(from?.user_id ?? '');
  const [days, setDays] = useState('90');
  const may = useMay();
  const customers = useCustomers(may('customers:read'));
  const [customer, setCustomer] = useState(from?.customer_id ?? '');
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set(from?.permissions));
  const lifetime = Number(days);
  const ready = name.trim() !== '' && chosen.size > 0 && Number.isInteger(lifetime) && lifetime >= 1 && lifetime <= maxDays;
  const make = useMutation({
    gcTime: 0,
    mutationFn: () =>
      call(
        http.POST('/api/apikeys', {
          body: {
            name: name.trim(),
            permissions: [...chosen].sort(),
            expires_in_days: lifetime,
            ...(user.trim() ? { user_id: user.trim() } : {}),
            ...(customer ? { customer_id: customer } : {}),
            ...(from ? { copy_from: from.id } : {}),
          },
        }),
      ),
    onSuccess: (key) => {
      void queries.invalidateQueries({ queryKey: keys.apiKeys });
      onMade(key);
    },
  });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (ready && !make.isPending) make.mutate();
  };
  const choose = (permission: string, on: boolean) => {
    const next = new Set(chosen);
    if (on) next.add(permission);
    else next.delete(permission);
    setChosen(next);
  };
  const offered = customer ? customerMay.filter((p) => held.includes(p)) : [...(isOwner ? ['owner'] : []), ...held];
  const chooseCustomer = (id: string) => {
    setCustomer(id);
    setChosen(new Set(id ? customerMay.filter((p) => held.includes(p)) : []));
  };
  return (
    <>
      <p className="quiet">{from ? t.keys.copyLead : t.keys.lead}</p>
      <form onSubmit={submit}>
        <div className="field-row">
          <Field label={t.keys.name} htmlFor={`${id}-name`} hint={t.keys.nameHint} hintId={`${id}-name-hint`}>
            <input id={`${id}-name`} className="input" required maxLength={100} autoComplete="off" value={name} aria-describedby={`${id}-name-hint`} onChange={(e) => setName(e.target.value)} />
          </Field>
          <Field label={t.keys.user} htmlFor={`${id}-user`}>
            <input id={`${id}-user`} className="input" maxLength={100} autoComplete="off" value={user} onChange={(e) => setUser(e.target.value)} />
          </Field>
        </div>
        {/* A key that takes another's place is of the same customer. */}
        {!from && (customers.data?.items.length ?? 0) > 0 && (
          <Field label={t.keys.customer} htmlFor={`${id}-customer`} hint={t.keys.customerHint} hintId={`${id}-customer-hint`}>
            <select id={`${id}-customer`} className="select" value={customer} aria-describedby={`${id}-customer-hint`} onChange={(e) => chooseCustomer(e.target.value)}>
              <option value="">{t.keys.operator}</option>
              {customers.data?.items.map((c) => (
                <option key={c.id} value={c.id}>
                  {c.name}
                </option>
              ))}
            </select>
          </Field>
        )}
        <fieldset className="fieldset">
          <legend>{t.keys.mayDo}</legend>
          <div className="permissions">
            {offered.map((p) => (
              <label key={p} className="check check-top">
                <input type="checkbox" checked={chosen.has(p)} onChange={(e) => choose(p, e.target.checked)} />{' '}
                <span>
                  <code>{p}</code>
                  {t.keys.meaning[p] && <span className="quiet small permission-meaning">{t.keys.meaning[p]}</span>}
                </span>
              </label>
            ))}
          </div>
        </fieldset>
        <Field label={t.keys.days} htmlFor={`${id}-days`} hint={t.keys.daysHint(maxDays)} hintId={`${id}-days-hint`}>
          <input
            id={`${id}-days`}
            className="input key-days"
            type="number"
            min={1}
            max={maxDays}
            step={1}
            required
            value={days}
            aria-describedby={`${id}-days-hint`}
            onChange={(e) => setDays(e.target.value)}
          />
        </Field>
        {make.error && <Problem title={t.keys.makeFailed} error={make.error} />}
        <div className="dialog-buttons">
          <button type="button" className="button" onClick={onClose}>
            {t.cancel}
          </button>
          <button type="submit" className="button button-main" disabled={!ready || make.isPending}>
            {make.isPending ? t.keys.making : t.keys.makeDo}
          </button>
        </div>
      </form>
    </>
  );
}
