// The dialogs that assign miners to a contract and end assignments.
import { useId, useState, type FormEvent } from 'react';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { call, http } from '../api/client';
import type { Assignment, ContractDetail } from '../api/types';
import { useFleet, useLive } from '../app/live';
import { ms } from '../format';
import { useContractText } from '../text/contracts';
import { Dialog, Field } from '../ui/dialog';
import { Problem } from '../ui/parts';
import { fromUtcField, rfc3339, slotMs, toUtcField } from '../utc';
import { readFixed } from './amounts';
import { UtcField } from './area';
import { MinerChoice } from './miner-choice';
import { contractKeys } from './queries';

/** Miners that the hub takes in one request, all or none of them; more are sent one part after another. */
const part = 5_000;

export function AssignDialog({ contract, assignments, onClose }: { contract: ContractDetail; assignments: readonly Assignment[]; onClose: () => void }) {
  const t = useContractText();
  const id = useId();
  const store = useFleet();
  const queries = useQueryClient();
  const { clock } = useLive();
  const [site, setSite] = useState(contract.sites[0]?.id ?? store.sites[0]?.id ?? '');
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  // From the slot that comes next: earlier ones are the operator's to name.
  const [from, setFrom] = useState(() => toUtcField(Math.ceil(clock.exact() / slotMs) * slotMs));
  const [to, setTo] = useState('');
  const [rate, setRate] = useState('');
  const now = clock.exact();
  const here = new Set(assignments.filter((a) => a.to === undefined || (ms(a.to) ?? 0) > now).map((a) => a.miner_id));
  const fromMs = fromUtcField(from);
  const toMs = to === '' ? undefined : fromUtcField(to);
  const mhs = rate.trim() === '' ? undefined : readFixed(rate, 6);
  const ready = chosen.size > 0 && fromMs !== null && toMs !== null && mhs !== null && (toMs === undefined || toMs > fromMs);
  const assign = useMutation({
    mutationFn: async () => {
      if (fromMs === null) return;
      const ids = [...chosen].sort();
      for (let i = 0; i < ids.length; i += part) {
        const miners = ids.slice(i, i + part).map((miner_id) => ({
          site_id: site,
          miner_id,
          from: rfc3339(fromMs),
          ...(toMs ? { to: rfc3339(toMs) } : {}),
          ...(mhs ? { rate_mhs: mhs } : {}),
        }));
        await call(http.POST('/api/contracts/{id}/miners', { params: { path: { id: contract.id } }, body: { miners } }));
      }
    },
    // Also after a failure: parts before it were recorded.
    onSettled: () => queries.invalidateQueries({ queryKey: contractKeys.contract(contract.id) }),
    onSuccess: onClose,
  });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (ready && !assign.isPending) assign.mutate();
  };
  return (
    <Dialog title={t.assign.assign} onClose={onClose}>
      <p className="quiet">{t.assign.assignLead}</p>
      <form onSubmit={submit}>
        <MinerChoice
          site={site}
          onSite={(s) => {
            setSite(s);
            setChosen(new Set());
          }}
          chosen={chosen}
          onChoose={setChosen}
          taken={here}
        />
        <div className="field-row">
          <UtcField label={t.assign.fromField} value={from} onChange={setFrom} />
          <UtcField label={t.assign.toField} value={to} onChange={setTo} required={false} />
          <Field label={t.assign.rateField} htmlFor={`${id}-rate`} hint={t.assign.rateHint} hintId={`${id}-rate-hint`}>
            <input id={`${id}-rate`} className="input" inputMode="decimal" autoComplete="off" maxLength={24} value={rate} aria-invalid={mhs === null} aria-describedby={`${id}-rate-hint`} onChange={(e) => setRate(e.target.value)} />
          </Field>
        </div>
        {assign.error && <Problem title={t.assign.failed} error={assign.error} />}
        <div className="dialog-buttons">
          <button type="button" className="button" onClick={onClose}>
            {t.cancel}
          </button>
          <button type="submit" className="button button-main" disabled={!ready || assign.isPending}>
            {assign.isPending ? t.assign.assigning : t.assign.assignDo}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

export function EndDialog({ contract, ids, onClose }: { contract: string; ids: readonly string[]; onClose: () => void }) {
  const t = useContractText();
  const queries = useQueryClient();
  const { clock } = useLive();
  const [at, setAt] = useState(() => toUtcField(Math.ceil(clock.exact() / slotMs) * slotMs));
  const atMs = fromUtcField(at);
  const end = useMutation({
    mutationFn: async () => {
      if (atMs === null) return;
      for (let i = 0; i < ids.length; i += part) {
        await call(http.POST('/api/contracts/{id}/miners/end', { params: { path: { id: contract } }, body: { assignment_ids: ids.slice(i, i + part), at: rfc3339(atMs) } }));
      }
    },
    onSettled: () => queries.invalidateQueries({ queryKey: contractKeys.contract(contract) }),
    onSuccess: onClose,
  });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (atMs !== null && !end.isPending) end.mutate();
  };
  return (
    <Dialog title={t.assign.endTitle(ids.length)} onClose={onClose}>
      <p className="quiet">{t.assign.endHelp}</p>
      <form onSubmit={submit}>
        <UtcField label={t.assign.endAt} value={at} onChange={setAt} />
        {end.error && <Problem title={t.assign.endFailed} error={end.error} />}
        <div className="dialog-buttons">
          <button type="button" className="button" onClick={onClose}>
            {t.cancel}
          </button>
          <button type="submit" className="button button-bad" disabled={atMs === null || end.isPending}>
            {end.isPending ? t.assign.ending : t.assign.endDo}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
