// What the areas around contracts share: where one is among them, names of miners and sites, fields for moments in UTC.
import { useId, useSyncExternalStore, type ReactNode } from 'react';
import { useLive } from '../app/live';
import { useMay, type Permission } from '../app/may';
import { Link } from '../app/router';
import { useSites } from '../app/queries';
import { ms } from '../format';
import { useContractText, type ContractMessages } from '../text/contracts';
import { useText } from '../text/text';
import { dayMs, dayStart, fromUtcField, readMonth, shiftMonth, utcDay, utcMoment } from '../utc';
import { Field } from '../ui/dialog';
import { slotHours } from './amounts';
import '../ui/manage.css';
import './contracts.css';

export const areas = [
  { page: 'contracts', may: 'contracts:read' },
  { page: 'excuses', may: 'contracts:read' },
  { page: 'statements', may: 'statements:read' },
  { page: 'disputes', may: 'disputes:read' },
  { page: 'customers', may: 'customers:read' },
] as const satisfies readonly { page: keyof ContractMessages['nav']; may: Permission }[];
export type AreaName = (typeof areas)[number]['page'];

/** One area around contracts: its place among them, its heading with what one can do, its content. */
export function Area({ here, title, lead, note, actions, children }: { here: AreaName; title: ReactNode; lead?: string; note?: ReactNode; actions?: ReactNode; children: ReactNode }) {
  const t = useContractText();
  const may = useMay();
  const seen = areas.filter((a) => may(a.may));
  return (
    <div className="management contract-area">
      {seen.length > 1 && (
        <nav className="tabs" aria-label={t.nav.label}>
          {seen.map((a) => (
            <Link key={a.page} to={`/${a.page}`} className="tab" aria-current={a.page === here ? 'page' : undefined}>
              {t.nav[a.page]}
            </Link>
          ))}
        </nav>
      )}
      <div className="page-head">
        <h1>{title}</h1>
        {note && <span className="quiet">{note}</span>}
        {actions && <div className="page-do contract-actions">{actions}</div>}
      </div>
      {lead && <p className="quiet contract-lead">{lead}</p>}
      {children}
    </div>
  );
}

/** A moment as contracts count it, in UTC. */
export function Utc({ at }: { at: string | null | undefined }) {
  const t = useText();
  const when = ms(at);
  if (when === null) return <span className="none">{at ?? t.none}</span>;
  return <time dateTime={at ?? undefined}>{utcMoment(when)}</time>;
}

/** The first characters of an id or a hash, all of it on asking. */
export function Short({ of }: { of: string }) {
  return (
    <code className="short" title={of}>
      {of.slice(0, 8)}
    </code>
  );
}

/** Names miners: as the hub's answer does, else by their address as the fleet knows it, else by the beginning of their id. */
export function useMinerName(): (miner: { miner_id: string; name?: string | undefined }) => string {
  const { store } = useLive();
  useSyncExternalStore(store.subscribe, store.membership);
  return ({ miner_id, name }) => name ?? (store.get(miner_id)?.address || miner_id.slice(0, 8));
}

/** Names sites, for keys that may not list them by their ids' beginnings. */
export function useSiteName(known: readonly { id: string; name: string }[] = []): (id: string) => string {
  const may = useMay();
  const sites = useSites(may('sites:read'));
  return (id) => known.find((s) => s.id === id)?.name ?? sites.data?.items?.find((s) => s.id === id)?.name ?? id.slice(0, 8);
}

/** A field for a moment in UTC; its label says so. */
export function UtcField({ label, value, onChange, hint, required = true }: { label: string; value: string; onChange: (v: string) => void; hint?: string; required?: boolean }) {
  const id = useId();
  const at = fromUtcField(value);
  // The browser shows such a field in its own way, with 12 hours or with 24: below it stands what is meant.
  const told = [at === null ? '' : `${utcMoment(at)}.`, hint ?? ''].filter(Boolean).join(' ');
  return (
    <Field label={label} htmlFor={id} hint={told} hintId={`${id}-hint`}>
      <input
        id={id}
        className="input"
        type="datetime-local"
        required={required}
        value={value}
        aria-describedby={told ? `${id}-hint` : undefined}
        aria-invalid={required && at === null}
        onChange={(e) => onChange(e.target.value)}
      />
    </Field>
  );
}

/** One month, and its neighbours. */
export function MonthChoice({ month, onChange }: { month: string; onChange: (month: string) => void }) {
  const t = useContractText();
  return <Steps value={month} type="month" label={t.sla.month} before={t.sla.before} after={t.sla.after} onStep={(by) => onChange(shiftMonth(month, by))} onChange={(v) => readMonth(v) !== null && onChange(v)} />;
}

export function DayChoice({ day, onChange }: { day: string; onChange: (day: string) => void }) {
  const t = useContractText();
  const start = dayStart(day);
  return (
    <Steps
      value={day}
      type="date"
      label={t.slots.day}
      before={t.slots.dayBefore}
      after={t.slots.dayAfter}
      onStep={(by) => start !== null && onChange(utcDay(start + by * dayMs))}
      onChange={(v) => dayStart(v) !== null && onChange(v)}
    />
  );
}

interface StepsProps {
  value: string;
  type: 'month' | 'date';
  label: string;
  before: string;
  after: string;
  onStep: (by: 1 | -1) => void;
  onChange: (value: string) => void;
}

function Steps({ value, type, label, before, after, onStep, onChange }: StepsProps) {
  const t = useContractText();
  const id = useId();
  return (
    <div className="time-choice">
      <label htmlFor={id}>
        {label} <span className="quiet small">({t.utc})</span>
      </label>
      <button type="button" className="button" aria-label={before} onClick={() => onStep(-1)}>
        ‹
      </button>
      <input id={id} className="input" type={type} value={value} onChange={(e) => onChange(e.target.value)} />
      <button type="button" className="button" aria-label={after} onClick={() => onStep(1)}>
        ›
      </button>
    </div>
  );
}

/** Slots as time of one miner. */
export const slotTime = (slots: number, t: ContractMessages): string => {
  const { h, m } = slotHours(Math.abs(slots));
  return t.hm(h, m);
};
