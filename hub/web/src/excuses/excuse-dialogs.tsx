// The dialogs that announce maintenance, order curtailment, and end either early.
import { useId, useState, type FormEvent } from 'react';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { call, http } from '../api/client';
import type { Excuse } from '../api/types';
import { useClock, useFleet, useLive } from '../app/live';
import { UtcField } from '../contracts/area';
import { MinerChoice } from '../contracts/miner-choice';
import { contractKeys } from '../contracts/queries';
import { useContractText } from '../text/contracts';
import { Dialog, Field } from '../ui/dialog';
import { Mark, Problem } from '../ui/parts';
import { dayMs, fromUtcField, rfc3339, slotMs, toUtcField } from '../utc';

const hour = 3_600_000; // ms
/** What terms ask for unless they say otherwise; the hub judges by each contract's own. */
const usual = { noticeMs: dayMs, lateMs: 15 * 60_000 };

const nextSlot = (ms: number) => Math.ceil(ms / slotMs) * slotMs;

export function RecordExcuse({ kind, onClose }: { kind: 'maintenance' | 'curtailment'; onClose: () => void }) {
  const t = useContractText();
  const id = useId();
  const queries = useQueryClient();
  const { clock } = useLive();
  const store = useFleet();
  const maintenance = kind === 'maintenance';
  const [from, setFrom] = useState(() => toUtcField(nextSlot(clock.exact()) + (maintenance ? usual.noticeMs : 0)));
  const [to, setTo] = useState(() => toUtcField(nextSlot(clock.exact()) + (maintenance ? usual.noticeMs : 0) + 2 * hour));
  const [note, setNote] = useState('');
  const [site, setSite] = useState(store.sites[0]?.id ?? '');
  const [some, setSome] = useState(false);
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const fromMs = fromUtcField(from);
  const toMs = fromUtcField(to);
  const soon = useClock((now) => fromMs !== null && (maintenance ? fromMs < now + usual.noticeMs : fromMs < now - usual.lateMs));
  const backwards = fromMs !== null && toMs !== null && toMs <= fromMs;
  const ready = site !== '' && fromMs !== null && toMs !== null && !backwards && (!some || chosen.size > 0);
  const record = useMutation({
    mutationFn: async () => {
      if (fromMs === null || toMs === null) return;
      const body = { kind, site_id: site, from: rfc3339(fromMs), to: rfc3339(toMs), note: note.trim(), ...(some ? { miner_ids: [...chosen].sort() } : {}) };
      await call(http.POST('/api/excuses', { body }));
    },
    onSuccess: async () => {
      await queries.invalidateQueries({ queryKey: contractKeys.excuses });
      void queries.invalidateQueries({ queryKey: ['contract'] });
      onClose();
    },
  });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (ready && !record.isPending) record.mutate();
  };
  return (
    <Dialog title={maintenance ? t.excuses.announceTitle : t.excuses.orderTitle} onClose={onClose}>
      <p className="quiet">{maintenance ? t.excuses.announceLead : t.excuses.orderLead}</p>
      <form onSubmit={submit}>
        <div className="field-row">
          <UtcField label={t.excuses.fromField} value={from} onChange={setFrom} />
          <UtcField label={t.excuses.toField} value={to} onChange={setTo} />
        </div>
        {backwards && (
          <p role="alert" className="form-error">
            {t.excuses.wrongWindow}
          </p>
        )}
        {soon && (
          <p role="status" className="warn-line">
            <Mark shape="warn" /> {maintenance ? t.excuses.warnNotice : t.excuses.warnLate}
          </p>
        )}
        <fieldset className="fieldset">
          <legend>{t.excuses.scope}</legend>
          <div className="choices">
            {[false, true].map((s) => (
              <button key={String(s)} type="button" className="button choice" aria-pressed={some === s} onClick={() => setSome(s)}>
                {s ? t.excuses.scopeSome : t.excuses.scopeAll}
              </button>
            ))}
          </div>
        </fieldset>
        {some ? (
          <MinerChoice
            site={site}
            onSite={(s) => {
              setSite(s);
              setChosen(new Set());
            }}
            chosen={chosen}
            onChoose={setChosen}
          />
        ) : (
          <Field label={t.site} htmlFor={`${id}-site`}>
            <select id={`${id}-site`} className="select" value={site} onChange={(e) => setSite(e.target.value)}>
              {[...store.sites]
                .sort((a, b) => a.name.localeCompare(b.name))
                .map((s) => (
                  <option key={s.id} value={s.id}>
                    {s.name}
                  </option>
                ))}
            </select>
          </Field>
        )}
        <Field label={t.excuses.note} htmlFor={`${id}-note`} hint={t.excuses.noteHint} hintId={`${id}-note-hint`}>
          <input id={`${id}-note`} className="input" maxLength={500} autoComplete="off" value={note} aria-describedby={`${id}-note-hint`} onChange={(e) => setNote(e.target.value)} />
        </Field>
        {record.error && <Problem title={t.excuses.failed} error={record.error} />}
        <div className="dialog-buttons">
          <button type="button" className="button" onClick={onClose}>
            {t.cancel}
          </button>
          <button type="submit" className="button button-main" disabled={!ready || record.isPending}>
            {record.isPending ? t.excuses.recording : maintenance ? t.excuses.announceDo : t.excuses.orderDo}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

export function EndExcuse({ excuse, onClose }: { excuse: Excuse; onClose: () => void }) {
  const t = useContractText();
  const queries = useQueryClient();
  const { clock } = useLive();
  // One that has not begun is called off at its beginning.
  const [at, setAt] = useState(() => toUtcField(Math.max(nextSlot(clock.exact()), Date.parse(excuse.from))));
  const atMs = fromUtcField(at);
  const end = useMutation({
    mutationFn: async () => {
      if (atMs !== null) await call(http.POST('/api/excuses/{id}/end', { params: { path: { id: excuse.id } }, body: { at: rfc3339(atMs) } }));
    },
    onSuccess: async () => {
      await queries.invalidateQueries({ queryKey: contractKeys.excuses });
      void queries.invalidateQueries({ queryKey: ['contract'] });
      onClose();
    },
  });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (atMs !== null && !end.isPending) end.mutate();
  };
  return (
    <Dialog title={t.excuses.endTitle} onClose={onClose}>
      <p className="quiet">{t.excuses.endHelp}</p>
      <form onSubmit={submit}>
        <UtcField label={t.excuses.endAt} value={at} onChange={setAt} />
        {end.error && <Problem title={t.excuses.endFailed} error={end.error} />}
        <div className="dialog-buttons">
          <button type="button" className="button" onClick={onClose}>
            {t.cancel}
          </button>
          <button type="submit" className="button button-bad" disabled={atMs === null || end.isPending}>
            {t.excuses.endDo}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
